"""Run ``fuxictr-me`` in a new process, or in this one if it must fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuxictr_me.commands.main import main
from helpers.forked_processes import run_forked


def run_cli(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fuxictr_me`` in a process that is forked, or a new one if environment variables are given."""
    if not environment:
        return run_forked(*arguments, cwd=cwd)
    return subprocess.run(
        [sys.executable, "-m", "fuxictr_me", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Run a command that must fail with an exit code, and return its error, which must be one line."""
    assert main(list(arguments)) == code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("fuxictr-me: error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0].removeprefix("fuxictr-me: error: ")
