"""Conversion of built ids, and errors of damaged npz and parquet files."""

import numpy as np
import pandas as pd
import pytest
from helpers.small_sets import SPLITS

from fuxictr_me import UsageError
from fuxictr_me.data import InMemoryLoader, feature_maps
from fuxictr_me.data.building.convert_ids import convert_set


def damaged_npz():
    columns = {"item": np.array([1, 2, 1]), "price": np.zeros(3), "label": np.array([0, 1, 0])}
    return {
        "cut": (columns, lambda path: path.write_bytes(path.read_bytes()[:100]), "is not a valid npz file"),
        "empty": (columns, lambda path: path.write_bytes(b""), "is not a valid npz file"),
        "text": (columns, lambda path: path.write_text("item,price\n"), "is not a valid npz file"),
        "objects": ({**columns, "item": np.array([1, "a", None], object)}, None, "Object arrays cannot be loaded"),
        "absent": ({"item": columns["item"]}, None, ".*'price' .known: item"),
        "short": ({**columns, "price": np.zeros(2)}, None, "column 'price' has shape"),
        "past": ({**columns, "item": np.array([1, 2, 99])}, None, "field 'item' has ids from 1 to 99"),
        "scalar": ({**columns, "item": np.array(1)}, None, "item"),
        "rows": ({name: values[:0] for name, values in columns.items()}, None, "holds no rows"),
    }


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "objects", "absent", "short", "past", "scalar", "rows"])
def test_errors_name_damaged_npz_files_and_nothing_is_written(small, tmp_path, damage):
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


def test_errors_name_damaged_parquet_files(small, tmp_path):
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
    with pytest.raises(UsageError, match=r"part_1.parquet is not a valid parquet file"):
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
