"""``fuxictr-me run_expid``: train and evaluate one experiment."""

import argparse

from fuxictr_me.commands.shared_arguments import add_experiment, add_gpu, add_overrides, read_overrides

HELP = "train and evaluate one experiment of a config"
DESCRIPTION = """\
Train and evaluate one experiment.

Reads the two YAML files of --config and the data that they name. Raw csv or
parquet files are built into <data_root>/<dataset_id>/ first, unless that is
done. Writes the log, the checkpoint, the results and, with the callback
InformationAbundance, <ID>.ia.csv to <model_root>/<dataset_id>/. Appends a
result row to <name of the config folder>.csv in the working directory.

To train on several processes, start this command with torchrun and --engine."""
EXAMPLE = "fuxictr-me run_expid --config my_config --expid DCNv2_ME_test --gpu 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``run_expid``."""
    add_experiment(parser)
    add_gpu(parser)
    parser.add_argument(
        "--engine",
        choices=("set-parallel", "sharded", "ddp", "auto"),
        help="how the processes that torchrun starts share the run. set-parallel: each trains some of the embedding "
        "sets. sharded: each has some rows of all tables and of each batch. ddp: each has a copy of the model and "
        "some rows of each batch. auto: the engine that is estimated to be the fastest of those that fit",
    )
    parser.add_argument(
        "--set-groups",
        type=int,
        metavar="S",
        help="with --engine set-parallel: divide the sets over S groups of processes, and rows within each group "
        "(default: as many groups as processes, if there are as many sets)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the state of training in <ID>.resume after each epoch, and continue from there if it exists",
    )
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, in this process alone or with the others that torchrun started."""
    from fuxictr_me.runs.experiment import run_expid  # torch and FuxiCTR take seconds, and --help needs neither
    from fuxictr_me.runs.open_runtime import open_runtime

    overrides = read_overrides(arguments)
    with open_runtime(arguments.gpu, arguments.engine, arguments.set_groups, arguments.resume) as runtime:
        run_expid(arguments.expid, arguments.config, runtime=runtime, overrides=overrides)
