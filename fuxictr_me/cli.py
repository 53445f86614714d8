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
    return parser


def main(argv=None):
    """Run a command.

    Args:
        argv (list of str): the arguments; those of the process if None.

    Returns:
        int: exit code: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted.
    """
    arguments = build_parser().parse_args(argv)
    try:
        {"run_expid": _run_expid, "host": _host, "quickstart": _quickstart, "zoo": _zoo}[arguments.command](arguments)
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


def _fail(message, code):
    """One line on stderr, and in the run's log where there is one; returns the exit code."""
    line = " ".join(message.split())
    print(f"fuxictr-me: error: {line}", file=sys.stderr)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": line}))
    return code
