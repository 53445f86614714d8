"""``fuxictr-me export-embeddings``: write the embedding tables of a run."""

import argparse

from fuxictr_me.commands.shared_arguments import (
    add_checkpoint,
    add_experiment,
    add_new_folder,
    add_overrides,
    read_overrides,
)

HELP = "write the embedding tables of a run to files"
DESCRIPTION = """\
Write the embedding tables of a finished run of any FuxiCTR model, one file per
field: id, raw value, and the embedding in each set.

Reads the config, the feature map, the vocabulary and the checkpoint of the
run; the code of the model is not needed. Writes <field>.parquet or
<field>.npz, and index.json, to --out."""
EXAMPLE = "fuxictr-me export-embeddings --config my_config --expid ME_4x --out tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export-embeddings``."""
    add_experiment(parser)
    add_new_folder(parser)
    add_checkpoint(parser)
    add_overrides(parser)
    parser.add_argument("--fields", nargs="+", metavar="FIELD", help="fields to write (default: all)")
    parser.add_argument(
        "--format", default="parquet", choices=("parquet", "npz"), help="file format (default: parquet)"
    )


def run(arguments: argparse.Namespace) -> str:
    """Write the tables."""
    from fuxictr_me.serving.export_embeddings import export_run_embeddings

    return export_run_embeddings(
        arguments.expid,
        arguments.config,
        arguments.out,
        file_format=arguments.format,
        fields=arguments.fields,
        checkpoint=arguments.checkpoint,
        overrides=read_overrides(arguments),
    )
