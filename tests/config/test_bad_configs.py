"""Each of hundreds of wrong settings ends in one line, before anything is built or trained."""

from pathlib import Path

import pytest
from helpers.bad_configs import (
    error_of,
    folder,  # noqa: F401 - a fixture
    write,
)
from helpers.wrong_settings import bad_settings

BAD = list(bad_settings())


def test_there_are_hundreds_of_wrong_settings():
    assert len(BAD) >= 500


@pytest.mark.parametrize("cases", [BAD[::4], pytest.param(BAD, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_wrong_setting_is_refused_in_one_line(folder, capsys, cases):
    accepted, unnamed = [], []
    for where, key, value, right in cases:
        write(where, key, value)
        in_command = key == "gpu"  # the command's --gpu takes its place
        code, line = error_of(["run_expid", "--config", "config", "--expid", "x"], capsys)
        if code != 2 and not in_command:
            accepted.append((where, key, value, code))
        if right and repr(right) not in (line or ""):
            unnamed.append((key, right, line))
    assert not accepted and not unnamed


def test_the_unchanged_settings_are_accepted(folder, capsys):
    write("model", "seed", 1)
    assert error_of(["run_expid", "--config", "config", "--expid", "x"], capsys) == (0, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "build", "shop", "--config", "config"],
        ["run_expid", "--config", "config", "--expid", "x"],
        ["plan", "--config", "config", "--expid", "x"],
        ["analyze", "--config", "config", "--expid", "x"],
        ["export", "--config", "config", "--expid", "x", "--out", "out", "--format", "safetensors"],
        ["export-embeddings", "--config", "config", "--expid", "x", "--out", "out"],
        ["bars", "x", "--config", "config"],
    ],
    ids=lambda arguments: arguments[0] + arguments[1] * (arguments[0] == "data"),
)
def test_every_command_makes_the_same_checks(folder, capsys, arguments):
    for where, key, value, words in (
        ("price", "normaliser", "StandardScaler", "did you mean 'normalizer'?"),
        ("dataset", "min_categr_cnt", 2, "did you mean 'min_categr_count'?"),
        ("history", "max_len", 0, "max_len of column 'history' must be an integer of 1 or more, got 0"),
        ("user", "active", "False", "active of column 'user' must be True or False, got 'False'"),
    ):
        write(where, key, value)
        code, line = error_of(arguments, capsys)
        assert code == 2 and words in line
    assert not Path("data").exists() and not Path("out").exists()
