"""Fixtures of the data tests."""

import shutil

import pytest
from helpers.feature_maps import make_feature_map
from helpers.h5_sets import FEATURES, write_split
from helpers.small_sets import ids_of, write_small


@pytest.fixture
def feature_map():
    return make_feature_map(FEATURES)


@pytest.fixture
def columns(feature_map, tmp_path):
    """The columns of an H5 file, ``train.h5``, with 1000 rows."""
    return write_split(feature_map, tmp_path / "train.h5", 1000)


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, ids_of(write_small(folder))


@pytest.fixture
def small(tmp_path, built_once):
    """Return the settings and ids of a small data set whose raw and built files are in the test's folder."""
    folder, ids = built_once
    shutil.copytree(folder / "data", tmp_path / "data")
    return write_small(tmp_path), ids
