"""The command line: arguments in, one-line errors out."""

import argparse
import logging
import os
import sys
from pathlib import Path

from fuxictr_me import __version__
from fuxictr_me.errors import RunError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def build_parser():
    """The parser of ``fuxictr-me``; every command and option says what it does."""
    parser = argparse.ArgumentParser(
        prog="fuxictr-me",
        description="Multi-embedding CTR models for FuxiCTR, and a measure of whether embeddings collapse.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"fuxictr-me {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run_expid",
        help="train and evaluate one experiment of a config folder",
        description="Train and evaluate one experiment. Log, checkpoint and IA file go to "
        "<model_root>/<dataset_id>/, the result row to <config folder's name>.csv in the working directory.",
    )
    run.add_argument(
        "--config",
        help="folder of model_config.yaml and dataset_config.yaml (default: the bundled entry that has EXPID)",
    )
    run.add_argument("--expid", required=True, help="experiment id, e.g. DCNv2_ME_test")
    run.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")

    host = commands.add_parser(
        "host",
        help="run an unmodified FuxiCTR script with our models in its model zoo",
        description="Run an unmodified FuxiCTR script, e.g. FuxiCTR/experiment/run_expid.py, with our models in "
        "its model zoo beside its own. `callbacks:` in a config then works for every model.",
    )
    host.add_argument("script", help="path of the script")
    host.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")

    quick = commands.add_parser(
        "quickstart",
        help="single against multi-embedding on real data, in minutes",
        description="Train DCNv2 on 327,346 flights (not CTR data, but real and free): SE 1x, SE 4x and ME 4x; "
        "end with a table and a picture of accuracy and collapse.",
    )
    quick.add_argument(
        "--fast", action="store_true", help="a tenth of the data, small networks, one epoch: a smoke test"
    )
    quick.add_argument("--out", default="quickstart", help="folder to work in (default: ./quickstart)")
    quick.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    quick.add_argument("--seed", type=int, default=2024, help="of the three runs (default: 2024)")

    zoo = commands.add_parser(
        "zoo",
        help="list the bundled model zoo, or copy an entry to start from",
        description="List the bundled model zoo; with MODEL and FOLDER, copy that entry's config there.",
    )
    zoo.add_argument("model", nargs="?", help="e.g. DCNv2_ME")
    zoo.add_argument("folder", nargs="?", help="folder to copy the config to (must not exist)")
    _add_data_commands(commands)
    return parser


def _add_data_commands(commands):
    data = commands.add_parser(
        "data",
        help="build, look at, verify, convert or generate data sets",
        description="H5 data sets: from csv or parquet, from FuxiCTR's own ids of any version, or generated.",
    )
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="csv or parquet to H5, with FuxiCTR's ids",
        description="Build <out>/<DATASET_ID>/ as H5 through FuxiCTR's FeatureProcessor, in bounded memory.",
    )
    build.add_argument("dataset_id", help="an entry of dataset_config.yaml, e.g. criteo_x4_001")
    build.add_argument("--config", help="dataset_config.yaml or its folder (default: the bundled entry)")
    build.add_argument("--raw", help="folder of the csv or parquet files (default: the paths of the config)")
    build.add_argument("--out", default="./data/", help="data_root to build in (default: ./data/)")
    info = actions.add_parser("info", help="what a built data set holds")
    info.add_argument("folder", help="of the set, e.g. data/criteo_x4_001")
    verify = actions.add_parser(
        "verify",
        help="check a built set against its manifest, or published csv files against their md5",
        description="Exit code 1 where a file differs. Published data sets go by their folder's name, e.g. Criteo_x4.",
    )
    verify.add_argument("folder", help="of a built set, or of the published csv files")
    convert = actions.add_parser(
        "convert",
        help="FuxiCTR's H5 (1.x to 2.1), npz or parquet ids to H5",
        description="Write the ids of a built data set as H5; no raw data are needed.",
    )
    convert.add_argument("source", help="folder with feature_map.json and the splits")
    convert.add_argument("target", help="folder to write (must not exist)")
    generate = actions.add_parser(
        "generate",
        help="Criteo-shaped data with planted interactions of known rank",
        description="For benchmarks and tests of collapse; 80 / 10 / 10 % of the rows train, valid, test.",
    )
    generate.add_argument("--out", required=True, help="folder to write (must not exist)")
    generate.add_argument("--rows", type=int, default=1_000_000, help="of all splits together (default: 1000000)")
    generate.add_argument("--num-fields", type=int, default=39, help="(default: 39)")
    generate.add_argument("--num-ids", type=int, default=1_000_000, help="of all fields together (default: 1000000)")
    generate.add_argument("--rank", type=int, default=4, help="of each planted interaction (default: 4)")
    generate.add_argument("--exponent", type=float, default=1.05, help="of the ids' power law (default: 1.05)")
    generate.add_argument("--seed", type=int, default=0, help="(default: 0)")


