"""Start a study or continue one, and read its status."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.config.training_settings import check_gpu
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.study.design import Study
from fuxictr_me.study.folder_checks import check_code, check_folder, check_layout
from fuxictr_me.study.plan_diff import describe_changes, find_data_change, refuse_lost_runs
from fuxictr_me.study.plan_file import PLAN, Plan, read_plan, write_plan
from fuxictr_me.study.progress import read_progress
from fuxictr_me.study.run_claims import lock_study
from fuxictr_me.study.schedule import run_study
from fuxictr_me.study.status import describe_progress
from fuxictr_me.study.study_data import prepare_data
from fuxictr_me.study.study_file import find_bundled_study, read_study
from fuxictr_me.study.study_layout import lay_out_study


def launch_study(
    path: str | None = None,
    out: str | None = None,
    gpus: Sequence[int] = (-1,),
    jobs: int = 1,
    dry_run: bool = False,
    retry_failed: bool = False,
    changed: bool = False,
    **given: object,
) -> str:
    """Run a study, or what is left of it.

    Args:
        path: a study's YAML file, the name of a bundled study, or the folder of a study to continue; None if all is
            ``given``.
        out: folder of the study; by default the YAML file's name without its suffix, or ``study_<dataset_id>``.
        gpus: CUDA devices, -1 for the CPU.
        jobs: number of runs at a time on each.
        dry_run: only describe what would be run.
        retry_failed: run failed runs again.
        changed: continue although finished runs had other settings.
        **given: settings of ``read_study``.

    Returns:
        the progress, and how to report it.

    Raises:
        UsageError: one line that says what is wrong, what was found and what is allowed.
        RunError: a run failed, or the disk is full.
    """
    for gpu in gpus:
        check_gpu(gpu)
    if jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, got {jobs}")
    study, folder = _find_study(path, out, given)
    check_folder(folder)
    if study and folder.exists() and not (folder / PLAN).is_file() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is not a study: choose another folder with --out")
    if study is None:
        check_code(read_plan(folder), folder)
        check_layout(read_plan(folder), folder)
    if dry_run:
        from fuxictr_me.study.dry_run import describe_dry_run  # imports the estimates, which only a dry run needs

        return describe_dry_run(study, folder, len(gpus) * jobs)
    with lock_study(folder):
        plan = _prepare_plan(study, folder, changed)
        if retry_failed:
            for run in plan.runs:
                (folder / "failed" / f"{run.expid}.json").unlink(missing_ok=True)
        progress = run_study(plan, folder, gpus, jobs)
    text = describe_progress(plan, progress, folder)
    if progress.failed:
        summary = text.splitlines()[0]
        raise RunError(f"{summary}; show them: fuxictr-me study status {folder}; run them again: --retry-failed")
    return f"{text}\nReport: fuxictr-me study report {folder}"


def _find_study(path: str | None, out: str | None, given: dict) -> tuple[Study | None, Path]:
    """Return the study to lay out, None to continue the one in a folder; and its folder."""
    if path is not None and (bundled := find_bundled_study(path)):
        return read_study(bundled, **given), Path(out or f"study_{path}")
    if path is None or not Path(path).is_dir():
        study = read_study(path, **given)
        return study, Path(out or (Path(path).stem if path else f"study_{study.dataset_id}"))
    if out is not None or any(value is not None for value in given.values()):
        raise UsageError(f"{path} is the folder of a study, which continues as it is: name its YAML file to change it")
    return None, Path(path)


def read_status(folder: str | Path) -> str:
    """Return the progress of a study as text.

    Raises:
        UsageError: the folder is not a study.
    """
    folder = Path(folder)
    check_folder(folder)
    plan = read_plan(folder)
    return describe_progress(plan, read_progress(plan, folder), folder)


def _prepare_plan(study: Study | None, folder: Path, changed: bool) -> Plan:
    """Lay out a study, or check the plan that its folder has; build its data; refuse to lose finished runs."""
    old = read_plan(folder) if (folder / PLAN).is_file() else None
    changes = ""
    if study and old:
        changes = describe_changes(study, folder, changed)
    elif old and not changed:
        refuse_lost_runs(old, folder, find_data_change(old, folder))
    plan = lay_out_study(study, folder, old.data if old else None) if study else read_plan(folder)
    if changes:
        tqdm.write(changes, file=sys.stderr)
    prepared = prepare_data(plan, folder)
    if old and old.data and prepared.data["digest"] != old.data["digest"] and not changed:
        refuse_lost_runs(plan, folder, "the data set that was built now has other rows or features")
    write_plan(prepared, folder)
    return prepared
