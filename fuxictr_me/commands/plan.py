"""``fuxictr-me plan``: estimate what a run needs before it starts."""

import argparse
from collections.abc import Mapping

from fuxictr_me.commands.shared_arguments import add_experiment, add_overrides, read_overrides

HELP = "estimate memory and time of a run before it starts"
DESCRIPTION = """\
Estimate the parameters and the memory of a run, and the FLOPs, bytes and time
of a training step on a GPU. No GPU is needed and no large memory is allocated.
If the run does not fit, changes that would make it fit are listed.

Reads the config, and the data set if it is built; if not, the vocabulary sizes
of --vocabulary or of the published data set. Writes nothing."""
EXAMPLE = "fuxictr-me plan --config my_config --expid ME_4x --gpu-model A100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``plan``."""
    add_experiment(parser)
    parser.add_argument(
        "--gpu-model", default="H100", metavar="NAME", help="GPU whose memory and speed are assumed (default: H100)"
    )
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="JSON file, field: number of ids (default: as in the built data set, or as published)",
    )
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> str:
    """Return the estimate."""
    a = arguments
    return plan_run(a.expid, a.config, a.gpu_model, a.vocabulary, read_overrides(a))


def plan_run(
    expid: str,
    config: str | None = None,
    gpu_model: str = "H100",
    vocabulary: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """Estimate what an experiment needs on a GPU.

    Args:
        expid: experiment id.
        config: config folder; the bundled entry that has ``expid`` if None.
        gpu_model: name of a GPU in ``fuxictr_me.estimates.GPUS``.
        vocabulary: JSON file, field -> number of ids, which replaces a built data set.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Returns:
        A table.

    Raises:
        UsageError: invalid settings, or a data set that is neither built nor of known vocabulary.
    """
    from fuxictr_me.config import find_config
    from fuxictr_me.estimates.report import report_plan
    from fuxictr_me.runs.find_feature_map import find_feature_map
    from fuxictr_me.runs.run_settings import load_settings

    folder = config or find_config(expid)
    params = load_settings(folder, expid, find_data=False, overrides=overrides)
    feature_map, source = find_feature_map(params, folder, vocabulary)
    return report_plan(expid, params, feature_map, source, gpu_model)
