"""The bundled configs of public data sets agree with their published files and READMEs."""

import json
import re

import pandas as pd
import pytest
import yaml
from helpers.paths import ROOT
from helpers.sample_files import SAMPLES, write_sample

CONFIGS = ROOT / "dataset_configs"
# The paper's settings read the files of BARS' x4 sets, whose READMEs list the md5.
SAME_FILES = {"criteo_paper": "criteo_x4", "avazu_paper": "avazu_x4"}
ENTRIES = {name: [name] for name in SAMPLES} | {
    "criteo_x4": ["criteo_x4_001", "criteo_x4_002"],
    "avazu_x4": ["avazu_x4_001", "avazu_x4_002"],
}
MADE = {"avazu_x4": {"weekday", "weekend"}, "kuaivideo_x1": {"group_id"}}  # by `preprocess`, from another column
UNUSED = {"avazu_paper": {"id"}, "kuaivideo_x1": {"timestamp", "is_like", "is_follow"}}


def load(dataset):
    return yaml.safe_load((CONFIGS / dataset / "dataset_config.yaml").read_text())


def columns_of(entry):
    """Yield every column of a config entry with its settings."""
    for column in [*entry["feature_cols"], entry["label_col"]]:
        names = column["name"] if isinstance(column["name"], list) else [column["name"]]
        yield from ((name, column) for name in names)


def read_sample(folder):
    return {split: pd.read_csv(folder / f"{split}.csv", dtype=str) for split in ("train", "valid", "test")}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_every_config_parses(path):
    for entry in yaml.safe_load(path.read_text()).values():
        assert {"data_format", "train_data", "valid_data", "test_data", "feature_cols", "label_col"} <= set(entry)
        names = [name for name, _ in columns_of(entry)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("dataset", SAMPLES)
def test_settings_use_the_published_files_and_known_keys(dataset):
    config = load(dataset)
    assert list(config) == ENTRIES[dataset]
    files = json.loads((CONFIGS / dataset / "files.json").read_text())
    known = {"name", "active", "dtype", "type", "fill_na", "preprocess", "remap", "splitter", "max_len", "padding"}
    for entry in config.values():
        read = {entry[f"{split}_data"] for split in ("train", "valid", "test")}
        assert read == {f"./data/{files['folder']}/{name}" for name in files["files"]}
        assert isinstance(entry["min_categr_count"], int)
        for _, column in columns_of(entry):
            assert column["dtype"] in ("str", "int", "float")
            assert set(column) <= known | {"share_embedding"}
            if column.get("type") == "sequence":
                assert {"splitter", "max_len", "padding"} <= set(column)


@pytest.mark.parametrize("dataset", SAMPLES)
def test_columns_exist_in_the_data(dataset, tmp_path):
    splits = read_sample(write_sample(dataset, tmp_path))
    header = list(splits["train"])
    assert all(list(split) == header for split in splits.values())
    for entry in load(dataset).values():
        columns = dict(columns_of(entry))
        assert entry["label_col"]["name"] in header
        made = set(columns) - set(header)
        assert made == MADE.get(dataset, set())
        assert all("preprocess" in columns[name] for name in made)
        assert set(header) - set(columns) == UNUSED.get(dataset, set())


@pytest.mark.parametrize("dataset", SAMPLES)
def test_samples_are_reproducible_and_have_unseen_values(dataset, tmp_path):
    splits = read_sample(write_sample(dataset, tmp_path / "a"))
    assert [len(split) for split in splits.values()] == [300, 100, 100]
    label = {"criteo_x4": "Label", "avazu_x4": "click", "kuaivideo_x1": "is_click"}
    label = label.get(SAME_FILES.get(dataset, dataset), "label")
    for name, split in splits.items():
        assert set(split[label]) == {"0", "1"}
        if name != "train":
            fields = [c for c in split if c not in (label, "id", "timestamp")]
            assert any(set(split[c].dropna()) - set(splits["train"][c].dropna()) for c in fields)
    write_sample(dataset, tmp_path / "b")
    write_sample(dataset, tmp_path / "c", seed=1)
    first, again, other = ((tmp_path / folder / "train.csv").read_bytes() for folder in "abc")
    assert first == again != other


def test_samples_have_values_like_the_real_data(tmp_path):
    criteo = read_sample(write_sample("criteo_x4", tmp_path / "criteo"))["train"]
    assert criteo["I12"].isna().any() and criteo["C22"].isna().any() and criteo["I2"].notna().all()
    assert (criteo["I2"].astype(int) < 0).any()
    assert criteo["C1"].str.fullmatch("[0-9a-f]{8}").all()
    avazu = read_sample(write_sample("avazu_x4", tmp_path / "avazu"))["train"]
    assert avazu["hour"].str.fullmatch("1410(2[1-9]|30)([01][0-9]|2[0-3])").all()
    kuaivideo = read_sample(write_sample("kuaivideo_x1", tmp_path / "kuaivideo"))["train"]
    assert kuaivideo["pos_items"].isna().any()
    assert kuaivideo["pos_items"].dropna().str.split("^", regex=False).str.len().max() == 100
    assert (write_sample("frappe_x1", tmp_path / "frappe") / "test.csv").read_bytes().count(b"\r\n") == 101


@pytest.mark.parametrize("dataset", SAMPLES)
def test_checksums_and_rows_agree_with_the_readme(dataset):
    files = json.loads((CONFIGS / dataset / "files.json").read_text())
    assert set(files) == {"source", "folder", "files"}
    readme = (CONFIGS / SAME_FILES.get(dataset, dataset) / "README.md").read_text()
    assert files["source"] in readme and f"./data/{files['folder']}/" in readme
    assert {"train.csv", "test.csv"} <= set(files["files"]) <= {"train.csv", "valid.csv", "test.csv"}
    for published in files["files"].values():
        assert set(published) == {"md5", "rows"}
        assert published["md5"] is None or re.fullmatch("[0-9a-f]{32}", published["md5"])
        assert published["rows"] is None or type(published["rows"]) is int
        assert published["md5"] is None or published["md5"] in readme
        assert published["rows"] is None or f"{published['rows']:,}" in readme
    if dataset in SAME_FILES:
        assert files == json.loads((CONFIGS / SAME_FILES[dataset] / "files.json").read_text())
        assert (CONFIGS / dataset / "README.md").is_file()
