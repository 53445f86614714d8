"""Builds are atomic, and write and remove only files of builds."""

import contextlib
import ctypes
import errno
import json
import logging
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.run_configs import write_config
from helpers.small_sets import COLUMNS, SPLITS, build, write_small

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data.building import build_folder as place
from fuxictr_me.data.building.convert_ids import convert_set
from fuxictr_me.data.building.owned_files import JOURNAL, list_files, owned_files, refuse_foreign_files
from fuxictr_me.data.manifest import describe_file, read_manifest
from fuxictr_me.io.atomic import append_atomically, atomic_folder, write_atomically
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.runs.experiment import run_expid

# --- foreign files ---------------------------------------------------------------------------------------

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


def contents(paths):
    read = {path: os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes() for path in paths}
    return {path: content for path, content in read.items() if content is not False}


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


def rewrite_manifest(folder, manifest):
    """Write a manifest of the first format, which anyone could write, since it has no digest of itself."""
    kept = {key: value for key, value in manifest.items() if key not in ("content_digest", "file_digests")}
    (folder / "manifest.json").write_text(json.dumps({**kept, "format": 1}))


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
    with pytest.raises(UsageError, match=r"manifest.json is not a (whole )?manifest"):
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


# --- atomic builds ----------------------------------------------------------------------------------


class Killed(BaseException):
    """Raised instead of killing the process."""


def kill_at(monkeypatch, step):
    """Raise ``Killed`` instead of the ``step``-th change of the file system; return the changes up to that."""
    seen = []
    for owner, name in ((os, "link"), (os, "replace"), (Path, "unlink"), (Path, "rmdir"), (Path, "mkdir")):
        original = getattr(owner, name)

        def changed(*args, original=original, **kwargs):
            seen.append(args)
            if len(seen) >= step:
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, changed)
    return lambda: len(seen) >= step


def make_fingerprint(number):
    return {"settings": {"number": number}, "raw": {}, "pretrained": {}, "fuxictr": "wheel"}


