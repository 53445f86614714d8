"""``fuxictr-me data verify``: check the files of a data set."""

import argparse
import sys
from pathlib import Path

from fuxictr_me.errors import RunError

HELP = "check a built set or downloaded csv files"
DESCRIPTION = """\
Check every file of a built data set against the checksums of its manifest; or
check downloaded csv files of a published data set, which is recognised by the
name of its folder (e.g. Criteo_x4), against their published md5.

Reads all files. Writes nothing. Prints one line per file; the exit code is 1
if a file differs."""
EXAMPLE = "fuxictr-me data verify data/criteo_x4_001"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data verify``."""
    parser.add_argument("folder", metavar="DIR", help="folder of a built data set, or of the published csv files")


def run(arguments: argparse.Namespace) -> str:
    """Return a line per file.

    Raises:
        RunError: a file differs; the lines are on stdout already.
    """
    from fuxictr_me.data.verify_set import verify_set

    wrong, text = verify_set(Path(arguments.folder))
    if wrong:
        sys.stdout.write(text + "\n")
        raise RunError(f"{arguments.folder} is not as it should be: {', '.join(wrong)}")
    return text
