"""``fuxictr-me toy``: the paper's toy experiment."""

import argparse

from fuxictr_me.errors import check_positive_int, require_extra

HELP = "run the paper's toy experiment and draw it"
DESCRIPTION = """\
Train the first table of a factorisation machine beside a third field of 3 ids
and of 100 ids, and draw its information abundance (figure 4 of the paper).

Reads nothing. Writes toy.png and toy.svg to --out. Needs the [report] extra."""
EXAMPLE = "fuxictr-me toy --seeds 5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``toy``."""
    parser.add_argument("--out", default="toy", metavar="DIR", help="folder to write (default: ./toy)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="number of seeds (default: 5)")
    parser.add_argument(
        "--iterations", type=int, default=5000, metavar="N", help="full-batch SGD steps (default: 5000)"
    )


def run(arguments: argparse.Namespace) -> str:
    """Run the experiment and draw it."""
    check_positive_int("--seeds", arguments.seeds)
    check_positive_int("--iterations", arguments.iterations)
    require_extra("toy", ("matplotlib",), "report")
    from fuxictr_me.reports.collapse.toy_figure import run_toy

    return run_toy(arguments.out, seeds=arguments.seeds, iterations=arguments.iterations)
