"""Unusual, damaged and malicious HDF5 files."""

import h5py
import numpy as np
import pytest
from helpers.damages import FEATURES, time_limit
from helpers.feature_maps import make_feature_map
from helpers.h5_sets import random_columns

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader
from fuxictr_me.data.h5 import untrusted_hdf5


def write_fuxictr_h5(folder, change):
    """Write an H5 file as FuxiCTR 2.0 does, and change it with ``change``."""
    folder.mkdir()
    columns = random_columns(make_feature_map(FEATURES), 50)
    with h5py.File(folder / "train.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
        change(file, columns)


def external_link(file, columns):
    del file["tiny"]
    file["tiny"] = h5py.ExternalLink("/etc/passwd", "/tiny")


def soft_link(file, columns):
    del file["tiny"]
    file["tiny"] = h5py.SoftLink("/small")


def external_storage(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file, columns):
    del file["tiny"]
    layout = h5py.VirtualLayout((50,), "i8")
    layout[:] = h5py.VirtualSource("other.h5", "tiny", (50,))
    file.create_virtual_dataset("tiny", layout)


def never_written(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8")


def a_chunk_missing(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8", chunks=(10,))[:30] = 1


def texts(file, columns):
    del file["tiny"]
    file["tiny"] = ["a"] * 50


def a_group(file, columns):
    del file["tiny"]
    file.create_group("tiny")


def another_width(file, columns):
    del file["clicks"]
    file["clicks"] = np.zeros((50, 3), int)


def a_scalar(file, columns):
    del file["tiny"]
    file["tiny"] = 3


OLD = [
    (external_link, "'tiny' is a link to another place"),
    (soft_link, "'tiny' is a link to another place"),
    (external_storage, "the rows of 'tiny' lie in other files"),
    (virtual_dataset, "the rows of 'tiny' lie in other files"),
    (never_written, r"rows of 'tiny', of shape \(50,\), are missing"),
    (a_chunk_missing, r"rows of 'tiny', of shape \(50,\), are missing"),
    (texts, "'tiny' holds object of shape"),
    (a_group, "'tiny' is not a dataset"),
    (another_width, r"column 'clicks' has shape \(50, 3\), expected \('rows', 4\)"),
    (a_scalar, r"'tiny' holds int64 of shape \(\)"),
]


@pytest.mark.parametrize(("change", "message"), OLD, ids=[change.__name__ for change, _ in OLD])
def test_unusual_hdf5_files_are_refused(tmp_path, change, message):
    write_fuxictr_h5(tmp_path / "old", change)
    with pytest.raises(UsageError, match=rf"old/train.h5: {message}"):
        H5DataLoader(make_feature_map(FEATURES), tmp_path / "old/train.h5")


def test_h5_files_of_fuxictr_load_with_a_warning(tmp_path, caplog):
    write_fuxictr_h5(tmp_path / "old", lambda file, columns: None)
    assert len(list(H5DataLoader(make_feature_map(FEATURES), tmp_path / "old/train.h5", batch_size=25))) == 2
    assert "train.h5 is not protected" in caplog.text and "damage to it cannot be noticed" in caplog.text


def test_an_error_names_a_file_on_which_hdf5_hangs_or_crashes(tmp_path, monkeypatch):
    write_fuxictr_h5(tmp_path / "old", lambda file, columns: None)
    path, feature_map = tmp_path / "old/train.h5", make_feature_map(FEATURES)
    parse = untrusted_hdf5.PARSE
    for bad in ("import os; os.kill(os.getpid(), 11)", "import time; time.sleep(60)"):
        monkeypatch.setattr("fuxictr_me.data.h5.untrusted_hdf5.PARSE", parse.replace("list(file.attrs.items())", bad))
        monkeypatch.setattr("fuxictr_me.data.h5.untrusted_hdf5.SECONDS", 8)
        with time_limit(50), pytest.raises(UsageError, match=r"old/train\.h5 is damaged: HDF5 hangs or crashes on it"):
            H5DataLoader(feature_map, path)
