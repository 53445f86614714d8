"""Read the progress of a study from its files: which runs are finished, failed, running and due."""

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fuxictr.utils import Monitor

from fuxictr_me.errors import UsageError
from fuxictr_me.runs.read_result import read_json, read_result
from fuxictr_me.study.design import Cell
from fuxictr_me.study.plan_file import Plan, Run
from fuxictr_me.study.run_claims import is_running


@dataclass(frozen=True)
class Progress:
    """The runs of a study by their state.

    Attributes:
        results: expid -> result file, of the finished runs.
        failed: expid -> record of the failure.
        running: expids of the runs that a process is running.
        chosen: cell -> values of its grid, for the cells whose choice is made.
        due: runs that can start, in order; not those that wait for a choice.
        total: number of runs of the whole study: for each cell, its grid with the seeds for tuning, and the chosen
            settings with the other seeds.
    """

    results: dict[str, dict]
    failed: dict[str, dict]
    running: set[str]
    chosen: dict[str, dict]
    due: list[Run]
    total: int

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return len(self.results)


def read_progress(plan: Plan, folder: str | Path) -> Progress:
    """Read the files of a study."""
    folder = Path(folder)
    results = find_results(plan, folder)
    failed = {expid: record for expid, record in _find_failures(plan, folder).items() if expid not in results}
    running = {run.expid for run in plan.runs if is_running(folder, run.expid)}
    choices = {cell.name: choose_values(plan, cell, results, failed) for cell in plan.cells.values()}
    chosen = {name: values for name, values in choices.items() if values is not None}
    tuning, rest = plan.seeds[: plan.tuning_seeds], plan.seeds[plan.tuning_seeds :]
    first = [run for seed in tuning for run in plan.runs if run.seed == seed]
    later = [run for seed in rest for run in plan.runs if run.seed == seed and chosen.get(run.cell) == run.values]
    wanted = first + later
    results = {run.expid: results[run.expid] for run in wanted if run.expid in results}
    due = [run for run in wanted if run.expid not in {*results, *failed, *running}]
    return Progress(results, failed, running, chosen, due, sum(map(plan.count_runs, plan.cells)))


def choose_values(plan: Plan, cell: Cell, results: dict[str, dict], failed: dict[str, dict]) -> dict | None:
    """Return the values of a cell's grid with the best validation metric, the mean over the seeds for tuning.

    Args:
        plan: of the study.
        cell: of the plan.
        results, failed: expid -> of the finished and of the failed runs.

    Returns:
        None if some runs are neither finished nor failed, or for each value one has failed.
    """
    if not cell.grid:
        return {}
    tried = list_tried(plan, cell, results)
    if not tried or any(run.expid not in results and run.expid not in failed for run in plan.tuning_runs(cell.name)):
        return None
    pick = max if cell.settings.get("monitor_mode", "max") == "max" else min
    values, _ = pick(tried, key=lambda one: one[1])
    return values


def list_tried(plan: Plan, cell: Cell, results: dict[str, dict]) -> list[tuple[dict, float]]:
    """Return the values of a cell's grid whose tuning runs have all finished, each with its validation value.

    That is the mean of ``monitored_value`` over the seeds for tuning.
    """
    runs = plan.tuning_runs(cell.name)
    tried = []
    for values in [run.values for run in runs if run.seed == plan.seeds[0]]:
        finished = [results[run.expid] for run in runs if run.values == values and run.expid in results]
        if len(finished) == plan.tuning_seeds:
            tried.append((values, fmean(monitored_value(result["valid"], cell.settings) for result in finished)))
    return tried


def monitored_value(metrics: dict[str, float], settings: dict) -> float:
    """Return the number that early stopping monitors: a metric, or a weighted sum of several.

    Raises:
        UsageError: the run did not record such a metric, which FuxiCTR would count as 0.
    """
    monitor = Monitor(settings.get("monitor", "AUC"))
    if lacking := [name for name in monitor.get_metrics() if name not in metrics]:
        raise UsageError(
            f"runs of this study did not record {', '.join(lacking)}, by which it chooses: add it to metrics and run "
            "again"
        )
    return monitor.get_value(metrics)


def find_results(plan: Plan, folder: Path) -> dict[str, dict]:
    """Return expid of the plan -> result file of the run with its settings, on the study's data.

    Settings and data are compared by the digests that a run records. FuxiCTR numbers the runs of a cell anew if its
    grid changes, so a finished run counts under whatever expid it was run.
    """
    by_key: dict[tuple, list[dict]] = {}
    for path in sorted(folder.glob("checkpoints/*/*.json")):
        if content := read_result(path):
            by_key.setdefault(_group_key(content["settings"]), []).append(content)
    results = {}
    for run in plan.runs:
        matching = [content for content in by_key.get(_group_key(run.settings), []) if is_planned(plan, run, content)]
        if matching:
            results[run.expid] = next((content for content in matching if content["expid"] == run.expid), matching[0])
    return results


def is_planned(plan: Plan, run: Run, record: dict) -> bool:
    """Return whether a result, or the record of a failure, has the settings and data that the plan has for a run.

    A plan without digests was written by an older version; its settings are compared by name.
    """
    if plan.data and record.get("data_digest") != plan.data["digest"]:
        return False
    if run.settings_digest:
        return record.get("settings_digest") == run.settings_digest
    return not compare_settings(run, record.get("settings", run.settings))


def compare_settings(run: Run, settings: dict) -> dict[str, tuple]:
    """Return setting -> (planned, other) for the settings of a run that differ in ``settings``."""
    return {key: (value, settings.get(key)) for key, value in run.settings.items() if settings.get(key) != value}


def read_run_progress(folder: Path, data_folder: str, expid: str) -> str:
    """Return the progress of a run by FuxiCTR's log, e.g. ``epoch 3, AUC: 0.771257``; empty before the first epoch."""
    path = folder / "checkpoints" / Path(data_folder).name / f"{expid}.log"
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    if "Start training" not in text:
        return ""
    metrics = re.findall(r"\[Metrics\] (.+)", text)
    epoch = len(re.findall(r"Epoch=[0-9]+ end", text)) + 1
    stage = "evaluating" if "Training finished" in text else f"epoch {epoch}"
    return stage + (f", {metrics[-1].strip()}" if metrics else "")


def _group_key(settings: dict) -> tuple:
    """Return settings that distinguish most runs, to compare few of them in full."""
    return tuple(str(settings.get(key)) for key in ("model", "seed", "num_sets", "embedding_dim"))


def _find_failures(plan: Plan, folder: Path) -> dict[str, dict]:
    """Return expid -> record of the failure, for the runs of the plan with these settings and data."""
    failures = {}
    for run in plan.runs:
        record = _read_failure(folder / "failed" / f"{run.expid}.json")
        if record and ("settings_digest" not in record or is_planned(plan, run, record)):
            failures[run.expid] = record
    return failures


def _read_failure(path: Path) -> dict | None:
    """Return the record of a failed run, or None if there is none."""
    content = read_json(path)
    if content is None and not path.is_file():
        return None
    content = content if isinstance(content, dict) else {}
    return {**content, "error": " ".join(str(content.get("error", "unknown")).split())}
