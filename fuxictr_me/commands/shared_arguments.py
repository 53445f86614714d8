"""Arguments that several commands have, and the one way to add a command to a parser."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Protocol


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with the line breaks of the descriptions, and room for the longest name of a command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)


class Command(Protocol):
    """What a module of ``fuxictr_me.commands`` provides."""

    HELP: str
    DESCRIPTION: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command to its parser."""

    def run(self, arguments: argparse.Namespace) -> str | None:
        """Run the command and return the text to print."""


def add_commands(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, Command],
    dest: str,
    old_names: Mapping[str, str] | None = None,
) -> None:
    """Add a sub-command to ``parser`` for each of ``commands``.

    Args:
        parser: parser of the program, or of a command that has sub-commands.
        commands: name -> module.
        dest: attribute of the parsed arguments that gets the name.
        old_names: former name -> name in ``commands``. It works as before but is not listed.
    """
    subparsers = parser.add_subparsers(dest=dest, metavar=dest.upper(), required=True)
    old_names = old_names or {}
    for name, current in [*((name, name) for name in commands), *old_names.items()]:
        command = commands[current]
        add_parser = subparsers.add_parser if name in old_names else partial(subparsers.add_parser, help=command.HELP)
        added = add_parser(
            name,
            description=command.DESCRIPTION,
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=HelpFormatter,
        )
        command.add_arguments(added)


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--expid``."""
    parser.add_argument(
        "--config",
        metavar="DIR",
        help="folder of model_config.yaml and dataset_config.yaml (default: the entry of the bundled zoo that has ID)",
    )
    parser.add_argument("--expid", required=True, metavar="ID", help="experiment of the config, e.g. DCNv2_ME_test")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``, which may be given several times."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="use this value, in YAML, in place of that of the config, e.g. batch_size=4096; may be repeated",
    )


def read_overrides(arguments: argparse.Namespace) -> dict[str, object]:
    """Return setting -> value of the arguments ``--set``; see ``parse_overrides``."""
    from fuxictr_me.config.overrides import parse_overrides  # FuxiCTR takes seconds to import

    return parse_overrides(arguments.overrides)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``."""
    parser.add_argument("--checkpoint", metavar="FILE", help="weights to read (default: the checkpoint of the run)")


def add_new_folder(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, which is required and must not exist."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; it must not exist")


def add_gpu(parser: argparse.ArgumentParser) -> None:
    """Add ``--gpu``."""
    parser.add_argument("--gpu", type=int, default=-1, metavar="N", help="CUDA device, -1 for the CPU (default: -1)")