def main(argv=None):
    """Run a command.

    Args:
        argv (list of str): the arguments; those of the process if None.

    Returns:
        int: exit code: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted.
    """
    arguments = build_parser().parse_args(argv)
    try:
        run = {"run_expid": _run_expid, "host": _host, "quickstart": _quickstart, "zoo": _zoo, "data": _data}
        run[arguments.command](arguments)
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    except (RunError, OSError) as error:
        return _fail(str(error), EXIT_FAILED)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; it is not imported here
            raise
        return _fail(f"out of memory: a smaller batch_size, num_sets or embedding_dim helps. {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; the last checkpoint and what was written before it stay whole", EXIT_INTERRUPTED)
    return 0


def entry_point():
    """``fuxictr-me`` and ``python -m fuxictr_me``."""
    sys.exit(main())


def run_entry(script):
    """``python model_zoo/<Model>/run_expid.py ...``: ``run_expid`` on the config folder beside the script.

    Args:
        script (str): ``__file__`` of the script. A ``--config`` on its command line takes precedence.
    """
    config = os.path.relpath(Path(script).parent / "config")
    sys.exit(main(["run_expid", "--config", config, *sys.argv[1:]]))


def _run_expid(arguments):
    from fuxictr_me.experiment import run_expid

    run_expid(arguments.expid, arguments.config, arguments.gpu)


def _host(arguments):
    from fuxictr_me.host import run_script

    run_script(arguments.script, arguments.arguments)


def _quickstart(arguments):
    from fuxictr_me.quickstart import run

    print(run(arguments.out, fast=arguments.fast, gpu=arguments.gpu, seed=arguments.seed))


def _zoo(arguments):
    from fuxictr_me.errors import unknown
    from fuxictr_me.resources import copy_config, zoo_configs

    configs = zoo_configs()
    if arguments.model is None:
        for name, folder in configs.items():
            print(f"{name:<12} {folder}")
        return
    if arguments.model not in configs:
        raise unknown("model of the bundled zoo", arguments.model, configs)
    if arguments.folder is None:
        print(configs[arguments.model])
        return
    if Path(arguments.folder).exists():
        raise UsageError(f"{arguments.folder} exists already")
    copy_config(configs[arguments.model], Path(arguments.folder))
    print(f"{arguments.model}: config copied to {arguments.folder}")


def _data(arguments):
    from fuxictr_me.data import commands

    if arguments.action == "build":
        print(commands.build(arguments.dataset_id, arguments.config, arguments.out, arguments.raw))
    elif arguments.action == "info":
        print(commands.info(arguments.folder))
    elif arguments.action == "convert":
        print(commands.convert(arguments.source, arguments.target))
    elif arguments.action == "generate":
        settings = {key: getattr(arguments, key) for key in ("num_fields", "num_ids", "rank", "exponent", "seed")}
        print(commands.generate(arguments.out, arguments.rows, **settings))
    else:
        good, text = commands.verify(arguments.folder)
        print(text)
        if not good:
            raise RunError(f"{arguments.folder} is not as it should be")


def _fail(message, code):
    """One line on stderr, and in the run's log where there is one; returns the exit code."""
    line = " ".join(message.split())
    print(f"fuxictr-me: error: {line}", file=sys.stderr)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": line}))
    return code
