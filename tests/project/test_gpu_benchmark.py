"""The GPU benchmark runs on a CPU at a small size: every part, a second call that adds nothing, and its tables."""

import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu" / "run.py"


def run(*options):
    command = [sys.executable, str(SCRIPT), "--tiny", "--processes", "1", *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_every_part_runs_on_a_cpu_and_a_second_call_measures_nothing_again(tmp_path):
    pytest.importorskip("triton")
    code, text, errors = run("--out", tmp_path)
    assert code == 0, text[-3000:] + errors[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    parts = {line["cell"]["part"] for line in lines}
    assert parts >= {"environment", "equality", "loaders", "table equality", "table times", "abundance"}
    assert parts >= {"step", "epoch", "table waits", "table offsets", "fallback"}
    steps = [line["result"] for line in lines if line["cell"]["part"] == "step" and "ms" in line["result"]]
    assert len(steps) > 12 and all(result["ms"] > 0 for result in steps)
    assert all(result["predicted_mb"] > 0 and result["recorded"] is not None for result in steps if "rows" in result)
    for title in ("Training steps", "Epochs of training", "Evaluations", "InformationAbundance", "Checks"):
        assert f"**{title}" in text

    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "cut o')  # as a run that was ended leaves it
    before = len(lines)
    code, again, _ = run("--out", tmp_path)
    assert code == 0 and "**Training steps" in again
    added = (tmp_path / "results.jsonl").read_text().splitlines()[before:]
    assert all("environment" in line for line in added if line.startswith('{"key": "part'))
