"""``fuxictr-me study``: run a study, show its progress, report it."""

import argparse

from fuxictr_me.commands.shared_arguments import Command, add_commands
from fuxictr_me.commands.study import report, run_study, status

HELP = "compare single with multi-embedding at several sizes"
DESCRIPTION = """\
Does multi-embedding scale on your data? Train models with one and with several
embedding sets at several sizes and seeds, each run in its own process, and
report the differences with statistical tests.

`fuxictr-me study FILE` is short for `fuxictr-me study run FILE`."""
EXAMPLE = "fuxictr-me study run my_study.yaml"
ACTIONS: dict[str, Command] = {"run": run_study, "status": status, "report": report}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of ``study``."""
    add_commands(parser, ACTIONS, dest="action")


def run(arguments: argparse.Namespace) -> str | None:
    """Run a sub-command."""
    return ACTIONS[arguments.action].run(arguments)


def expand_short_form(argv: list[str]) -> list[str]:
    """Insert ``run`` into ``study FILE``; other command lines are returned as they are."""
    if argv[:1] == ["study"] and argv[1:] and argv[1] not in (*ACTIONS, "-h", "--help"):
        return ["study", "run", *argv[1:]]
    return argv
