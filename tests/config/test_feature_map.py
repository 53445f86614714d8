"""Feature maps from somebody else: no code in them runs, and damage is one line that names the file."""

import json
import random
from pathlib import Path

import pytest
from helpers.feature_maps import categorical, make_feature_map, sequence

from fuxictr_me import MultiEmbedding, UsageError
from fuxictr_me.config.expressions import check_feature_encoder, check_preprocess
from fuxictr_me.data import feature_maps


@pytest.mark.parametrize(
    "encoder",
    [
        "layers.MaskedAveragePooling()",
        ["layers.MaskedSumPooling()", "nn.Linear(4, 8, bias=False)"],
        "layers.KMaxPooling(1, dim=1)",
        None,
        "null",
    ],
)
def test_documented_feature_encoders_are_accepted(encoder):
    check_feature_encoder("feature_encoder", encoder)


def test_no_code_runs_from_a_feature_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = "(open('pwned', 'w').close(), layers.MaskedAveragePooling())[1]"
    feature_map = make_feature_map({"history": sequence(9, 3, feature_encoder=evil)}, tmp_path)
    with pytest.raises(UsageError, match="feature_encoder"):
        MultiEmbedding(feature_map, 2, 1)
    with pytest.raises(UsageError, match=r"feature_encoder of feature 'history' in .*feature_map.json must be like"):
        feature_maps.load(tmp_path)
    make_feature_map({"history": sequence(9, 3)}, tmp_path)
    with pytest.raises(UsageError, match="feature_encoder of 'history' in feature_specs must be like"):
        feature_maps.load(tmp_path, params={"feature_specs": [{"name": "history", "feature_encoder": evil}]})
    for text in ("load_pickle(x)", "__init__", "read_data(x)", "copy_from(a); x()"):
        with pytest.raises(UsageError, match="preprocess"):
            check_preprocess("preprocess", text)
    assert not Path("pwned").exists()


FEATURES = {"user": categorical(9, embedding_dim=4), "history": sequence(9, 3, share_embedding="user")}

WRONG = [None, True, -1, 0, 1.5, "x", "", [], {}, [1], 10**12, "print(1)", "../x"]


def test_a_wrong_feature_map_is_refused_in_one_line_that_names_the_file(tmp_path):
    make_feature_map(FEATURES, tmp_path)
    path = tmp_path / "feature_map.json"
    whole = path.read_text()
    for key in (*FEATURES["history"], "pretrained_emb", "pretrain_dim", "oov_idx", "embedding_dim", "emb_output_dim"):
        for value in WRONG:
            content = json.loads(whole)
            content["features"][1]["history"][key] = value
            path.write_text(json.dumps(content))
            try:
                features = feature_maps.load(tmp_path).features
            except UsageError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert features["history"][key] == value  # and a model can be made of it
                if (key, value) == ("feature_encoder", None):
                    continue  # in which a sequence needs one
                MultiEmbedding(
                    make_feature_map({"history": {**FEATURES["history"], key: value}, "user": FEATURES["user"]}), 4, 1
                )
    for content in (
        "[]",
        "5",
        '"x"',
        "{}",
        '{"features": 5}',
        '{"dataset_id": "x", "features": [5]}',
        "[" * 10**5,
        "9" * 5000,
        "\udcff",
    ):
        path.write_text(content, errors="surrogateescape")
        with pytest.raises(UsageError, match=r"feature_map\.json"):
            feature_maps.load(tmp_path)


def test_truncated_and_changed_feature_maps_are_refused_or_valid(tmp_path):
    make_feature_map(FEATURES, tmp_path)
    path, rng = tmp_path / "feature_map.json", random.Random(0)
    whole = path.read_bytes()
    for _ in range(300):
        at = rng.randrange(len(whole))
        path.write_bytes(rng.choice([whole[:at], whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]]))
        try:
            feature_maps.load(tmp_path)
        except UsageError as error:
            assert str(path) in str(error)
