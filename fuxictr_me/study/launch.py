"""Start a study, or continue one, and read its progress."""

import sys
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.config.training_settings import check_gpu
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.study.design import read_study
from fuxictr_me.study.folder_checks import check_code, check_folder, check_layout
from fuxictr_me.study.plan import PLAN, Plan, make_plan, read_plan, write_plan
from fuxictr_me.study.plan_diff import changes, of_contents, refuse_lost_runs
from fuxictr_me.study.progress import only_study, read_state
from fuxictr_me.study.schedule import run_study, terminate_as_interrupt
from fuxictr_me.study.status import status_text
from fuxictr_me.study.study_data import prepare_data


def launch_study(path=None, out=None, gpus=(-1,), jobs=1, dry_run=False, retry_failed=False, changed=False, **given):
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
    check_folder(folder)
    if study and folder.exists() and not (folder / PLAN).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is no study: name another folder by --out")
    if goes_on:
        check_code(read_plan(folder), folder)
        check_layout(read_plan(folder), folder)
    if dry_run:
        from fuxictr_me.study.dry_run import dry_run_text

        return dry_run_text(study, folder, len(gpus) * jobs)
    with terminate_as_interrupt(), only_study(folder):
        plan = _planned(study, folder, changed)
        if retry_failed:
            for run in plan.runs:
                (folder / "failed" / f"{run.expid}.json").unlink(missing_ok=True)
        state = run_study(plan, folder, gpus, jobs)
    text = status_text(plan, state, folder)
    if state.failed:
        raise RunError(f"{text.splitlines()[0]}; see them: fuxictr-me study status {folder}; again: --retry-failed")
    return f"{text}\nReport: fuxictr-me study report {folder}"


def _planned(study, folder: Path, changed: bool) -> Plan:
    """Lay the study out, or check what the folder holds; build its data; and refuse to leave finished runs behind."""
    old = read_plan(folder) if (folder / PLAN).is_file() else None
    words = ""
    if study and old:
        words = changes(study, folder, changed)
    elif not changed:
        refuse_lost_runs(old, folder, of_contents(old, folder)) if old else None
    plan = make_plan(study, folder, old.data if old else None) if study else old
    if words:
        tqdm.write(words, file=sys.stderr)
    prepared = prepare_data(plan, folder)
    if old and old.data and prepared.data["digest"] != old.data["digest"] and not changed:
        refuse_lost_runs(plan, folder, "what was built now has other rows or features")
    write_plan(prepared, folder)
    return prepared


def read_status(folder):
    """How far a study is, as text.

    Raises:
        UsageError: no study there.
    """
    check_folder(Path(folder))
    plan = read_plan(folder)
    return status_text(plan, read_state(plan, Path(folder)), Path(folder))
