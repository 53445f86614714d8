"""Vocabulary files and pretrained vectors."""

import json

import h5py
import numpy as np
import polars as pl
import pytest
from helpers.feature_maps import categorical, make_feature_map
from helpers.raw_builds import USER, build

from fuxictr_me import MultiEmbedding, UsageError
from fuxictr_me.config.pretrained import check_keys, read_pretrained
from fuxictr_me.data.building.vocabulary_file import write_vocabularies


def test_vocabulary_files_equal_those_of_json(tmp_path):
    vocabularies = {
        "a": {'é"\\\n': 2, "x": 1},
        "ü": {7: 1, -3: 2, 2**60: 3},
        "f": {0.5: 1, 1e16: 3, 35.0: 2, "__PAD__": 0},
    }
    write_vocabularies(tmp_path / "v.json", vocabularies.items())
    in_order = {name: dict(sorted(ids.items(), key=lambda item: item[1])) for name, ids in vocabularies.items()}
    assert (tmp_path / "v.json").read_text() == json.dumps(in_order, indent=4)
    write_vocabularies(tmp_path / "n.json", [("a", {np.int64(5): 1, np.str_("x"): 2, np.float64(0.5): 3})])
    assert json.loads((tmp_path / "n.json").read_text()) == {"a": {"5": 1, "x": 2, "0.5": 3}}


def write_pretrained(path, key, value):
    if path.suffix == ".npz":
        np.savez(path, key=key, value=value)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["key"] = key.astype("S") if key.dtype.kind == "U" else key
            file["value"] = value
    else:
        vectors = pl.Series(value.tolist(), dtype=pl.Array(pl.Float32, value.shape[1]))
        pl.DataFrame({"key": key, "value": vectors}).write_parquet(path)
    return path


@pytest.mark.parametrize("kind", [".npz", ".h5", ".parquet"])
def test_pretrained_vectors_are_read_and_checked(tmp_path, kind):
    path = write_pretrained(tmp_path / f"v{kind}", np.array(["a", "b"]), np.ones((2, 3), np.float32))
    keys, values = read_pretrained(path)
    assert check_keys(keys, "user", "str", path) == ["a", "b"] and values.shape == (2, 3)
    column = USER | {"pretrained_emb": str(path), "pretrain_dim": 3}
    build(tmp_path, "user,click\na,0\nc,1\n", [column])
    for change, message in (
        ({"pretrain_dim": 7}, r"of field 'user' has 3 columns, but pretrain_dim .* is 7"),
        ({"pretrain_dim": None, "embedding_dim": 4}, r"has 3 columns, but pretrain_dim .* is 4"),
        ({"dtype": "int"}, "are not of the field's dtype: int"),
    ):
        with pytest.raises(UsageError, match=message):
            build(tmp_path, "user,click\n1,0\n2,1\n", [column | change])
    with pytest.raises(UsageError, match="none of its 2 keys is a value of field 'user'"):
        build(tmp_path, "user,click\nx,0\ny,1\n", [column])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"junk" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=rf"pretrained_emb .*v\{kind} cannot be read"):
            read_pretrained(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"key": np.array(["a"])}, "must hold 'key' and 'value'"),
        (
            {"key": np.array(["a", "b"]), "value": np.ones((3, 2))},
            r"one vector per key.* found key \(2,\) and value \(3, 2\)",
        ),
        ({"key": np.array(["a"]), "value": np.ones(1)}, "one vector per key"),
        ({"key": np.array(["a"]), "value": np.array([[np.nan]])}, "1 of 1 vectors hold NaN"),
        ({"key": np.array(["a"]), "value": np.array([["x"]])}, "value holds <U1, not numbers"),
        ({"key": np.array(["a"], object), "value": np.ones((1, 1))}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_pretrained_files_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_pretrained(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("keys", "dtype", "message"),
    [
        (["a", "b", "a"], "str", "1 keys occur more than once, such as 'a'"),
        (["007", "8"], "int", "key '007' would be '7' as dtype: int"),
        ([35, 36], "float", "key '35' would be '35.0' as dtype: float"),
        ([1.5, 2.0], "int", "key '1.5' would be '1' as dtype: int"),
    ],
)
def test_pretrained_keys_that_match_no_token_are_refused(keys, dtype, message):
    with pytest.raises(UsageError, match=message):
        check_keys(np.array(keys), "user", dtype, "v.npz")


def test_the_width_of_built_pretrained_vectors_is_checked(tmp_path):
    write_pretrained(tmp_path / "v.npz", np.array(["a"]), np.ones((1, 3), np.float32))
    spec = categorical(3) | {"pretrained_emb": "v.npz", "oov_idx": 2, "freeze_emb": True, "pretrain_usage": "init"}
    feature_map = make_feature_map({"user": spec, "item": categorical(3)}, tmp_path)
    with pytest.raises(
        UsageError, match=r"of field 'user' has 3 columns, but pretrain_dim \(embedding_dim if not set\) is 4"
    ):
        MultiEmbedding(feature_map, 4, num_sets=2)
    assert MultiEmbedding(feature_map, 4, 1, required_feature_columns=["item"]).output_dims == [4]
