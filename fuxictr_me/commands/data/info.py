"""``fuxictr-me data info``: describe a built data set."""

import argparse
from pathlib import Path

HELP = "print what a built data set holds"
DESCRIPTION = """\
Print the rows, fields, vocabularies and sizes of a built data set, what it was
made from, and whether damage to its files would be noticed.

Reads feature_map.json and manifest.json. Writes nothing."""
EXAMPLE = "fuxictr-me data info data/criteo_x4_001"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data info``."""
    parser.add_argument("folder", metavar="DIR", help="folder of a built data set, e.g. data/criteo_x4_001")


def run(arguments: argparse.Namespace) -> str:
    """Return the description."""
    from fuxictr_me.data.describe_set import describe_set

    return describe_set(Path(arguments.folder))
