"""``fuxictr-me convert-checkpoint``: convert between checkpoints of one process and of several."""

import argparse

HELP = "convert weights between one and several processes"
DESCRIPTION = """\
Convert the weights of a run on several processes to a checkpoint of one
process, which every command reads; or a checkpoint to a folder from which
`run_expid --engine ... --resume` starts.

Reads SOURCE: a folder <expid>.resume, or a checkpoint. Writes TARGET: a
checkpoint if SOURCE is a folder, else a folder. PyTorch reads such folders
with pickle, so convert only folders of your own."""
EXAMPLE = "fuxictr-me convert-checkpoint checkpoints/my_data/ME_4x.resume ME_4x.model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``convert-checkpoint``."""
    parser.add_argument("source", metavar="SOURCE", help="a folder <expid>.resume, or a checkpoint")
    parser.add_argument("target", metavar="TARGET", help="checkpoint or folder to write; it must not exist")


def run(arguments: argparse.Namespace) -> str:
    """Convert the weights."""
    from fuxictr_me.distributed.convert_checkpoint import run

    return run(arguments.source, arguments.target)
