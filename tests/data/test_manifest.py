"""The manifest notices changed raw files and settings."""

import logging
import os

import numpy as np
import pytest
from helpers.folders import contents, rewrite_manifest
from helpers.small_sets import COLUMNS, build, write_small

from fuxictr_me.data.building.owned_files import list_files
from fuxictr_me.data.manifest import describe_file, read_manifest


def test_a_swapped_file_of_equal_size_and_time_is_noticed(tmp_path, monkeypatch, caplog):
    params = write_small(tmp_path, data_format="h5")
    build(params)
    valid, test = tmp_path / "raw/valid.csv", tmp_path / "raw/test.csv"
    time, text = valid.stat().st_mtime_ns, valid.read_text()
    at = text.index(",1\n")
    valid.write_text(text[:at] + ",0\n" + text[at + 3 :])
    os.utime(valid, ns=(time, time))
    with caplog.at_level(logging.INFO):
        build(params)
    assert "is rebuilt: the raw valid data have changed" in caplog.text
    monkeypatch.setattr("fuxictr_me.data.manifest.WHOLE_BYTES", 100)
    monkeypatch.setattr("fuxictr_me.data.manifest.BLOCK_BYTES", 16)
    first = describe_file(test)
    text = test.read_text()
    assert len(text) < 64 * 16 and describe_file(test) == first  # 64 blocks of 16 bytes cover the file here
    for at in (0, len(text) // 2, len(text) - 2):
        test.write_text(text[:at] + "7" + text[at + 1 :])
        os.utime(test, ns=(first[2], first[2]))
        changed = describe_file(test)
        assert changed[:3] == first[:3] and changed[3] != first[3]


def test_changed_pretrained_vectors_are_noticed(tmp_path, caplog):
    vectors = tmp_path / "vectors.npz"

    def write(value):
        np.savez(vectors, key=np.array(["a", "b", "c"]), value=np.full((3, 4), value, np.float32))
        os.utime(vectors, ns=(0, 0))

    write(1.0)
    item = {**COLUMNS[0], "pretrained_emb": str(vectors), "pretrain_dim": 4}
    params = write_small(tmp_path, data_format="h5", feature_cols=[item, COLUMNS[1]])
    build(params)
    write(2.0)
    build(params)
    assert "is rebuilt: the pretrained_emb of item has changed" in caplog.text
    assert (np.load(tmp_path / "data/made/pretrained_item.npz")["value"] == 2).all()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        build(params)
    assert "exists already" in caplog.text


def rewrite_as_format_1(folder):
    manifest = read_manifest(folder)
    del manifest["files"], manifest["made_from"]["pretrained"]
    for files in manifest["made_from"]["raw"].values():
        for file in files:
            del file[3]
    if any(name.endswith(".parquet") for entry in manifest["splits"].values() for name in entry["files"]):
        for split, entry in manifest["splits"].items():
            entry["files"] = {split if (folder / split).is_dir() else f"{split}.parquet": {}}
    rewrite_manifest(folder, manifest)


@pytest.mark.parametrize(("data_format", "blocks"), [("h5", 0), ("h5", 15), ("csv", 15)])
def test_sets_of_an_earlier_version_are_current_and_can_be_replaced(tmp_path, caplog, data_format, blocks):
    params = write_small(tmp_path, data_format=data_format, data_block_size=blocks)
    built = build(params)
    folder = tmp_path / "data/made"
    rewrite_as_format_1(folder)
    before = contents(path for path in folder.rglob("*") if path.is_file())
    with caplog.at_level(logging.INFO):
        assert build(params) == built
    assert contents(before) == before and "exists already" in caplog.text
    assert "did not record digests of the raw files" in caplog.text
    build({**params, "min_categr_count": 2, "data_block_size": 0})
    assert "is rebuilt: " in caplog.text and not (folder / "train").exists()
    assert set(read_manifest(folder)["files"]) == set(list_files(folder)) - {"manifest.json"}
