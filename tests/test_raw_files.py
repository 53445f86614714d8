"""Raw files: which are found, how they are read, and what a user reads when they cannot be."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_data_folder import SPLITS, build, write_small

from fuxictr_me import UsageError
from fuxictr_me.config import check_dataset
from fuxictr_me.data import InMemoryLoader, feature_maps
from fuxictr_me.data.convert import convert_set
from fuxictr_me.data.processor import PreparingProcessor
from fuxictr_me.data.raw_files import raw_files
from fuxictr_me.errors import missing

BOM = "\ufeff"


def ids_of(params):
    """Split -> the ids of a build as parquet, column by column."""
    built = build({**params, "data_format": "csv"})
    return {split: pd.read_parquet(built[f"{split}_data"]).to_dict("list") for split in SPLITS}


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, ids_of(write_small(folder))


@pytest.fixture
def small(tmp_path, built_once):
    """The settings of a small set in the test's folder, and its ids; raw and built files are there."""
    folder, ids = built_once
    shutil.copytree(folder / "data", tmp_path / "data")
    return write_small(tmp_path), ids


def rewritten(params, ending, change, folder="again", **more):
    """The settings of a set whose raw files are those of ``params`` with another ending and changed bytes."""
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
def test_every_ending_gives_the_ids_of_the_csv(small, ending, change, more):
    params, expected = small
    assert ids_of(rewritten(params, ending, change, **more)) == expected


@pytest.mark.parametrize(
    "place", ["a.csv", "a.tsv", "a.txt", "a.CSV", "a.csv.gz", "folder", "a.t*", "a.parquet", "mixed"]
)
def test_columns_that_csv_cannot_hold_are_refused_whatever_its_ending(tmp_path, place):
    (tmp_path / "folder").mkdir(), (tmp_path / "mixed").mkdir()
    for name in ("folder/part.tsv", "mixed/part.parquet", "mixed/notes.txt", place.replace("*", "sv")):
        if not (tmp_path / name).exists():
            (tmp_path / name).touch()
    paths = dict.fromkeys(("train_data", "valid_data"), str(tmp_path / place))
    column = {"name": "x", "active": True, "dtype": "str", "type": "sequence", "fill_na": None}
    params = {"dataset_id": "d", "data_root": "data", "data_format": "h5", "rebuild_dataset": True, **paths}
    params |= {"label_col": {"name": "y", "dtype": "float"}, "feature_cols": [column]}
    if place in ("a.parquet", "mixed"):
        check_dataset(params)
    else:
        with pytest.raises(UsageError, match="fill_na of column 'x' must be text"):
            check_dataset(params)


@pytest.mark.parametrize("folder", ["raw[2024]", "a*b", "what?", "{x}"])
def test_a_path_that_exists_is_taken_as_it_is(small, folder):
    params, expected = small
    assert ids_of(rewritten(params, ".csv", bytes, folder)) == expected
    assert raw_files(Path(params["train_data"]).parent.parent / folder)[0].parent.name == folder


def test_a_file_with_brackets_in_its_name(tmp_path):
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
    """The rows of files, of columns with these dtypes."""
    columns = [{"name": name, "active": True, "dtype": dtype, "type": "categorical"} for name, dtype in dtypes.items()]
    return PreparingProcessor(columns, [], dataset_id="made", data_root="").read_files(files)


def parts(folder, first, second, kind="csv"):
    for name, frame in (("a", first), ("b", second)):
        getattr(pl.DataFrame(frame), f"write_{kind}")(folder / f"{name}.{kind}")
    return raw_files(folder)


def test_columns_that_differ_are_named(tmp_path):
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


def test_what_is_not_read_is_named_by_its_ending(tmp_path):
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


def test_a_hint_is_never_the_path_itself(tmp_path):
    (tmp_path / "train.tsv").touch()
    assert "did you mean" not in str(missing("data", tmp_path / "train.tsv"))
    (tmp_path / "train2.tsv").touch()
    assert str(missing("data", tmp_path / "train.tsv")).endswith("did you mean " + str(tmp_path / "train2.tsv?"))


