"""``fuxictr-me analyze``: write the collapse report of a run."""

import argparse

from fuxictr_me.commands.shared_arguments import add_checkpoint, add_experiment, add_gpu, add_overrides, read_overrides

HELP = "report which embeddings of a run are collapsed"
DESCRIPTION = """\
Report which embeddings of a finished run are collapsed, and what may be the
cause. Works for any FuxiCTR model; its code is needed only for the rank of
representations along the depth of the network, which --data measures.

Reads the config, the feature map and the checkpoint of the run, and
<ID>.ia.csv if it exists. Writes report.html (which needs no network),
report.json, tables.csv and figures to <ID>.collapse/ beside the checkpoint.
Needs the [report] extra."""
EXAMPLE = "fuxictr-me analyze --config my_config --expid ME_4x --compare SE_4x"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``analyze``."""
    add_experiment(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="ID", help="other runs of the same config to compare with"
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: <ID>.collapse beside the checkpoint)")
    parser.add_argument(
        "--data",
        action="store_true",
        help="also weight each id by how often it occurs in the training data, and measure the rank of each layer's "
        "output on the validation data",
    )
    add_gpu(parser)
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> str:
    """Write the report."""
    from fuxictr_me.reports.collapse.report import write_collapse_report

    return write_collapse_report(
        arguments.expid,
        arguments.config,
        out=arguments.out,
        checkpoint=arguments.checkpoint,
        compare=arguments.compare,
        data=arguments.data,
        gpu=arguments.gpu,
        overrides=read_overrides(arguments),
    )
