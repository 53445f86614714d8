"""``fuxictr-me data convert``: write the ids of a built data set as H5."""

import argparse
from pathlib import Path

HELP = "write ids that FuxiCTR has built as H5"
DESCRIPTION = """\
Write the ids of a built data set as H5. The raw data are not needed. H5 files
of an older version of fuxictr-me get checksums this way.

Reads SOURCE: feature_map.json, and the splits as H5 (of FuxiCTR 1.x to 2.1, or
of fuxictr-me), npz or parquet. Writes TARGET."""
EXAMPLE = "fuxictr-me data convert data/criteo_x4_npz data/criteo_x4_h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data convert``."""
    parser.add_argument("source", metavar="SOURCE", help="folder with feature_map.json and the splits")
    parser.add_argument("target", metavar="TARGET", help="folder to write; it must not exist")


def run(arguments: argparse.Namespace) -> str:
    """Convert the data set, and return the description of the new one."""
    from fuxictr_me.data.building.convert_ids import convert_set
    from fuxictr_me.data.describe_set import describe_set

    convert_set(Path(arguments.source), Path(arguments.target))
    return describe_set(Path(arguments.target))