def write_files(folder, number, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of {number}" + "x" * number)
    return {"train": {"files": {name: {} for name in names if name.startswith("train")}}}


def test_a_kill_at_any_moment_leaves_a_complete_set_or_none(tmp_path, monkeypatch):
    old = ["feature_map.json", "feature_vocab.json", "train/part_00000.h5", "train/part_00001.h5"]
    new = ["feature_map.json", "feature_processor.pkl", "pretrained_item.npz", "train/part_00000.h5", "train.h5"]
    finished = False
    for step in range(1, 60):
        folder = tmp_path / str(step) / "made"
        folder.mkdir(parents=True)
        splits = write_files(tmp_path / f"{step}/old", 1, old)
        place.put_in_place(tmp_path / f"{step}/old", folder, make_fingerprint(1), splits)
        (folder / "train.csv").write_text("mine")
        splits = write_files(tmp_path / f"{step}/new", 2, new)
        with monkeypatch.context() as patch:
            was_killed = kill_at(patch, step)
            try:
                place.put_in_place(tmp_path / f"{step}/new", folder, make_fingerprint(2), splits)
                finished = True
            except Killed:
                assert was_killed()
        there = [number for number in (1, 2) if place.is_current(folder, make_fingerprint(number), [], quiet=True)]
        for number, names in ((1, old), (2, new)):
            if number in there:
                assert all((folder / name).read_text().startswith(f"{name} of {number}") for name in names)
        assert there or not (folder / "feature_map.json").exists() or (folder / JOURNAL).exists()
        refuse_foreign_files(folder, ["pretrained_item.npz"], {})  # all that is left is known as ours
        splits = write_files(tmp_path / f"{step}/again", 3, new)
        place.put_in_place(tmp_path / f"{step}/again", folder, make_fingerprint(3), splits)
        assert place.is_current(folder, make_fingerprint(3), [], quiet=True)
        left = {name for name in list_files(folder) if not name.endswith(".part")}
        assert left == {*new, "manifest.json", "train.csv"} and (folder / "train.csv").read_text() == "mine"
        if finished:
            break
    assert finished and step > 12


def test_a_file_that_appears_during_a_build_is_not_overwritten(tmp_path, monkeypatch):
    params = write_small(tmp_path, data_format="h5")
    mine = tmp_path / "data/made/valid.h5"
    write_journal = place.write_journal

    def late(*args):
        write_journal(*args)
        mine.write_text("mine")

    monkeypatch.setattr(place, "write_journal", late)
    with pytest.raises(UsageError, match=r"valid.h5 has appeared during the build"):
        build(params)
    assert mine.read_text() == "mine"


def test_an_error_names_the_folder_on_a_full_disk_and_nothing_is_left(tmp_path):
    def write(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*/made'"):
        place.build_once(tmp_path / "made", {"settings": {}}, {}, [], write)
    assert list((tmp_path / "made").iterdir()) == []


def test_folders_of_killed_builds_are_removed_unless_they_hold_other_files(tmp_path):
    params = write_small(tmp_path, data_format="h5")
    folder = tmp_path / "data/made"
    for left in (".building-abcd1234/made/train/part_00000.h5", ".building-00000000/made/feature_map.json"):
        (folder / left).parent.mkdir(parents=True)
        (folder / left).touch()
    (folder / ".building-emptyone").mkdir()
    build(params)
    assert not list(folder.glob(".building-*"))


def test_a_current_set_is_only_read(tmp_path, monkeypatch):
    """A folder without write permission must suffice."""
    params = write_small(tmp_path, data_format="h5")
    built = build(params)
    (tmp_path / "data/.made.lock").unlink()

    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        patch.setattr(place, "_open_lock", refuse)
        assert build(params) == built
        with pytest.raises(PermissionError):
            build({**params, "min_categr_count": 2})
    assert not (tmp_path / "data/.made.lock").exists()


@contextlib.contextmanager
def unprivileged():
    """Take from root, temporarily, the capability to ignore permissions, which other users do not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # of the version with 64 capabilities
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] = before & ~0b110  # the effective ones without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = before
        assert libc.capset(header, data) == 0


@contextlib.contextmanager
def read_only(*folders):
    for folder in folders:
        folder.chmod(0o555)
    try:
        with unprivileged():
            yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("data_format", ["csv", "h5"])
@pytest.mark.parametrize("locked_before", [True, False])
def test_a_stale_set_without_write_permission_is_a_one_line_error(tmp_path, data_format, locked_before):
    """It names the data set and the folder, never a temporary one; a current data set is used."""
    params = write_small(tmp_path, data_format=data_format)
    built, data = build(params), tmp_path / "data"
    if not locked_before:
        (data / ".made.lock").unlink()
    before = list_files(data)
    with read_only(data, data / "made"):
        assert build(params) == built
        where = data / "made" if locked_before else data
        for changed, name, folder in (
            ({"min_categr_count": 2}, data / "made", where),
            ({"dataset_id": "new"}, data / "new", data),
            ({"data_root": str(data / "more")}, data / "more/made", data / "more"),
        ):
            with pytest.raises(UsageError) as caught:
                build({**params, **changed})
            expected = (
                f"the data set {name} must be built, but nothing can be written in {folder} (permission denied): "
            )
            assert str(caught.value).startswith(expected)
    assert list_files(data) == before


def test_errors_do_not_contain_temporary_names(tmp_path):
    (tmp_path / "there").mkdir()
    with read_only(tmp_path):
        for write in (lambda path: write_atomically(path, Path.touch), lambda path: atomic_folder(path).__enter__()):
            with pytest.raises(PermissionError) as caught:
                write(tmp_path / "new")
            assert caught.value.filename == str(tmp_path / "new")
        with pytest.raises(PermissionError) as caught, atomic_folder(tmp_path / "there", replace=True):
            pass
        assert caught.value.filename == str(tmp_path / "there")


def test_nothing_is_written_through_links(tmp_path):
    params = write_small(tmp_path, data_format="h5")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.made.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match=r"\.made\.lock must be a plain file"):
        build(params)
    (tmp_path / "data/.made.lock").unlink()
    (tmp_path / "data/.made.lock").write_text("theirs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/made").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"data/made, where the data set would be built, is a symbolic link"):
        build(params)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "victim").read_text() == "precious" and (tmp_path / "data/.made.lock").read_text() == "theirs"


# --- fingerprints ----------------------------------------------------------------------------------------


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
    assert "is there already" in caplog.text


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
    assert contents(before) == before and "is there already" in caplog.text
    assert "did not record digests of the raw files" in caplog.text
    build({**params, "min_categr_count": 2, "data_block_size": 0})
    assert "is rebuilt: " in caplog.text and not (folder / "train").exists()
    assert set(read_manifest(folder)["files"]) == set(list_files(folder)) - {"manifest.json"}


# --- atomic files and folders -------------------------------------------------------


def test_a_file_is_replaced_atomically_through_a_random_name(tmp_path):
    path, victim = tmp_path / "a.model", tmp_path / "victim"
    victim.write_text("precious")
    Path(f"{path}.part").symlink_to(victim)  # the name that was used once
    names = []

    def write(partial):
        names.append(partial.name)
        partial.write_text("new")

    for _ in range(2):
        write_atomically(path, write)
    assert path.read_text() == "new" and victim.read_text() == "precious" and len(set(names)) == 2
    umask = os.umask(0o027)
    try:
        write_atomically(path, write)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640
    path.unlink()
    path.symlink_to(victim)
    write_atomically(path, write)
    assert not path.is_symlink() and victim.read_text() == "precious"
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda partial: 1 / 0)
    assert path.read_text() == "new" and not list(tmp_path.glob(".a.model.*"))


def test_concurrent_writers_of_one_file_do_not_interfere(tmp_path):
    path, errors = tmp_path / "run.json", []

    def write(number):
        try:
            for _ in range(20):
                write_atomically(path, lambda partial: partial.write_text(f"{number}" * 5000))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(set(path.read_text())) == 1 and len(path.read_text()) == 5000
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_partial_files_of_a_killed_writer_are_removed_by_the_next(tmp_path):
    (tmp_path / ".a.model.0123456789abcdef.part").write_text("half")
    for name in (".b.model.0123456789abcdef.part", ".a.model.mine.part", "a.model.part"):
        (tmp_path / name).write_text("another's")
    write_atomically(tmp_path / "a.model", lambda partial: partial.write_text("whole"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.model", ".b.model.0123456789abcdef.part", ".a.model.mine.part", "a.model.part"
    }  # fmt: skip


def test_nothing_is_appended_through_a_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "rows.csv").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"rows.csv is a symbolic link: nothing is written through it"):
        append_atomically(tmp_path / "rows.csv", b"row\n")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_new_folder_is_complete_and_replaces_nothing(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "there").mkdir()
    for name in ("link", "there"):
        with pytest.raises(UsageError, match="exists already"), atomic_folder(tmp_path / name):
            pass
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "deep/out") as folder:
        (folder / "half").touch()
        _ = 1 / 0
    assert list((tmp_path / "deep").iterdir()) == []
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "out", replace=True) as folder:
            (folder / "sub").mkdir()
            (folder / "sub/report.html").write_text(text)
        (tmp_path / "out/sub/notes.txt").write_text("mine")
    assert list_files(tmp_path / "out") == {"sub/notes.txt": 4, "sub/report.html": 3}
    assert (tmp_path / "out/sub/report.html").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"link", "there", "deep", "out"}
