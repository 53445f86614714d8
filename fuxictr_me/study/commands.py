"""``fuxictr-me study``: run one, see how far it is, report it."""

import sys
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.settings import check_gpu
from fuxictr_me.study.changes import changes
from fuxictr_me.study.design import read_study
from fuxictr_me.study.plan import PLAN, make_plan, read_plan, write_plan
from fuxictr_me.study.schedule import run_study
from fuxictr_me.study.state import only_study, read_state
from fuxictr_me.study.status import status_text


def run(path=None, out=None, gpus=(-1,), jobs=1, dry_run=False, retry_failed=False, changed=False, **given):
    """Run a study, or what is left of it.

    Args:
        path (str): a study's YAML file, or the folder of a study to go on with; None where all is ``given``.
        out (str): folder of the study; by default the YAML file's name without its ending, or ``study_<dataset_id>``.
        gpus (sequence of int): CUDA devices, -1 for the CPU.
        jobs (int): runs at a time on each.
        dry_run (bool): only say what would be run.
        retry_failed (bool): run again what failed.
        changed (bool): go on although settings differ from those with which runs were made.
        **given: what ``read_study`` takes.

    Returns:
        str: how far it is, and where.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
        RunError: a run failed, or the disk is full.
    """
    for gpu in gpus:
        check_gpu(gpu)
    if jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, got {jobs}")
    goes_on = path is not None and Path(path).is_dir()
    if goes_on and (out is not None or any(value is not None for value in given.values())):
        raise UsageError(f"{path} is the folder of a study, which goes on as it is: name its YAML file to change it")
    study = None if goes_on else read_study(path, **given)
    default = Path(path).stem if path else f"study_{study.dataset_id}" if study else None
    folder = Path(path if goes_on else out or default)
    if study and folder.exists() and not (folder / PLAN).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is no study: name another folder by --out")
    if dry_run:
        from fuxictr_me.study.dry_run import dry_run_text

        return dry_run_text(study, folder, len(gpus) * jobs)
    with only_study(folder):
        words = changes(study, folder, changed) if study and (folder / PLAN).is_file() else ""
        plan = make_plan(study, folder) if study else read_plan(folder)
        write_plan(plan, folder)
        if words:
            tqdm.write(words, file=sys.stderr)
        if retry_failed:
            for file in (folder / "failed").glob("*.json"):
                file.unlink()
        state = run_study(plan, folder, gpus, jobs)
    text = status_text(plan, state, folder)
    if state.failed:
        raise RunError(f"{text.splitlines()[0]}; see them: fuxictr-me study status {folder}; again: --retry-failed")
    return f"{text}\nReport: fuxictr-me study report {folder}"


def status(folder):
    """How far a study is, as text.

    Raises:
        UsageError: no study there.
    """
    plan = read_plan(folder)
    return status_text(plan, read_state(plan, Path(folder)), Path(folder))
