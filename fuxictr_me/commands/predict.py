"""``fuxictr-me predict``: score a file of raw rows with a finished run."""

import argparse

from fuxictr_me.commands.shared_arguments import add_overrides, read_overrides

HELP = "score a file of raw rows with a finished run"
DESCRIPTION = """\
Read raw rows with the columns of the config, encode them with the vocabulary
of training, and write the predictions of the run's best weights, one row per
row and in the same order. Rows are streamed, so the file may be larger than
memory. If the label is among the columns, the metrics are printed, too. The
run may be of any model that FuxiCTR can train."""
EXAMPLE = "fuxictr-me predict --config my_config --expid ME_4x --data new.csv --out scores.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``predict``."""
    parser.add_argument("--config", help="folder of the configs (default: the bundled entry that has EXPID)")
    parser.add_argument("--expid", required=True, help="experiment id of a finished run")
    parser.add_argument(
        "--data", required=True, help="csv, parquet or JSON lines (.jsonl), or a folder of csv or parquet"
    )
    parser.add_argument("--out", required=True, help="file to write, .parquet or .csv; must not exist")
    parser.add_argument(
        "--keep", nargs="+", default=[], metavar="COLUMN", help="columns to copy beside the predictions"
    )
    parser.add_argument("--checkpoint", help="weights of the model (default: where the run left them)")
    parser.add_argument("--batch-size", type=int, default=10_000, help="rows that the model takes at a time (10000)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> str:
    """Write the predictions, and return how many there are and what they are worth."""
    from fuxictr_me.serving.score_file import score_file  # torch and FuxiCTR take seconds, and --help needs neither

    return score_file(
        arguments.expid,
        arguments.config,
        arguments.data,
        arguments.out,
        checkpoint=arguments.checkpoint,
        keep=arguments.keep,
        batch_size=arguments.batch_size,
        gpu=arguments.gpu,
        overrides=read_overrides(arguments),
    )
