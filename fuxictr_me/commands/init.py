"""``fuxictr-me init``: from a file of clicks to a config folder that runs."""

import argparse

HELP = "write a config folder for a file of clicks"
DESCRIPTION = """\
Look at a csv or parquet file with one row per impression, guess what each
column is, split the rows into training, validation and test, and write a
folder with dataset_config.yaml (a comment for each guess), model_config.yaml
(SE 1x, SE 4x and ME 4x of DCNv2), study.yaml and the splits. Nothing else is
changed."""
EXAMPLE = "fuxictr-me init clicks.csv --label click --time ts --out my_config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``init``."""
    parser.add_argument("data", metavar="FILE", help="csv or parquet, with a header; or a folder of such files")
    parser.add_argument("--label", required=True, metavar="COLUMN", help="the column to predict, of 0 and 1")
    parser.add_argument(
        "--time",
        metavar="COLUMN",
        help="split by this column: ISO times, or unix time in seconds, milli- or microseconds (default: at random)",
    )
    parser.add_argument("--out", default="my_config", help="folder to write; must not exist (default: my_config)")
    parser.add_argument("--seed", type=int, default=2024, help="of a random split (default: 2024)")


def run(arguments: argparse.Namespace) -> str:
    """Write the folder, and return what was guessed."""
    from fuxictr_me.starter import write_starter  # polars takes time to import, and --help needs none of it

    return write_starter(arguments.data, arguments.label, arguments.time, arguments.out, arguments.seed)
