"""Builds are atomic and exclusive."""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

import pytest
from helpers.small_sets import build, write_small

from fuxictr_me import UsageError
from fuxictr_me.data.building import build_folder as place
from fuxictr_me.data.building.owned_files import JOURNAL, list_files, refuse_foreign_files
from fuxictr_me.io.atomic import atomic_folder, write_atomically


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
