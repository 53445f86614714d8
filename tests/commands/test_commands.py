"""Commands on a finished run, as a user types them."""

import importlib.util
from pathlib import Path

import pytest
from helpers.run_configs import write_config

from fuxictr_me.commands.main import main
from fuxictr_me.runs.experiment import run_expid


@pytest.fixture
def finished(own_folder):
    """Train the run ``mine``, and return its config folder."""
    config = write_config({"num_sets": 2, "embedding_dim": 3, "callbacks": ["InformationAbundance"]}, {})
    run_expid("mine", config)
    return config


def test_commands_write_what_they_promise(finished, capsys):
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


def test_toy_writes_two_figures(tmp_path, capsys):
    assert main(["toy", "--out", str(tmp_path / "toy"), "--seeds", "2", "--iterations", "20"]) == 0
    assert "D3 =   3" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"toy.png", "toy.svg"}
