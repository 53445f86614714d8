"""How far a study is: its files tell which runs are finished, failed and running, and which are due."""

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fuxictr.utils import Monitor

from fuxictr_me.errors import UsageError
from fuxictr_me.runs.result_files import read_failure, read_result


@dataclass(frozen=True)
class State:
    """The runs of a study by how far they are.

    Attributes:
        results (dict): expid of the plan -> what the run left, for those that are finished.
        failed (dict): expid -> what is recorded of its failure.
        running (set of str): expids of those that a process is at.
        chosen (dict): cell -> values of its grid, for the cells whose choice is made.
        due (list of Run): to be run, in order; those of a choice not yet made are not in it.
        total (int): runs of the whole study: of each cell its grid with the first seed, and the choice with the others.
    """

    results: dict
    failed: dict
    running: set
    chosen: dict
    due: list
    total: int

    @property
    def counted(self):
        """Runs that are finished and part of the study's total."""
        return len(self.results)


def read_state(plan, folder):
    """Read a study's files.

    Args:
        plan (Plan), folder (Path): of the study.

    Returns:
        State
    """
    folder = Path(folder)
    results = find_results(plan, folder)
    failed = {expid: record for expid, record in read_failed(plan, folder).items() if expid not in results}
    running = {run.expid for run in plan.runs if is_running(folder, run.expid)}
    chosen = {}
    for cell in plan.cells.values():
        values = choose(plan, cell, results, failed)
        if values is not None:
            chosen[cell.name] = values
    first = [run for run in plan.runs if run.seed == plan.seeds[0]]
    later = [
        run for seed in plan.seeds[1:] for run in plan.runs if run.seed == seed and chosen.get(run.cell) == run.values
    ]
    wanted = first + later
    results = {run.expid: results[run.expid] for run in wanted if run.expid in results}
    due = [run for run in wanted if run.expid not in {*results, *failed, *running}]
    return State(results, failed, running, chosen, due, len(first) + len(plan.cells) * (len(plan.seeds) - 1))


def choose(plan, cell, results, failed):
    """The values of a cell's grid whose run with the first seed has the best validation; None while some are not done.

    Args:
        plan (Plan), cell (Cell)
        results (dict), failed (dict): expid -> of the finished and of the failed.

    Returns:
        dict or None: None also where all of them failed.
    """
    if not cell.grid:
        return {}
    runs = plan.of_cell(cell.name, plan.seeds[0])
    if any(run.expid not in results and run.expid not in failed for run in runs):
        return None
    finished = [run for run in runs if run.expid in results]
    if not finished:
        return None
    pick = max if cell.settings.get("monitor_mode", "max") == "max" else min
    best = pick(finished, key=lambda run: monitored(results[run.expid]["valid"], cell.settings))
    return best.values


def monitored(metrics: dict, settings: dict) -> float:
    """Return the number that early stopping watches: a metric, or a weighted sum of several.

    Raises:
        UsageError: a run has recorded no such metric, which FuxiCTR would count as 0.
    """
    monitor = Monitor(settings.get("monitor", "AUC"))
    if lacking := [name for name in monitor.get_metrics() if name not in metrics]:
        raise UsageError(
            f"runs of this study recorded no {', '.join(lacking)}, by which it chooses: add it to metrics and run again"
        )
    return monitor.get_value(metrics)


def find_results(plan, folder: Path) -> dict:
    """Return expid of the plan -> content of the result file of the run with its settings, on the study's data.

    Settings and data are compared by the digests that a run records, for FuxiCTR numbers the runs of a cell anew when
    its space changes: a finished run counts under whatever expid it was run.
    """
    found = {}
    for path in sorted(folder.glob("checkpoints/*/*.json")):
        if content := read_result(path):
            found.setdefault(_kin(content["settings"]), []).append(content)
    results = {}
    for run in plan.runs:
        alike = [content for content in found.get(_kin(run.settings), []) if is_of_design(plan, run, content)]
        if alike:
            results[run.expid] = next((content for content in alike if content["expid"] == run.expid), alike[0])
    return results


def is_of_design(plan, run, record: dict) -> bool:
    """Whether a result, or the record of a failure, is of the settings and the data that the plan has of a run.

    A plan without digests is of an older version: of such, settings are compared by name.
    """
    if plan.data and record.get("data_digest") != plan.data["digest"]:
        return False
    if run.settings_digest:
        return record.get("settings_digest") == run.settings_digest
    return not differences(run, record.get("settings", run.settings))


def _kin(settings):
    """What tells most runs apart."""
    return tuple(str(settings.get(key)) for key in ("model", "seed", "num_sets", "embedding_dim"))


def differences(run, settings):
    """Settings of a planned run that another has otherwise: name -> (planned, other)."""
    return {key: (value, settings.get(key)) for key, value in run.settings.items() if settings.get(key) != value}


def read_failed(plan, folder: Path) -> dict:
    """Return expid -> what is recorded of its failure, of the runs of the plan; of other settings or data none is."""
    found = {run.expid: read_failure(folder / "failed" / f"{run.expid}.json") for run in plan.runs}
    by_expid = {run.expid: run for run in plan.runs}
    failed = {expid: record for expid, record in found.items() if record}
    return {
        expid: record
        for expid, record in failed.items()
        if "settings_digest" not in record or is_of_design(plan, by_expid[expid], record)
    }


def progress_of(folder, data_folder, expid):
    """Where a run is, read off FuxiCTR's log: e.g. ``epoch 3, AUC: 0.771257``; empty before its first epoch."""
    path = folder / "checkpoints" / Path(data_folder).name / f"{expid}.log"
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    if "Start training" not in text:
        return ""
    metrics = re.findall(r"\[Metrics\] (.+)", text)
    where = "evaluating" if "Training finished" in text else f"epoch {len(re.findall(r'Epoch=[0-9]+ end', text)) + 1}"
    return where + (f", {metrics[-1].strip()}" if metrics else "")


def is_running(folder: Path, expid: str) -> bool:
    """Whether a process is at a run, of this study process or of one that was killed."""
    path = folder / "running" / expid
    if path.is_symlink() or not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def processes_at(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Return expid -> (process, device) of all runs that a process is at, also those of an earlier plan.

    The process is ``unknown``, the device None, where a run has not been noted down.
    """
    found = {}
    for path in sorted((folder / "running").glob("*")):
        if is_running(folder, path.name):
            noted = path.read_text(errors="replace").split()
            known = len(noted) == 2 and noted[0].isdigit() and noted[1].lstrip("-").isdigit()
            found[path.name] = (noted[0], int(noted[1])) if known else ("unknown", None)
    return found


def claim(folder: Path, expid: str):
    """Mark a run as running, for as long as the file that is returned is open in any process.

    Returns:
        file or None: None where another process is at it.
    """
    path = folder / "running" / expid
    path.parent.mkdir(exist_ok=True)
    file = _open_own(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    return file


@contextlib.contextmanager
def only_study(folder: Path):
    """One study process at a time in a folder.

    Raises:
        UsageError: another one is at it, which is named.
    """
    whole = Path(folder).resolve()
    path = whole.parent / f".{whole.name}.lock"  # beside it: the folder is there when its plan is
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_own(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another fuxictr-me study works in {folder} (process {file.read().strip() or 'unknown'}): wait for "
                f"it, or see how far it is: fuxictr-me study status {folder}"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _open_own(path: Path):
    """Open a file of ours for reading and writing; a symbolic link is not followed.

    Raises:
        UsageError: it is a link, or no file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} is a link or no file: a study writes to files of its own")
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
