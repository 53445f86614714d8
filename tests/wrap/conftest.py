"""Fixtures of the tests of ``MultiEmbeddingOf``."""

import pytest
from helpers.toy_models import make_toy_map


@pytest.fixture
def feature_map():
    return make_toy_map()
