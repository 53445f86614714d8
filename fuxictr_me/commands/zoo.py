"""``fuxictr-me zoo``: list the bundled model zoo, or copy an entry."""

import argparse
from pathlib import Path

from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.resources import copy_zoo_config, find_zoo_configs

HELP = "list the bundled model zoo, or copy an entry"
DESCRIPTION = """\
Without arguments, list the models of the bundled zoo with their config
folders. With MODEL, print its config folder. With MODEL and FOLDER, copy the
config to FOLDER, where you can edit it."""
EXAMPLE = "fuxictr-me zoo DCNv2_ME my_config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``zoo``."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a model of the zoo, e.g. DCNv2_ME")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder to copy the config to; it must not exist")


def run(arguments: argparse.Namespace) -> str:
    """List the zoo, print a path, or copy a config."""
    configs = find_zoo_configs()
    if arguments.model is None:
        return "\n".join(f"{name:<12} {folder}" for name, folder in configs.items())
    if arguments.model not in configs:
        raise unknown("model of the bundled zoo", arguments.model, configs)
    if arguments.folder is None:
        return str(configs[arguments.model])
    if Path(arguments.folder).exists():
        raise UsageError(f"{arguments.folder} exists already")
    copy_zoo_config(configs[arguments.model], Path(arguments.folder))
    return f"{arguments.model}: config copied to {arguments.folder}"
