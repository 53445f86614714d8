"""Finding experiments and data sets, names of files and fields, and what commands do with an entry."""

from pathlib import Path

import pytest
import torch
import yaml
from fuxictr.utils import load_config
from helpers.bad_configs import DATASET, MODEL, folder, write  # noqa: F401

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.config import bundled_datasets, check_dataset, find_dataset, lookup, read_entries, read_params
from fuxictr_me.config.names import check_field_name, check_plain_name
from fuxictr_me.config.yaml_files import parse_yaml
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs
from fuxictr_me.runs.run_settings import load_settings


def test_settings_are_merged_as_fuxictr_merges_them(tmp_path):
    """For the bundled model zoo, and for files in a folder, each of which may have a ``Base``."""
    for zoo_config in [*find_zoo_configs().values()][:2]:
        entries = read_entries(zoo_config, "model_config")
        ready = [expid for expid, entry in entries.items() if expid != "Base" and entry.get("dataset_id") != "TBD"]
        for expid in ready[:: len(ready) // 3]:
            assert read_params(zoo_config, expid) == load_config(str(zoo_config), expid)
    files = {"a": {"Base": {"seed": 1}, "x": {"dataset_id": "d"}}, "b": {"Base": {"seed": 2}, "y": {"dataset_id": "d"}}}
    (tmp_path / "model_config").mkdir()
    for name, content in files.items():
        (tmp_path / "model_config" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    data = {"data_root": "d", "data_format": "h5", "train_data": "t", "valid_data": "v"}
    (tmp_path / "dataset_config.yaml").write_text(yaml.safe_dump({"d": data}))
    for expid, seed in (("x", 1), ("y", 2)):
        assert read_params(tmp_path, expid)["seed"] == seed
    (tmp_path / "model_config" / "c.yaml").write_text(yaml.safe_dump({"z": {"dataset_id": "d"}}))
    with pytest.raises(UsageError, match=r"z has no Base in its own file, and .*a.yaml and .*b.yaml each have one"):
        read_params(tmp_path, "z")
    (tmp_path / "model_config" / "c.yaml").write_text(yaml.safe_dump({"x": {"dataset_id": "d"}}))
    with pytest.raises(UsageError, match=r"x is in .*a.yaml and in .*c.yaml"):
        read_params(tmp_path, "x")


def test_a_config_folder_may_have_glob_characters(folder):
    write("model", "seed", 1)
    Path("config").rename("a[b]*")
    assert load_settings("a[b]*", "x")["seed"] == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".x", " x", "x\n", "x\0", "a*", "a?", "[a]", "é" * 100, 5, None]
)
def test_names_that_are_not_plain_file_names_are_refused(name):
    with pytest.raises(UsageError, match="expid must be a plain name"):
        check_plain_name("expid", name)


def test_plain_file_names_are_accepted():
    for name in ("x", "DCNv2_ME_001_ab12", "été 2024", "a.b", "a-b", "a,b", "x" * 150):
        assert check_plain_name("expid", name) == name


def test_field_names_are_refused_exactly_if_torch_cannot_hold_them():
    """Compared with a ``ModuleDict`` that is given a layer of each name, including the names of all its attributes."""
    for name in {*dir(torch.nn.ModuleDict()), "user", "user id", "été", "a.b", "0"}:
        layers = torch.nn.ModuleDict()
        try:
            layers[name] = torch.nn.Identity()
        except KeyError:
            with pytest.raises(UsageError, match="cannot be named"):
                check_field_name(name)
        else:
            check_field_name(name)


@pytest.mark.parametrize("dataset_id", bundled_datasets())
def test_every_bundled_data_set_is_found_and_passes_the_checks(dataset_id, monkeypatch):
    entry, place = find_dataset(dataset_id)
    params = {**entry, "dataset_id": dataset_id}
    for split in ("train", "valid", "test"):  # the published files are not here
        params[f"{split}_data"] = str(find_bundled_folder("dataset_configs") / "tiny_flights" / "train.csv")
    check_dataset(params, place)
    assert all(column["active"] in (True, False) for column in params["feature_cols"])
    assert find_dataset(dataset_id, place.parent)[0] == entry


def test_data_sets_are_found_by_id(tmp_path):
    assert find_dataset("criteo_x4_001")[1].parent.name == "criteo_x4"
    with pytest.raises(
        UsageError, match="criteo_x4 comes in several settings: name one of criteo_x4_001, criteo_x4_002"
    ):
        find_dataset("criteo_x4")
    (tmp_path / "dataset_config.yaml").write_text("mine: {data_root: a, data_format: h5}\n")
    assert find_dataset("mine", tmp_path)[0] == find_dataset("mine", tmp_path / "dataset_config.yaml")[0]
    assert find_dataset("criteo_x1", tmp_path)[1].parent.name == "criteo_x1"
    with pytest.raises(UsageError, match=r"unknown dataset_id 'mime'; did you mean 'mine'\? \(known: mine\)"):
        find_dataset("mime", tmp_path)


