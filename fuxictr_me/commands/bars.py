"""``fuxictr-me bars``: its arguments, and what is done with them."""

import sys

from fuxictr_me.bars import SEEDS
from fuxictr_me.errors import RunError, UsageError

USAGE = """fuxictr-me bars EXPID [EXPID ...] [--config DIR] [--out DIR] [--title NAME] [--allow-fewer]
       fuxictr-me bars check DIR [--run] [--data-root DIR] [--gpu N]"""
OF_WRITING = {"config": None, "out": None, "title": None, "allow_fewer": False}
OF_CHECKING = {"run": False, "data_root": None, "gpu": None}


def add_bars(commands):
    """Add ``bars`` to the subparsers of ``fuxictr-me``."""
    bars = commands.add_parser(
        "bars",
        usage=USAGE,
        help="write an entry of the BARS benchmark from finished runs, or check one",
        description="Write <out>/<NAME>_<dataset>/ as BARS' entries are, from finished runs that differ by the seed "
        f"alone: all of BARS' seeds ({', '.join(map(str, SEEDS))}) unless --allow-fewer is given. "
        "With check, verify an entry, ours or a published one; exit code 1 where something is wrong.",
    )
    bars.add_argument("words", nargs="+", metavar="EXPID | check DIR", help="finished runs, or the entry to check")
    writing = bars.add_argument_group("to write an entry")
    writing.add_argument("--config", help="folder of the configs (default: the bundled entry that has EXPID)")
    writing.add_argument("--out", help="folder to write the entry in (default: the working directory)")
    writing.add_argument("--title", metavar="NAME", help="the model's name in the entry (default: its class)")
    writing.add_argument("--allow-fewer", action="store_true", help="take other seeds than BARS', or fewer")
    checking = bars.add_argument_group("to check an entry")
    checking.add_argument("--run", action="store_true", help="also train the first row again, and compare")
    checking.add_argument("--data-root", metavar="DIR", help="where the data lie (default: where the config says)")
    checking.add_argument("--gpu", type=int, help="CUDA device of --run, -1 for the CPU (default: -1)")


def run(arguments):
    """Do what ``fuxictr-me bars`` was asked.

    Returns:
        str: to print.

    Raises:
        UsageError: a wrong argument, or runs that do not make an entry.
        RunError: an entry that is not as it should be; what was found is on stdout already.
    """
    if arguments.words[0] != "check":
        from fuxictr_me.bars.entry import write_entry

        _refuse(arguments, OF_CHECKING, "check DIR")
        given = {key: getattr(arguments, key) for key in OF_WRITING if key != "out"}
        return write_entry(arguments.words, out=arguments.out or ".", **given)

    from fuxictr_me.bars.check import check_entry
    from fuxictr_me.bars.rerun import rerun

    _refuse(arguments, OF_WRITING, "EXPID")
    if len(arguments.words) != 2:
        raise UsageError(f"bars check takes the folder of one entry, got {len(arguments.words) - 1}")
    if not arguments.run and (arguments.data_root, arguments.gpu) != (None, None):
        raise UsageError("--data-root and --gpu are for --run")
    folder = arguments.words[1]
    findings = check_entry(folder)
    if arguments.run and not any(finding.is_bad for finding in findings):
        findings += rerun(folder, arguments.data_root, -1 if arguments.gpu is None else arguments.gpu)
    text = "\n".join(map(str, findings))
    bad = sum(finding.is_bad for finding in findings)
    if bad:
        sys.stdout.write(text + "\n")
        raise RunError(f"{folder}: {bad} of {len(findings)} checks failed")
    return text


def _refuse(arguments, options, place):
    for key, default in options.items():
        if getattr(arguments, key) != default:
            raise UsageError(f"--{key.replace('_', '-')} goes with `bars {place}`")
