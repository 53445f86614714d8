"""``fuxictr-me bars``: write an entry of the BARS benchmark, or check one."""

import argparse
import sys
from collections.abc import Iterable

from fuxictr_me.bars import SEEDS
from fuxictr_me.errors import RunError, UsageError

HELP = "write or check an entry of the BARS benchmark"
DESCRIPTION = f"""\
Write an entry of the BARS benchmark (github.com/reczoo/BARS) from finished
runs that differ in the seed alone, or check an entry.

To write, name the runs. Reads their configs, results and logs. Writes
<out>/<NAME>_<dataset>/. All seeds of BARS
({", ".join(map(str, SEEDS))}) are required,
unless --allow-fewer is given.

To check, give `check` and a folder: an entry that this command has written, or
a published one. Writes nothing; the exit code is 1 if something is wrong."""
EXAMPLE = "fuxictr-me bars DNN_ME_1 DNN_ME_2 --config my_config --out entries --allow-fewer"
USAGE = """fuxictr-me bars EXPID [EXPID ...] [--config DIR] [--out DIR] [--title NAME] [--allow-fewer]
       fuxictr-me bars check DIR [--run] [--data-root DIR] [--gpu N]"""
WRITING_OPTIONS = ("config", "out", "title", "allow_fewer")
CHECKING_OPTIONS = ("run", "data_root", "gpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bars``."""
    parser.usage = USAGE
    parser.add_argument("words", nargs="+", metavar="EXPID | check DIR", help="finished runs, or the entry to check")
    writing = parser.add_argument_group("to write an entry")
    writing.add_argument("--config", metavar="DIR", help="config folder (default: the bundled entry that has EXPID)")
    writing.add_argument("--out", metavar="DIR", help="folder to write the entry in (default: the working directory)")
    writing.add_argument("--title", metavar="NAME", help="name of the model in the entry (default: its class)")
    writing.add_argument("--allow-fewer", action="store_true", help="accept fewer seeds than BARS', or other seeds")
    checking = parser.add_argument_group("to check an entry")
    checking.add_argument("--run", action="store_true", help="also train the first row again, and compare")
    checking.add_argument(
        "--data-root", metavar="DIR", help="with --run: folder of the data (default: as the config says)"
    )
    checking.add_argument("--gpu", type=int, metavar="N", help="with --run: CUDA device, -1 for the CPU (default: -1)")


def run(arguments: argparse.Namespace) -> str:
    """Write an entry, or check one.

    Raises:
        UsageError: a wrong argument, or runs that do not make an entry.
        RunError: an entry with errors; the results of the checks are on stdout already.
    """
    if arguments.words[0] == "check":
        _refuse(arguments, WRITING_OPTIONS, "EXPID")
        return _check(arguments)
    _refuse(arguments, CHECKING_OPTIONS, "check DIR")
    from fuxictr_me.bars.write_entry import write_entry

    return write_entry(arguments.words, arguments.config, arguments.out or ".", arguments.title, arguments.allow_fewer)


def _check(arguments: argparse.Namespace) -> str:
    from fuxictr_me.bars.check import check_entry
    from fuxictr_me.bars.rerun import rerun

    if len(arguments.words) != 2:
        raise UsageError(f"bars check takes the folder of one entry, got {len(arguments.words) - 1}")
    if not arguments.run and (arguments.data_root, arguments.gpu) != (None, None):
        raise UsageError("--data-root and --gpu are for --run")
    folder = arguments.words[1]
    results = check_entry(folder)
    if arguments.run and not any(result.is_bad for result in results):
        results += rerun(folder, arguments.data_root, -1 if arguments.gpu is None else arguments.gpu)
    text = "\n".join(map(str, results))
    bad = sum(result.is_bad for result in results)
    if bad:
        sys.stdout.write(text + "\n")
        raise RunError(f"{folder}: {bad} of {len(results)} checks failed")
    return text


def _refuse(arguments: argparse.Namespace, options: Iterable[str], form: str) -> None:
    """Refuse options of the other form of the command."""
    for name in options:
        value = getattr(arguments, name)
        if value is not None and value is not False:  # --gpu 0 equals False
            raise UsageError(f"--{name.replace('_', '-')} goes with `bars {form}`")