def test_data_build_uses_the_data_root_of_the_config(folder):
    write("dataset", "data_root", "elsewhere")
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    assert Path("elsewhere/shop/train.h5").is_file() and not Path("data").exists()
    assert main(["data", "build", "shop", "--config", "config", "--out", "here"]) == 0
    assert Path("here/shop/train.h5").is_file()


def test_a_column_is_active_by_default(folder):
    write("user", "active", True)
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    content = yaml.safe_load(Path("config/dataset_config.yaml").read_text())
    del content["shop"]["feature_cols"][0]["active"]
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump(content))
    built = Path("data/shop/train.h5").stat().st_mtime_ns
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    assert Path("data/shop/train.h5").stat().st_mtime_ns == built  # the same settings: not built again


def test_the_metrics_of_monitor_are_added_to_metrics(folder):
    write("model", "metrics", ["AUC"])
    assert load_settings("config", "x")["metrics"] == ["AUC"]
    write("model", "monitor", {"AUC": 1, "logloss": -1})
    assert load_settings("config", "x")["metrics"] == ["AUC", "logloss"]
    write("model", "metrics", ["logloss"])
    assert load_settings("config", "x")["metrics"] == ["logloss", "AUC"]  # AUC is what is watched by default


def test_a_regression_needs_its_metrics_loss_and_monitor_mode(folder):
    entries = {"task": "regression", "loss": "mse_loss", "metrics": ["MSE", "MAE", "RMSE"], "monitor": "RMSE"}
    for changes, words in (
        ({"monitor_mode": "min"}, None),
        ({"monitor_mode": "max"}, "monitor RMSE needs monitor_mode: min, got max"),
        ({"monitor_mode": "min", "metrics": ["AUC"]}, "metric AUC does not fit task regression"),
        ({"monitor_mode": "min", "loss": "binary_crossentropy"}, "loss binary_crossentropy is for probabilities"),
        (
            {"monitor_mode": "min", "task": "binary_classification"},
            "metric MSE does not fit task binary_classification",
        ),
    ):
        write("model", "seed", 1)
        model = yaml.safe_load(Path("config/model_config.yaml").read_text())
        model["x"] |= entries | changes
        Path("config/model_config.yaml").write_text(yaml.safe_dump(model))
        if words is None:
            assert load_settings("config", "x")["metrics"] == ["MSE", "MAE", "RMSE"]
        else:
            with pytest.raises(UsageError, match=words):
                load_settings("config", "x")


def write_autotuner_copy(folder, name, inside):
    """Write an experiment of the data set ``name``, whose entry has a ``dataset_id`` itself."""
    (folder / "config").mkdir()
    entry = {**DATASET, "dataset_id": inside}
    (folder / "config/dataset_config.yaml").write_text(yaml.safe_dump({name: entry}))
    (folder / "config/model_config.yaml").write_text(yaml.safe_dump({"x": {**MODEL, "dataset_id": name}}))


@pytest.mark.parametrize("name", ["shop", "shop_0a1b2c3d"])
def test_an_entry_that_fuxictrs_autotuner_wrote_is_read_as_fuxictr_reads_it(folder, name):
    write_autotuner_copy(folder, name, "shop")
    assert read_params("config", "x")["dataset_id"] == load_config("config", "x")["dataset_id"] == "shop"


@pytest.mark.parametrize("inside", ["", "../shop", "sho", 5, "shop_0a1b2c3d_"])
def test_an_entry_with_another_data_sets_name_inside_is_refused(folder, inside):
    write_autotuner_copy(folder, "shop_0a1b2c3d", inside)
    with pytest.raises(UsageError, match="unknown key of data set 'shop_0a1b2c3d' 'dataset_id'"):
        read_params("config", "x")


def test_a_file_is_parsed_once_for_all_its_entries_and_again_after_a_change(tmp_path, monkeypatch):
    """A study checks hundreds of entries of one file; what a caller does with an entry must not reach the next one."""
    parsed = []

    def count(text, source):
        parsed.append(Path(source).name)
        return parse_yaml(text, source)

    monkeypatch.setattr(lookup, "parse_yaml", count)
    data = {"data_root": "d", "data_format": "h5", "train_data": "t", "valid_data": "v"}
    entries = {f"x{i}": {"dataset_id": "d", "hidden_units": [i]} for i in range(50)}
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump(entries))
    (tmp_path / "dataset_config.yaml").write_text(yaml.safe_dump({"d": data}))
    for i in range(50):
        params = read_params(tmp_path, f"x{i}")
        assert params["hidden_units"] == [i]
        params["hidden_units"].append("changed by the caller")
    assert read_params(tmp_path, "x0")["hidden_units"] == [0]
    assert parsed == ["model_config.yaml", "dataset_config.yaml"]

    read_entries(tmp_path, "model_config")["x0"]["hidden_units"].append("changed by the caller")
    (tmp_path / "model_config.yaml").write_text(yaml.safe_dump({"x0": {"dataset_id": "d", "hidden_units": [7]}}))
    assert read_params(tmp_path, "x0")["hidden_units"] == [7]
