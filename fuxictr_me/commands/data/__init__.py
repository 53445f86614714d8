"""``fuxictr-me data``: build, inspect, verify, convert and generate data sets."""

import argparse

from fuxictr_me.commands.data import build, convert, generate, info, verify
from fuxictr_me.commands.shared_arguments import Command, add_commands

HELP = "build, inspect, verify, convert or generate data sets"
DESCRIPTION = """\
H5 data sets: built from csv or parquet files, converted from the ids that
FuxiCTR (any version) has built, or generated."""
EXAMPLE = "fuxictr-me data build my_data --config my_config"
ACTIONS: dict[str, Command] = {
    "build": build,
    "info": info,
    "verify": verify,
    "convert": convert,
    "generate": generate,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of ``data``."""
    add_commands(parser, ACTIONS, dest="action")


def run(arguments: argparse.Namespace) -> str | None:
    """Run a sub-command."""
    return ACTIONS[arguments.action].run(arguments)
