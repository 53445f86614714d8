"""Builds write and remove only files of builds."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.folders import contents, rewrite_manifest
from helpers.run_configs import write_config
from helpers.small_sets import SPLITS, build, write_small

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data.building.convert_ids import convert_set
from fuxictr_me.data.building.owned_files import owned_files
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.runs.experiment import run_expid

PLACES = (
    "data/made/notes.txt",
    "data/made/train.csv",
    "data/made/sub/deep.bin",
    "data/made/train/part1.csv",
    "data/made/valid/part_00000.h5",
    "data/made/test/part-000000-0.parquet",
    "data/made/train.h5",
    "data/made/valid.parquet",
    "data/made/feature_map.json",
    "data/made/feature_processor.pkl",
    "data/made/manifest.json",
    "data/made/pretrained_item.npz",
    "data/made/.building-abcdefgh/keep.txt",
    "data/made/.building-abcdefgh/made/keep.txt",
    "data/made/.building-mine/made/train.h5",
    "data/other/train.h5",
    "data/.building-abcdefgh/made/train.h5",
    "data/made.bak",
    "victim/train.h5",
)
LINKS = {
    "data/made/train": "victim",
    "data/made/test.h5": "victim/file",
    "data/made/train.parquet": "victim/file",
    "data/.made.lock": "victim/file",
    "data/made/feature_map.json": "victim/gone",
}


def plant(folder, random):
    """Write random files and links in and around the folder of a data set, partly over files of a build."""
    planted = {folder / "victim/file": b"precious"}
    for place_of in random.choice(PLACES, size=random.integers(1, 4), replace=False):
        planted[folder / place_of] = random.bytes(20)
    links = random.choice(sorted(LINKS), size=random.integers(0, 2), replace=False)
    for path, content in planted.items():
        if path.is_dir() or any(os.path.lexists(part) and not part.is_dir() for part in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in links:
        path = folder / name
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(folder / LINKS[name])
    return [path for path in (*planted, *(folder / name for name in links)) if os.path.lexists(path)]


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(n, marks=pytest.mark.slow) for n in range(10, 100))])
def test_foreign_files_survive_builds_and_conversions(tmp_path, seed):
    """A build, a rebuild and a conversion succeed or give a one-line error, and leave foreign files unchanged."""
    random = np.random.default_rng(seed)
    data_format, blocks = ("h5", "csv")[seed % 2], (0, 15)[seed // 2 % 2]
    params = write_small(tmp_path, data_format=data_format, data_block_size=blocks)
    if seed // 4 % 2:  # over a data set of the other format
        build({**params, "data_format": ("csv", "h5")[seed % 2], "data_block_size": (15, 0)[seed // 2 % 2]})
    before = contents([*plant(tmp_path, random), *(tmp_path / "raw").iterdir()])
    for change in ({}, {"min_categr_count": 2}):
        try:
            built = build({**params, **change})
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert all(Path(path).exists() for path in built.values())
        assert contents(before) == before
    try:
        convert_set(tmp_path / "data/made", tmp_path / "data/other")
    except UsageError as error:
        assert "\n" not in str(error)
    assert contents(before) == before


def test_a_data_set_can_be_built_beside_its_raw_csv_files(tmp_path):
    """FuxiCTR's examples use such folders."""
    params = write_small(tmp_path)
    shutil.move(tmp_path / "raw", tmp_path / "data/made")
    params |= {f"{split}_data": str(tmp_path / f"data/made/{split}.csv") for split in SPLITS}
    before = contents(sorted((tmp_path / "data/made").iterdir()))
    for data_format in ("csv", "h5"):
        assert all(Path(path).is_file() for path in build({**params, "data_format": data_format}).values())
        assert contents(before) == before


@pytest.mark.usefixtures("own_folder")
def test_a_run_keeps_raw_data_in_the_folder_of_the_data_set(capsys):
    source = find_bundled_folder("dataset_configs") / "tiny_flights"
    for split in SPLITS:
        folder = Path(f"data/tiny_flights/{split}")
        folder.mkdir(parents=True)
        shutil.copy(source / f"{split}.csv", folder / "part1.csv")
    raw = contents(Path("data").rglob("*.csv"))
    for data_format in ("h5", "csv"):
        data = {f"{split}_data": f"data/tiny_flights/{split}" for split in SPLITS}
        config = write_config(data={**data, "data_format": data_format})
        with pytest.raises(UsageError, match=r"data/tiny_flights holds train/part1.csv, .* did not write"):
            run_expid("mine", config)
        assert main(["data", "build", "tiny_flights", "--config", config, "--out", "data"]) == 2
        assert contents(raw) == raw and len(raw) == 3
    assert "did not write" in capsys.readouterr().err


