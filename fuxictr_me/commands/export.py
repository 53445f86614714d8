"""``fuxictr-me export``: write what a server needs of a run."""

import argparse

from fuxictr_me.commands.shared_arguments import (
    add_checkpoint,
    add_experiment,
    add_new_folder,
    add_overrides,
    read_overrides,
)

HELP = "export a run for a server: model and vocabulary"
DESCRIPTION = """\
Export a finished run for a server that has no FuxiCTR.

Reads the config, the data set and the checkpoint of the run. Writes the model
(for any batch size), vocabulary.json (which maps raw values to ids),
predict.py (an example that needs only numpy and onnxruntime) and
manifest.json to --out. Predictions of the exported model are compared with
those of the run first; if they differ, nothing is written. Needs the
[serving] extra."""
EXAMPLE = "fuxictr-me export --config my_config --expid ME_4x --out served"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    add_experiment(parser)
    parser.add_argument(
        "--format",
        default="onnx",
        choices=("onnx", "pt2", "safetensors"),
        help="onnx, pt2 (PyTorch's own archive) or safetensors (weights only) (default: onnx)",
    )
    add_new_folder(parser)
    add_checkpoint(parser)
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> str:
    """Write the export."""
    from fuxictr_me.serving.export import export_run

    a = arguments
    overrides = read_overrides(a)
    return export_run(a.expid, a.config, a.out, file_format=a.format, checkpoint=a.checkpoint, overrides=overrides)
