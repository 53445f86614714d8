"""H5 data sets of format 1, which have no checksums of blocks."""

import json
import logging
import random

import pytest
import torch
from helpers.damages import (
    WAYS,
    batches,
    change_an_attribute,
    copy_and_damage,
    delete_a_file,
    delete_or_change_a_dataset,
    read_or_explain,
    swap_files,
    truncate,
    write_damageable_set,
    zero_a_block,
)
from helpers.h5_sets import rewrite_as_format_1_file

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data import H5DataLoader, feature_maps


def rewrite_as_format_1(folder):
    """Turn a data set into one of format 1, which has one checksum per matrix."""
    for path in folder.glob("*.h5"):
        rewrite_as_format_1_file(path)
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("made_by", "made_from", "splits")}
    for split in kept["splits"].values():
        for entry in split["files"].values():
            del entry["trailer"]
    (folder / "manifest.json").write_text(json.dumps({"format": 1, **kept}))


@pytest.mark.parametrize("way", WAYS, ids=["memory", "small windows", "one window"])
def test_a_set_of_format_1_loads_with_a_warning_and_is_checked(tmp_path, way, caplog):
    columns = write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "train.h5", feature_maps.load(tmp_path / "one")
    fed = list(H5DataLoader(feature_map, path, batch_size=100, **way))
    assert torch.cat([batch["large"] for batch in fed]).tolist() == columns["train"]["large"].tolist()
    assert caplog.text.count("train.h5 is not protected") == 1
    assert "`fuxictr-me data convert OLD NEW` writes a protected copy" in caplog.text
    content = bytearray(path.read_bytes())
    content[-5000:-904] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"train.h5 is damaged: .* differ from what was built"):
        H5DataLoader(feature_map, path, batch_size=100, **way)


def test_converting_a_set_of_format_1_adds_checksums_of_blocks(tmp_path, caplog):
    columns = write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    assert main(["data", "convert", str(tmp_path / "one"), str(tmp_path / "new")]) == 0
    caplog.clear()
    feature_map = feature_maps.load(tmp_path / "new")
    fed = list(H5DataLoader(feature_map, tmp_path / "new/train.h5", batch_size=100))
    assert "not protected" not in caplog.text
    assert torch.cat([batch["clicks"] for batch in fed]).tolist() == columns["train"]["clicks"].tolist()


def test_a_damaged_set_of_format_1_gives_an_error_that_names_it(tmp_path, caplog, monkeypatch):
    """Errors of HDF5 and of the layout become one line, and damaged rows are refused."""
    monkeypatch.setattr("fuxictr_me.data.h5.split_rows.rehearse_parsing", lambda paths: None)  # half a second each
    write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    caplog.set_level(logging.ERROR)
    right = batches(tmp_path / "one", WAYS[0])
    rng, outcomes = random.Random(3), []
    kinds = [change_an_attribute, delete_or_change_a_dataset, truncate, zero_a_block, swap_files, delete_a_file]
    for turn in range(90):
        copy_and_damage(tmp_path / "one", tmp_path / "work" / "one", rng, kinds[turn % len(kinds)])
        if (tmp_path / "work/one/manifest.json").exists():
            outcomes.append(read_or_explain(tmp_path / "work" / "one", WAYS[turn % 3], right))
    assert sum(text != "right" for text in outcomes) > 50
