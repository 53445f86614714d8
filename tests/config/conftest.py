"""The working directory of the tests of configs."""

from pathlib import Path

import pytest
from helpers.bad_configs import ROWS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder that holds ``rows.csv``, the raw data of the config that ``write`` writes."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(ROWS)
    return tmp_path
