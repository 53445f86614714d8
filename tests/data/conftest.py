"""Fixtures of the data tests."""

import pytest
from helpers.feature_maps import make_feature_map
from helpers.h5_sets import FEATURES, write_split


@pytest.fixture
def feature_map():
    return make_feature_map(FEATURES)


@pytest.fixture
def columns(feature_map, tmp_path):
    """The columns of an H5 file, ``train.h5``, with 1000 rows."""
    return write_split(feature_map, tmp_path / "train.h5", 1000)
