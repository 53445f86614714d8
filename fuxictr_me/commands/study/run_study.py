"""``fuxictr-me study run``: run a study, or continue one."""

import argparse

from fuxictr_me.commands.shared_arguments import add_overrides, read_overrides
from fuxictr_me.errors import UsageError

HELP = "run a study, or continue one"
DESCRIPTION = """\
Run the runs of a study that are not finished. If the command is killed, the
same command continues. Options replace the settings of the study file.

Reads the study's YAML file, and the configs and the data that it names. Writes
the folder of the study: plan, configs, data, checkpoints, results and logs. It
also holds tuner configs, which FuxiCTR's run_param_tuner.py accepts."""
EXAMPLE = "fuxictr-me study run my_study.yaml --gpu 0 1 --jobs 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``study run``."""
    add = parser.add_argument
    add(
        "study",
        nargs="?",
        metavar="FILE",
        help="YAML file of the study, its folder to continue it, or a bundled one: frappe_x1",
    )
    add("--out", metavar="DIR", help="folder of the study (default: the file's name without its ending)")
    add("--dataset", metavar="ID", help="data set: an entry of dataset_config.yaml, of --config or bundled")
    add("--config", metavar="DIR", help="config folder to start from (default: the bundled entry of each model)")
    add("--models", metavar="A,B", help="models as in a config, e.g. DCNv2_ME,AutoInt,my_model:WideDNN")
    add("--kinds", metavar="A,B", help="any of SE, ME, ensemble, ME-linear and ME-SI (default: SE,ME,ensemble)")
    add("--scales", metavar="A,B", help="sizes, as multiples of the base's embedding parameters (default: 1,2,4,10)")
    add("--seeds", metavar="N", help="how many of BARS' five seeds, or a list such as 2024,2025 (default: 5)")
    add("--tuning-seeds", type=int, metavar="N", help="how many of them try each value of a grid (default: 1)")
    add("--gpu", type=int, nargs="+", default=[-1], metavar="N", help="CUDA devices, -1 for the CPU (default: -1)")
    add("--jobs", type=int, default=1, metavar="N", help="simultaneous runs on each device (default: 1)")
    add("--dry-run", action="store_true", help="list the runs with their parameters, memory and time; run nothing")
    add("--retry-failed", action="store_true", help="run failed runs again")
    add("--changed", action="store_true", help="continue although finished runs have other settings")
    add_overrides(parser)


def run(arguments: argparse.Namespace) -> str:
    """Run what is not finished, and return the progress."""
    from fuxictr_me.study.launch import launch_study

    a = arguments
    seeds = _parse_numbers("--seeds", a.seeds)
    return launch_study(
        a.study,
        a.out,
        a.gpu,
        a.jobs,
        dry_run=a.dry_run,
        retry_failed=a.retry_failed,
        changed=a.changed,
        dataset_id=a.dataset,
        config=a.config,
        settings=read_overrides(a) or None,
        models=_parse_names(a.models),
        kinds=_parse_names(a.kinds),
        scales=_parse_numbers("--scales", a.scales),
        seeds=seeds[0] if seeds and "," not in a.seeds else seeds,  # one number is a count
        tuning_seeds=a.tuning_seeds,
    )


def _parse_names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _parse_numbers(option: str, text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} must be whole numbers such as 1,2,4, got {text!r}") from None
