"""Commands on a finished run, as a user types them."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.run_configs import write_config

from fuxictr_me.commands.main import main
from fuxictr_me.commands.parser import COMMANDS, build_parser, parse_arguments
from fuxictr_me.reports.collapse import captioned_figures
from fuxictr_me.runs.experiment import run_expid


@pytest.fixture
def finished(own_folder):
    """Train the run ``mine``, and return its config folder."""
    config = write_config({"num_sets": 2, "embedding_dim": 3, "callbacks": ["InformationAbundance"]}, {})
    run_expid("mine", config)
    return config


def test_commands_write_what_they_promise(finished, capsys, monkeypatch):
    draw = captioned_figures.draw_figures  # drawing takes most of the time of a report: one figure will do
    curves = lambda *given: (one for one in draw(*given) if one.name == "curves")  # noqa: E731
    monkeypatch.setattr(captioned_figures, "draw_figures", curves)
    capsys.readouterr()
    assert main(["analyze", "--config", finished, "--expid", "mine", "--data"]) == 0
    text = capsys.readouterr().out
    report = Path("checkpoints/tiny_flights/mine.collapse")
    assert text.startswith("mine: ") and f"Report: {report}/report.html" in text
    assert (report / "figures" / "curves.png").stat().st_size > 10_000

    assert main(["export-embeddings", "--config", finished, "--expid", "mine", "--out", "tables"]) == 0
    assert "carrier.parquet" in capsys.readouterr().out and Path("tables/carrier.parquet").exists()

    assert main(["plan", "--config", finished, "--expid", "mine", "--gpu-model", "A100"]) == 0
    assert "A100" in capsys.readouterr().out


def test_wrong_arguments_are_reported_in_one_line(finished, capsys):
    capsys.readouterr()
    for arguments, message in (
        (["analyze", "--config", finished, "--expid", "mien"], "did you mean 'mine'"),
        (
            ["analyze", "--config", finished, "--expid", "mine", "--checkpoint", "none.model"],
            "no checkpoint at none.model",
        ),
        (["plan", "--config", finished, "--expid", "mine", "--gpu-model", "H10"], "H100"),
        (["export-embeddings", "--config", finished, "--expid", "mine", "--out", "data"], "data exists already"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("fuxictr-me: error: ") and message in error and "\n" not in error


def test_a_missing_extra_is_reported_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["toy", "--out", str(tmp_path / "toy")]) == 2
    assert "toy needs matplotlib: pip install 'fuxictr-me[report]'" in capsys.readouterr().err


COMMAND_MODULES = {
    **COMMANDS,
    **{f"data {name}": action for name, action in COMMANDS["data"].ACTIONS.items()},
    **{f"study {name}": action for name, action in COMMANDS["study"].ACTIONS.items()},
}


@pytest.mark.parametrize("name", COMMAND_MODULES)
def test_the_help_of_a_command_has_one_line_in_the_list_and_a_valid_example(name):
    command = COMMAND_MODULES[name]
    assert len(command.HELP) <= 54 and command.HELP[0].islower() and not command.HELP.endswith(".")
    assert max(map(len, command.DESCRIPTION.splitlines())) < 80
    words = shlex.split(command.EXAMPLE)
    assert words[: 1 + len(name.split())] == ["fuxictr-me", *name.split()]
    assert parse_arguments(words[1:]).command == name.split()[0]


def test_the_old_name_of_convert_checkpoint_works_and_is_not_listed(tmp_path, capsys):
    assert parse_arguments(["convert", "a", "b"]).command == "convert-checkpoint"
    assert main(["convert", str(tmp_path / "none"), str(tmp_path / "x")]) == 2
    assert "no state to resume from" in capsys.readouterr().err
    listed = re.findall(r"^    (\S+)", build_parser().format_help(), re.MULTILINE)
    assert "convert-checkpoint" in listed and "convert" not in listed


def test_toy_writes_two_figures(tmp_path, capsys):
    assert main(["toy", "--out", str(tmp_path / "toy"), "--seeds", "2", "--iterations", "20"]) == 0
    assert "D3 =   3" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"toy.png", "toy.svg"}


HELP = """
import sys
from fuxictr_me.commands.main import main
for arguments in (["--help"], ["run_expid", "--help"], ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
heavy = ("torch", "numpy", "polars", "pandas", "pyarrow", "scipy", "sklearn", "h5py", "yaml", "tqdm", "ray", "fuxictr")
print("loaded:", [name for name in (*heavy, "matplotlib", "fuxictr_me.config") if name in sys.modules])
"""


def test_help_loads_nothing_that_takes_long(tmp_path):
    """What ``from fuxictr_me import DCNv2_ME`` loads is checked in ``tests/runs/test_trust.py``."""
    run = subprocess.run([sys.executable, "-c", HELP], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded: []"
