"""Describe the progress of a study as text."""

from pathlib import Path
from statistics import fmean

from fuxictr_me.formatting import align_columns
from fuxictr_me.study.plan_file import Plan
from fuxictr_me.study.progress import Progress, read_run_progress

HEADER = ("cell", "finished", "seconds a run", "validation", "chosen")


def describe_progress(plan: Plan, progress: Progress, folder: Path) -> str:
    """Return a summary in the first line, then one row per cell, then the running and the failed runs.

    The row of a cell has its finished runs, their mean time, the validation metrics and the chosen settings.
    """
    waiting = progress.total - progress.finished - len(progress.failed) - len(progress.running)
    head = f"{plan.name} on {plan.dataset_id}: {progress.finished} of {progress.total} runs finished"
    counts = {"running": len(progress.running), "failed": len(progress.failed), "waiting": max(0, waiting)}
    head += "".join(f", {count} {state}" for state, count in counts.items() if count)
    rows = [HEADER, *(_cell_row(plan, progress, name) for name in plan.cells)]
    lines = [head, "", *align_columns(rows, "lllll"), ""]
    for expid in sorted(progress.running):
        lines.append(f"running  {expid} {read_run_progress(folder, plan.data_folder, expid)}".rstrip())
    lines += [f"failed   {expid}: {record['error']} (logs/{expid}.log)" for expid, record in progress.failed.items()]
    return "\n".join(lines).rstrip()


def _cell_row(plan: Plan, progress: Progress, name: str) -> tuple[str, ...]:
    runs = [run for run in plan.runs_of_cell(name) if run.expid in progress.results]
    results = [progress.results[run.expid] for run in runs]
    seconds = f"{fmean(result['seconds'] for result in results):,.0f}" if results else ""
    chosen = progress.chosen.get(name)
    valid = [progress.results[run.expid]["valid"] for run in runs if run.values == chosen]
    means = ", ".join(f"{key} {fmean(one[key] for one in valid):.4f}" for key in valid[0]) if valid else ""
    values = ", ".join(f"{key} {value}" for key, value in (chosen or {}).items())
    return name, f"{len(runs)} of {plan.count_runs(name)}", seconds, means, values
