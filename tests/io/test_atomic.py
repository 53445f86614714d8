"""Files and folders are written atomically, and never through a link."""

import os
import threading
from pathlib import Path

import pytest

from fuxictr_me import UsageError
from fuxictr_me.data.building.owned_files import list_files
from fuxictr_me.io.atomic import append_atomically, atomic_folder, write_atomically


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
