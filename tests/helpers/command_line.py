"""Run ``fuxictr-me`` in a process, or in this one where it must fail."""

import os
import subprocess
import sys

from fuxictr_me.commands.main import main
from helpers.forked_processes import run_forked


def run_cli(*arguments, cwd, **environment):
    """``python -m fuxictr_me`` in a process of its own; with variables of its own, one that begins with Python."""
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


def fails(capsys, *arguments, code=2):
    """Run a command that must fail; its one line of error."""
    assert main(list(arguments)) == code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("fuxictr-me: error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0].removeprefix("fuxictr-me: error: ")
