"""Configs and command lines of a hostile tester that once got past the checks: each ends in one line."""

import json
import os
import sys
from pathlib import Path

import fuxictr.utils
import pytest
import torch
import yaml
from fuxictr.features import FeatureMap
from helpers.bad_configs import MODEL, error_of, folder, write  # noqa: F401
from helpers.fuxictr_checkout import checkout  # noqa: F401

from fuxictr_me.compat import dataloaders, fuxictr_models
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checkpoints import load_state_dict

RUN = ["run_expid", "--config", "config", "--expid", "x"]
BUILD = ["data", "build", "shop", "--config", "config"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epochs", 0, "epochs must be an integer of 1 or more, got 0"),
        ("learning_rate", "1e-3", "learning_rate must be a number"),
        ("metrics", ["auc"], "did you mean 'AUC'?"),
        ("monitor", "auc", "did you mean 'AUC'?"),
        ("group_id", "usr", "did you mean 'user'?"),
        ("task", "x", "unknown task 'x'"),
    ],
)
def test_data_build_checks_settings_of_runs_in_the_entry_of_a_data_set(folder, capsys, key, value, words):
    write("dataset", key, value)
    code, line = error_of(BUILD, capsys)
    assert code == 2 and words in line and not Path("data").exists()


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        (["InformationAbundance"] * 2, "names InformationAbundance twice"),
        ([{"InformationAbundance": []}], "arguments must be {argument: value}, got []"),
        ([{"InformationAbundance": {5: 1}}], "arguments must be {argument: value}, got {5: 1}"),
    ],
)
def test_callbacks_that_cannot_be(folder, capsys, callbacks, words):
    write("model", "callbacks", callbacks)
    code, line = error_of(RUN, capsys)
    assert code == 2 and words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run_expid", "--expid", "DCNv2_ME_test", "--config", ""], "config: must not be empty"),
        ([*BUILD, "--out", ""], "out: must not be empty"),
        (["analyze", *RUN[1:], "--compare", ""], "compare: must not be empty"),
        (["run_expid", "--expid", "x", "--config", "a" * 5000], "File name too long"),
    ],
)
def test_paths_that_cannot_be(folder, capsys, arguments, words):
    write("model", "seed", 1)
    code, line = error_of(arguments, capsys)
    assert code == 2 and words in line


@pytest.mark.parametrize("text", ["x: {shuffle: !!bool foo}", "x: {seed: !!int [1]}", "x: {a: !!timestamp foo}"])
def test_a_tag_on_a_value_that_it_cannot_have(folder, capsys, text):
    write("model", "seed", 1)
    Path("config/model_config.yaml").write_text(text)
    code, line = error_of(RUN, capsys)
    assert code == 2 and "config/model_config.yaml is not valid YAML" in line


def test_a_penalty_that_diverges_says_so(folder, capsys):
    write("model", "singular_value_regularizer", 1e300)
    code, line = error_of(RUN, capsys)
    assert code == 1 and "singular_value_regularizer 1e+300: the embeddings are not finite" in line


EVIL = "(open('PWNED', 'w'), layers.MaskedAveragePooling())[1]"


def host_state():
    """What the host replaces while a script runs."""
    return (
        fuxictr.utils.load_config,
        FeatureMap.load,
        dataloaders.RankDataLoader,
        fuxictr_models.BaseModel,
        fuxictr_models.MultiTaskModel,
        list(sys.path),
        list(sys.meta_path),
        list(sys.argv),
        os.getcwd(),
    )


@pytest.mark.parametrize("where", ["feature map", "feature_specs", "preprocess", "initializer", "metrics"])
def test_scripts_of_fuxictr_evaluate_no_code_of_a_config_or_a_data_folder(checkout, capsys, monkeypatch, where):
    monkeypatch.chdir(checkout)
    path = Path("data/made/feature_map.json" if where == "feature map" else "config/model_config.yaml")
    content = yaml.safe_load(path.read_text())
    if where == "feature map":
        next(iter(content["features"][0].values()))["feature_encoder"] = EVIL
    else:
        content["Base"] |= {
            "feature_specs": {"feature_specs": [{"name": "user", "feature_encoder": EVIL}]},
            "preprocess": {"feature_cols": [{"name": "user", "preprocess": "load_pickle(evil.pkl)"}]},
            "initializer": {"embedding_initializer": EVIL},
            "metrics": {"metrics": ["NDCG(k=open('PWNED','w'))"]},
        }[where]
    path.write_text(json.dumps(content))
    before = host_state()
    arguments = ["host", "experiment/run_expid.py", "--config", "../config", "--expid", "theirs"]
    code, line = error_of(arguments, capsys)
    assert code == 2 and line and not list(checkout.rglob("PWNED"))
    assert host_state() == before


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"settings": {"callbacks": ["nope"]}}, "unknown callback 'nope'"),
        ({"settings": {"callbacks": ["os.system"]}}, "not a subclass of fuxictr_me.Callback"),
        ({"settings": {"use_features": ["usr"]}}, "unknown field in use_features 'usr'"),
        ({"settings": {"group_id": "usr"}}, "did you mean 'user'?"),
        ({"settings": {"feature_specs": 5}}, "feature_specs must be a list"),
        ({"settings": {"n_rows": 5}}, "sets n_rows, which belongs to the data set"),
        ({"kinds": ["SE", {"few": {"n_rows": 5}}]}, "sets n_rows, which belongs to the data set"),
        ({"kinds": ["SE", {"other": {"group_id": "user"}}]}, "group_id must be equal for all kinds"),
    ],
)
def test_a_study_checks_every_cell_before_its_first_run(folder, capsys, part, words):
    write("model", "seed", 1)
    entry = {key: value for key, value in MODEL.items() if key not in ("dataset_id", "num_sets", "seed")}
    Path("config/model_config.yaml").write_text(yaml.safe_dump({"DCNv2_ME_default": entry}))
    study = {"config": "config", "dataset_id": "shop", "models": ["DCNv2_ME"], "scales": [1, 2], "seeds": [1], **part}
    Path("s.yaml").write_text(yaml.safe_dump(study))
    code, line = error_of(["study", "s.yaml"], capsys)
    assert code == 2 and words in line and not Path("s").exists() and not Path("data").exists()


def test_the_folder_of_a_study_is_no_file(folder, capsys):
    code, line = error_of(["study", "status", "rows.csv"], capsys)
    assert code == 2 and "rows.csv is a file, not the folder of a study" in line


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
    ],
    ids=["meta", "sparse", "complex"],
)
def test_tensors_that_are_no_weights(tmp_path, tensor):
    torch.save({"w": tensor}, tmp_path / "x.model")
    with pytest.raises(UsageError, match=r"x\.model is not a checkpoint of weights"):
        load_state_dict(tmp_path / "x.model")