def test_data_format_says_what_raw_files_are(small):
    params, _ = small
    with pytest.raises(UsageError, match=r"data_format is parquet, but train_data is csv: .*train.csv"):
        build({**params, "data_format": "parquet", "dataset_id": "other"})
    with pytest.raises(UsageError, match=r"data_format npz is of built ids; raw data are csv or parquet"):
        build({**params, "data_format": "npz", "dataset_id": "other"})


# --- ids that are there ----------------------------------------------------------------------------------


def damaged_npz():
    columns = {"item": np.array([1, 2, 1]), "price": np.zeros(3), "label": np.array([0, 1, 0])}
    return {
        "cut": (columns, lambda path: path.write_bytes(path.read_bytes()[:100]), "is not a whole npz file"),
        "empty": (columns, lambda path: path.write_bytes(b""), "is not a whole npz file"),
        "text": (columns, lambda path: path.write_text("item,price\n"), "is not a whole npz file"),
        "objects": ({**columns, "item": np.array([1, "a", None], object)}, None, "Object arrays cannot be loaded"),
        "absent": ({"item": columns["item"]}, None, ".*'price' .known: item"),
        "short": ({**columns, "price": np.zeros(2)}, None, "column 'price' has shape"),
        "past": ({**columns, "item": np.array([1, 2, 99])}, None, "field 'item' has ids from 1 to 99"),
        "scalar": ({**columns, "item": np.array(1)}, None, "item"),
        "rows": ({name: values[:0] for name, values in columns.items()}, None, "holds no rows"),
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "objects", "absent", "short", "past", "scalar", "rows"])
def test_damaged_npz_files_are_named_and_nothing_is_written(small, tmp_path, damage):
    source, target = tmp_path / "data/made", tmp_path / "target"
    for split in SPLITS:
        (source / f"{split}.parquet").unlink()
    columns, change, message = damaged_npz()[damage]
    np.savez(source / "train.npz", **columns)
    if change:
        change(source / "train.npz")
    with pytest.raises(UsageError, match=f"train.npz.*{message}") as raised:
        convert_set(source, target)
    assert "\n" not in str(raised.value) and not target.exists() and not list(tmp_path.glob(".building-*"))


def test_damaged_parquet_files_are_named(small, tmp_path):
    source = tmp_path / "data/made"
    feature_map = feature_maps.load(source)
    (tmp_path / "blocks").mkdir()
    frame = pd.read_parquet(source / "train.parquet")
    frame[:20].to_parquet(tmp_path / "blocks/part_0.parquet")

    def message(second):
        second.to_parquet(tmp_path / "blocks/part_1.parquet")
        with pytest.raises(UsageError) as raised:
            InMemoryLoader(feature_map, tmp_path / "blocks")
        return str(raised.value)

    assert "part_1.parquet: field 'item' has ids from 77 to 77" in message(frame[20:].assign(item=77))
    assert "part_1.parquet: field 'item' has ids that are not whole numbers" in message(frame[20:].assign(item=0.5))
    wide = frame[20:].assign(price=[[1.0, 2.0]] * 20)
    assert "part_1.parquet: column 'price' has [2] values a row, in" in message(wide)
    frame[20:20].to_parquet(tmp_path / "blocks/part_1.parquet")  # a file without rows is no harm
    assert InMemoryLoader(feature_map, tmp_path / "blocks").num_samples == 20
    frame[20:].astype({"item": "uint16"}).to_parquet(tmp_path / "blocks/part_1.parquet")
    loaded = InMemoryLoader(feature_map, tmp_path / "blocks").columns["item"]
    assert loaded.tolist() == frame["item"].tolist()
    content = (tmp_path / "blocks/part_1.parquet").read_bytes()
    (tmp_path / "blocks/part_1.parquet").write_bytes(content[:-20])
    for name in ("train.parquet", "manifest.json"):  # the manifest does not list the blocks
        (source / name).unlink()
    (tmp_path / "blocks").rename(source / "train")
    with pytest.raises(UsageError, match=r"part_1.parquet is not a whole parquet file"):
        convert_set(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_conversion_overwrites_nothing(small, tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for name in ("gone", "empty", "data/made", "raw/train.csv"):
        with pytest.raises(UsageError, match=f"{name} exists already"):
            convert_set(tmp_path / "data/made", tmp_path / name)
    convert_set(tmp_path / "data/made", tmp_path / "target")
    assert (tmp_path / "target/train.h5").exists() and not (tmp_path / "nowhere").exists()
