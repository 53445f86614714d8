"""Raw files: finding and reading them, and errors."""

import gzip
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from helpers.small_sets import SPLITS, build, ids_of

from fuxictr_me import UsageError
from fuxictr_me.config import check_dataset
from fuxictr_me.data.building.processor import PreparingProcessor
from fuxictr_me.data.raw.find_files import raw_files
from fuxictr_me.errors import missing

BOM = "\ufeff"


def rewritten(params, ending, change, folder="again", **more):
    """Copy the raw files of ``params`` with another ending and changed bytes; return the settings."""
    raw = Path(params["train_data"]).parent
    target = raw.parent / folder
    target.mkdir(parents=True)
    for split in SPLITS:
        (target / f"{split}{ending}").write_bytes(change((raw / f"{split}.csv").read_bytes()))
    paths = {f"{split}_data": str(target / f"{split}{ending}") for split in SPLITS}
    return {**params, **paths, "data_root": str(raw.parent / "again_data"), **more}


def with_tabs(content):
    return content.replace(b",", b"\t")


@pytest.mark.parametrize(
    ("ending", "change", "more"),
    [
        (".tsv", with_tabs, {}),
        (".tsv", with_tabs, {"sep": "\t"}),
        (".tsv", bytes, {"sep": ","}),
        (".txt", bytes, {}),
        (".txt", with_tabs, {"sep": "\t"}),
        (".CSV", bytes, {}),
        (".csv.gz", gzip.compress, {}),
        (".TSV.gz", lambda content: gzip.compress(with_tabs(content)), {}),
        (".csv", lambda content: BOM.encode() + content, {}),
        (".csv", lambda content: content.replace(b"\n", b"\r\n"), {}),
    ],
)
def test_ids_do_not_depend_on_the_format_of_raw_files(small, ending, change, more):
    params, expected = small
    assert ids_of(rewritten(params, ending, change, **more)) == expected


@pytest.mark.parametrize(
    "path", ["a.csv", "a.tsv", "a.txt", "a.CSV", "a.csv.gz", "folder", "a.t*", "a.parquet", "mixed"]
)
def test_columns_that_csv_cannot_hold_are_refused_for_every_csv_ending(tmp_path, path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "mixed").mkdir()
    for name in ("folder/part.tsv", "mixed/part.parquet", "mixed/notes.txt", path.replace("*", "sv")):
        if not (tmp_path / name).exists():
            (tmp_path / name).touch()
    paths = dict.fromkeys(("train_data", "valid_data"), str(tmp_path / path))
    column = {"name": "x", "active": True, "dtype": "str", "type": "sequence", "fill_na": None}
    params = {"dataset_id": "d", "data_root": "data", "data_format": "h5", "rebuild_dataset": True, **paths}
    params |= {"label_col": {"name": "y", "dtype": "float"}, "feature_cols": [column]}
    if path in ("a.parquet", "mixed"):
        check_dataset(params)
    else:
        with pytest.raises(UsageError, match="fill_na of column 'x' must be text"):
            check_dataset(params)


@pytest.mark.parametrize("folder", ["raw[2024]", "a*b", "what?", "{x}"])
def test_an_existing_path_is_not_a_pattern(small, folder):
    params, expected = small
    assert ids_of(rewritten(params, ".csv", bytes, folder)) == expected
    assert raw_files(Path(params["train_data"]).parent.parent / folder)[0].parent.name == folder


def test_a_file_name_may_contain_brackets(tmp_path):
    path = tmp_path / "train[1].csv"
    path.write_text("a\n1\n")
    (tmp_path / "train1.csv").write_text("a\n2\n")
    assert raw_files(path) == [path] and read([path], a="int").collect()["a"].to_list() == [1]


def test_parts_are_joined_by_the_names_of_their_columns(small):
    params, expected = small
    for split in SPLITS:
        frame = pd.read_csv(params[f"{split}_data"], dtype=str)
        folder = Path(params[f"{split}_data"]).with_suffix("")
        folder.mkdir()
        frame[:15].to_csv(folder / "part1.csv", index=False)
        frame[15:][["label", "price", "item"]].to_csv(folder / "part2.csv", index=False)
        (folder / ".part3.csv.crc").write_text("hidden")
        (folder / "README.txt").write_text("notes")
        params[f"{split}_data"] = str(folder)
    assert ids_of({**params, "dataset_id": "parts"}) == expected


def read(files, **dtypes):
    """Return the rows of files with columns of these dtypes."""
    columns = [{"name": name, "active": True, "dtype": dtype, "type": "categorical"} for name, dtype in dtypes.items()]
    return PreparingProcessor(columns, [], dataset_id="made", data_root="").read_files(files)


def parts(folder, first, second, kind="csv"):
    for name, frame in (("a", first), ("b", second)):
        getattr(pl.DataFrame(frame), f"write_{kind}")(folder / f"{name}.{kind}")
    return raw_files(folder)


def test_errors_name_columns_that_differ_between_files(tmp_path):
    with pytest.raises(UsageError, match=r"unknown column \(of feature_cols or label_col, in .*b.csv\) 'y'"):
        read(parts(tmp_path, {"x": [1], "y": [2]}, {"x": [1]}), x="int", y="int")
    for kind in ("csv", "parquet"):  # columns that are not in the config may differ, and lie elsewhere
        (folder := tmp_path / kind).mkdir()
        unlisted = read(
            parts(folder, {"x": [1], "n": [1]}, {"m": [[1]] if kind == "parquet" else [1], "x": [2]}, kind), x="int"
        )
        assert unlisted.collect().to_dict(as_series=False) == {"x": [1, 2]}
        again = read(parts(folder, {"x": [1], "n": [1]}, {"n": ["b"], "x": ["2"]}, kind), x="int")
        assert again.collect()["x"].to_list() == [1, 2]


def test_errors_list_the_endings_that_are_read(tmp_path):
    for name in ("train.xls", "train"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match=rf"{name} is not read: the endings that are read are \.csv, \.tsv"):
            raw_files(tmp_path / name)
    with pytest.raises(UsageError, match=r"no csv or parquet data at .*: the endings .*; there: train, train.xls"):
        raw_files(tmp_path)
    for name in ("a.csv", "a.csv.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds \.csv and \.csv\.gz files; a split is files of one ending"):
        raw_files(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UsageError, match=r"empty.csv is empty"):
        read([tmp_path / "empty.csv"])
    (tmp_path / "plain.csv.gz").write_text("x\n1\n")
    with pytest.raises(UsageError, match=r"plain.csv.gz cannot be read: Not a gzipped file"):
        read([tmp_path / "plain.csv.gz"], x="int")
    with pytest.raises(UsageError, match=r"no csv or parquet data at .*/b.csv; did you mean .*/a.csv\?"):
        raw_files(tmp_path / "b.csv")


def test_a_suggested_path_differs_from_the_given_one(tmp_path):
    (tmp_path / "train.tsv").touch()
    assert "did you mean" not in str(missing("data", tmp_path / "train.tsv"))
    (tmp_path / "train2.tsv").touch()
    assert str(missing("data", tmp_path / "train.tsv")).endswith("did you mean " + str(tmp_path / "train2.tsv?"))


def test_raw_files_must_match_data_format(small):
    params, _ = small
    with pytest.raises(UsageError, match=r"data_format is parquet, but train_data is csv: .*train.csv"):
        build({**params, "data_format": "parquet", "dataset_id": "other"})
    with pytest.raises(UsageError, match=r"data_format npz is of built ids; raw data are csv or parquet"):
        build({**params, "data_format": "npz", "dataset_id": "other"})