@pytest.mark.parametrize("dataset_id", ["../victim", "..", ".", "", "a/b", "/victim", 7])
@pytest.mark.parametrize("data_format", ["h5", "csv"])
def test_a_dataset_id_must_be_a_plain_name(tmp_path, dataset_id, data_format):
    params = write_small(tmp_path, data_format=data_format)
    with pytest.raises(UsageError, match="dataset_id must be the name of one folder"):
        build({**params, "dataset_id": dataset_id})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_a_manifest_can_only_have_files_of_builds_removed(tmp_path):
    """Names outside the folder, that builds do not write, or that a link leads to, are ignored."""
    params = write_small(tmp_path, data_format="h5")
    build(params)
    folder, victim = tmp_path / "data/made", tmp_path / "victim"
    victim.mkdir()
    names = [
        "../../victim/train.h5",
        str(victim / "valid.h5"),
        "notes.txt",
        "sub/train.h5",
        "train/part_0.h5",
        "test.h5",
    ]
    (folder / "sub").mkdir()
    for name in (*names[:4], "../../victim/part_0.h5"):
        (folder / name).write_bytes(b"precious")
    manifest = read_manifest(folder)
    manifest["files"] |= dict.fromkeys(names[:5], 8)
    manifest["files"]["test.h5"] = 8
    rewrite_manifest(folder, manifest)
    assert {"test.h5", "notes.txt"}.isdisjoint(owned_files(folder)) and "train.h5" in owned_files(folder)
    (folder / "test.h5").unlink()
    (folder / "train").symlink_to(victim)
    before = contents([victim / "train.h5", victim / "valid.h5", victim / "part_0.h5", folder / "notes.txt"])
    with pytest.raises(UsageError, match=r"data/made holds train, which fuxictr-me did not write"):
        build({**params, "min_categr_count": 2})
    (folder / "train").unlink()
    build({**params, "min_categr_count": 2})
    assert contents(before) == before and (folder / "sub/train.h5").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"made_by": 1}', '{"made_by": "x", "made_from": {}, "splits": {"a": []}}', "{", "\xff"],
)
def test_an_error_names_a_foreign_manifest(tmp_path, content):
    params = write_small(tmp_path)
    (tmp_path / "data/made").mkdir(parents=True)
    (tmp_path / "data/made/manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=r"manifest.json is not a (valid )?manifest"):
        build(params)
    assert (tmp_path / "data/made/manifest.json").read_text(encoding="latin-1") == content


def test_an_edited_file_is_not_removed(tmp_path):
    params = write_small(tmp_path, data_format="h5")
    build(params)
    edited = tmp_path / "data/made/feature_vocab.json"
    edited.write_text(edited.read_text() + " ")
    with pytest.raises(UsageError, match=r"holds feature_vocab.json, .*or which has changed since"):
        build({**params, "min_categr_count": 2})
    assert edited.read_text().endswith(" ") and (tmp_path / "data/made/train.h5").exists()


def test_a_set_built_by_fuxictr_is_used_if_complete_and_refused_otherwise(tmp_path, caplog):
    params = write_small(tmp_path)
    build(params)
    (tmp_path / "data/made/manifest.json").unlink()  # as FuxiCTR leaves it
    before = contents(sorted((tmp_path / "data/made").iterdir()))
    assert Path(build({**params, "min_categr_count": 2})["train_data"]).exists()
    assert "was not built by fuxictr-me" in caplog.text
    with pytest.raises(UsageError, match=r"holds feature_map.json, .*, feature_processor.pkl and 3 more"):
        build({**params, "data_format": "h5"})
    assert contents(before) == before
    (tmp_path / "data/made/valid.parquet").unlink()
    with pytest.raises(UsageError, match=r"holds feature_map.json"):  # what a failed build of FuxiCTR leaves
        build(params)
