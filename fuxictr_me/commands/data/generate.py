"""``fuxictr-me data generate``: generate a data set with known interactions."""

import argparse
from pathlib import Path

HELP = "generate clicks with known interactions"
DESCRIPTION = """\
Generate clicks with the field sizes of Criteo, and pairwise interactions of a
known rank, for benchmarks and for tests of collapse. 80, 10 and 10 % of the
rows are training, validation and test data.

Reads nothing. Writes --out, as H5."""
EXAMPLE = "fuxictr-me data generate --out data/synthetic --rows 100000 --rank 4"
SETTINGS = ("num_fields", "num_ids", "rank", "exponent", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data generate``."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; it must not exist")
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="number of rows (default: 1000000)")
    parser.add_argument("--num-fields", type=int, default=39, metavar="N", help="number of fields (default: 39)")
    parser.add_argument(
        "--num-ids", type=int, default=1_000_000, metavar="N", help="ids of all fields together (default: 1000000)"
    )
    parser.add_argument("--rank", type=int, default=4, metavar="N", help="rank of each interaction (default: 4)")
    parser.add_argument(
        "--exponent", type=float, default=1.05, metavar="X", help="exponent of the ids' power law (default: 1.05)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random numbers (default: 0)")


def run(arguments: argparse.Namespace) -> str:
    """Generate the data set, and return its description and the best AUC that a model can reach."""
    from fuxictr_me.data.building.generate_set import generate_set
    from fuxictr_me.data.describe_set import describe_set

    out = Path(arguments.out)
    clicks = generate_set(out, arguments.rows, **{key: getattr(arguments, key) for key in SETTINGS})
    return f"{describe_set(out)}\nbest AUC that a model can reach: {clicks.bayes_auc():.4f}"
