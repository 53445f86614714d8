"""``fuxictr-me study status``: show the progress of a study."""

import argparse

HELP = "show the progress of a study"
DESCRIPTION = """\
Print the finished, running and failed runs of a study, the validation metrics
of each cell, and the hyperparameters chosen so far.

Reads the folder of the study. Writes nothing. It can be used while the study
runs."""
EXAMPLE = "fuxictr-me study status my_study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``study status``."""
    parser.add_argument("folder", metavar="DIR", help="folder of the study")


def run(arguments: argparse.Namespace) -> str:
    """Return the progress."""
    from fuxictr_me.study.launch import read_status

    return read_status(arguments.folder)
