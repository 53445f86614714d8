"""The list of commands, and the parser of the command line."""

import argparse

from fuxictr_me import __version__
from fuxictr_me.commands import (
    analyze,
    bars,
    convert_checkpoint,
    data,
    export,
    export_embeddings,
    host,
    plan,
    quickstart,
    run_expid,
    study,
    toy,
    zoo,
)
from fuxictr_me.commands.shared_arguments import Command, HelpFormatter, add_commands

COMMANDS: dict[str, Command] = {  # in the order of `fuxictr-me --help`: the most used first
    "run_expid": run_expid,
    "analyze": analyze,
    "plan": plan,
    "study": study,
    "data": data,
    "zoo": zoo,
    "quickstart": quickstart,
    "export": export,
    "export-embeddings": export_embeddings,
    "host": host,
    "bars": bars,
    "toy": toy,
    "convert-checkpoint": convert_checkpoint,
}
OLD_NAMES = {"convert": "convert-checkpoint"}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``fuxictr-me``."""
    parser = argparse.ArgumentParser(
        prog="fuxictr-me",
        description="Multi-embedding CTR models for FuxiCTR, and a measure of whether their embeddings\n"
        "collapse. `fuxictr-me COMMAND --help` describes a command, with an example.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted, 143 terminated.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fuxictr-me {__version__}")
    add_commands(parser, COMMANDS, dest="command", old_names=OLD_NAMES)
    return parser


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line. Refuse empty arguments, which come from unset shell variables.

    Raises:
        SystemExit: with code 2, after one line that names the argument.
    """
    parser = build_parser()
    parsed = parser.parse_args(study.expand_short_form(argv))
    parsed.command = OLD_NAMES.get(parsed.command, parsed.command)
    for name, value in vars(parsed).items():
        if name != "arguments" and (value == "" or (isinstance(value, list) and "" in value)):
            parser.error(f"argument {name.replace('_', '-')}: must not be empty")
    return parsed
