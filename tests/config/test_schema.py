"""The JSON schemas of the configs, the tables of options in the docs, and the command that prints the schemas."""

import copy
import json
import os
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml
from helpers.bad_configs import DATASET, MODEL
from helpers.command_line import fails
from helpers.paths import ROOT
from helpers.wrong_settings import bad_settings

from fuxictr_me.commands.main import main
from fuxictr_me.config.json_schema import SCHEMAS
from fuxictr_me.io.resources import copy_zoo_config, find_bundled_folder, find_zoo_configs

CONFIGS = sorted([*ROOT.glob("model_zoo/*/config/*.yaml"), *ROOT.glob("dataset_configs/*/dataset_config.yaml")])
FIRST_LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


@pytest.fixture(scope="module")
def validators():
    """A validator for each of the two config files, made from the files that come with the package."""
    folder = find_bundled_folder("model_zoo") / "schema"
    schemas = {name: json.loads((folder / f"{name}.json").read_text()) for name in SCHEMAS}
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return {name: jsonschema.Draft202012Validator(schema) for name, schema in schemas.items()}


def test_tables_and_schemas_are_up_to_date():
    files = runpy.run_path(str(ROOT / "docs" / "write_option_tables.py"))["make_files"]()
    outdated = [str(path) for path, content in files.items() if path.read_text(encoding="utf-8") != content]
    assert not outdated, "run `make tables`"
    assert sum(content.count("<!-- end of options -->") for content in files.values()) == 7 + len(find_zoo_configs())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_bundled_config_names_its_schema_and_validates(validators, path):
    schema = path.parent / FIRST_LINE.match(path.read_text())[1]
    assert schema.resolve() == ROOT / "model_zoo" / "schema" / f"{path.stem}.json" and schema.is_file()
    validators[path.stem].validate(yaml.safe_load(path.read_text()))


def test_a_copied_config_names_a_schema_that_exists(tmp_path):
    copy_zoo_config(find_zoo_configs()["DNN_ME"], tmp_path / "a" / "b")
    for path in (tmp_path / "a" / "b").glob("*.yaml"):
        assert (
            Path(FIRST_LINE.match(path.read_text())[1])
            == find_bundled_folder("model_zoo") / "schema" / f"{path.stem}.json"
        )


@pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")
def test_configs_of_fuxictrs_model_zoo_validate(validators):
    paths = sorted(Path(os.environ["FUXICTR_SRC"]).glob("model_zoo/**/config/model_config.yaml"))
    assert len(paths) > 30
    for path in paths:
        validators["model_config"].validate(yaml.safe_load(path.read_text()))


MODEL_ERRORS = [
    {"num_set": 2},
    {"num_stes": 2},
    {"learning_rte": 0.1},
    {"embeding_dim": 4},
    {"hidden_units": [4]},  # DCNv2_ME has none
    {"attention_dim": 4},  # of a model of FuxiCTR's
    {"num_sets": 0},
    {"num_sets": "2"},
    {"num_sets": 2000},
    {"embedding_dim": []},
    {"embedding_dim": [4, 0]},
    {"net_dropout": 1},
    {"batch_norm": "False"},
    {"aggregation": "avg"},
    {"monitor_mode": "up"},
    {"metrics": ["auc"]},
    {"metrics": "AUC"},
    {"loss": "bce_loss"},
    {"task": "classification"},
    {"embedding_regularizer": "l3(1)"},
    {"embedding_initializer": "print(1)"},
    {"seed": -1},
    {"epochs": 1.5},
    {"callbacks": ["InformationAbundanc"]},
    {"callbacks": [{"InformationAbundance": {"tensorbord": True}}]},
    {"cuda_graph": "yes"},
    {"compile": 1},
]


@pytest.mark.parametrize("change", MODEL_ERRORS, ids=str)
def test_a_wrong_model_config_does_not_validate(validators, change):
    validators["model_config"].validate({"x": MODEL})
    assert not validators["model_config"].is_valid({"x": {**MODEL, **change}})


def test_keys_of_models_from_other_packages_are_allowed_but_near_misses_are_not(validators):
    foreign = {"model": "DIN", "dataset_id": "shop", "attention_dim": 4, "mlp_hidden_units": [4], "num_sets": 2}
    validators["model_config"].validate({"x": foreign, "Base": {"num_sets": 2, "gamma": 1}})
    for typo in ("num_set", "numsets", "batch_sizes", "shufle", "mointor", "task_set"):
        assert not validators["model_config"].is_valid({"x": {**foreign, typo: 1}}), typo
        assert not validators["model_config"].is_valid({"Base": {typo: 1}}), typo


DATASET_ERRORS = [
    ("dataset", "data_format", "csw"),
    ("dataset", "train_data", ""),
    ("dataset", "train_data", 5),
    ("dataset", "min_categr_cnt", 2),
    ("dataset", "min_categr_count", 0),
    ("dataset", "sep", "ab"),
    ("dataset", "dataset_id", "shop"),
    ("dataset", "valid_size", 1.5),
    ("dataset", "label_col", {"name": "click"}),
    ("dataset", "label_col", {"name": "click", "dtype": "str"}),
    ("dataset", "use_features", ["user", "user"]),
    ("dataset", "feature_specs", [{"name": "user", "nope": 1}]),
    ("dataset", "epochs", 0),
    ("user", "type", "categoric"),
    ("user", "dtype", "text"),
    ("user", "active", "yes"),
    ("user", "max_len", 3),  # of a sequence
    ("user", "category_processor", "quantile_bucket"),
    ("price", "normaliser", "StandardScaler"),
    ("price", "normalizer", "Standard"),
    ("price", "min_categr_count", 2),
    ("history", "max_len", 0),
    ("history", "padding", "left"),
    ("history", "preprocess", "load_pickle(x)"),
]


@pytest.mark.parametrize(("where", "key", "value"), DATASET_ERRORS)
def test_a_wrong_dataset_config_does_not_validate(validators, where, key, value):
    validators["dataset_config"].validate({"shop": DATASET})
    entry = copy.deepcopy(DATASET)
    columns = {column["name"]: column for column in entry["feature_cols"]}
    (entry if where == "dataset" else columns[where])[key] = value
    assert not validators["dataset_config"].is_valid({"shop": entry})


def test_the_schemas_refuse_nine_of_ten_wrong_settings(validators):
    """``test_bad_configs`` shows that commands refuse all of them. The others need files, or FuxiCTR and torch."""
    refused = []
    for where, key, value, _ in bad_settings():
        columns = [dict(column) for column in DATASET["feature_cols"]]
        dataset, model = {**DATASET, "feature_cols": columns}, dict(MODEL)
        place = {"dataset": dataset, "model": model} | {column["name"]: column for column in columns}
        place[where][key] = value
        name, config = ("model_config", model) if where == "model" else ("dataset_config", dataset)
        refused.append(not validators[name].is_valid({"shop": config}))
    assert sum(refused) > 0.9 * len(refused)


def test_the_command_prints_and_writes_the_schemas(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "dataset_config"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == SCHEMAS["dataset_config"]()
    for _ in range(2):  # the second time it replaces them
        assert main(["schema", "--out", "a/schema"]) == 0
        assert capsys.readouterr().out == "a/schema/model_config.json\na/schema/dataset_config.json\n"
    assert Path("a/schema/dataset_config.json").read_text() == printed
    assert main(["schema", "model_config", "--out", "b"]) == 0 and os.listdir("b") == ["model_config.json"]
    assert "model_config, dataset_config" in fails(capsys, "schema")
    Path("file").touch()
    assert "--out file is a file, not a folder" in fails(capsys, "schema", "--out", "file")
