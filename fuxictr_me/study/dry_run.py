"""Estimate the runs of a study before they start: parameters, memory and time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from tqdm import tqdm

from fuxictr_me.config.model_registry import is_fuxictr_me_model
from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates import plan as estimate_run
from fuxictr_me.estimates.plan import Plan as RunEstimate
from fuxictr_me.estimates.unbuilt_data import count_rows
from fuxictr_me.formatting import align_columns, format_bytes, format_seconds
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.runs.experiment import load_feature_map
from fuxictr_me.runs.find_feature_map import find_feature_map
from fuxictr_me.study.design import Cell, Study
from fuxictr_me.study.plan_file import PLAN, Plan, read_plan
from fuxictr_me.study.progress import Progress, read_progress
from fuxictr_me.zoo.find_model import find_model

HEADER = ("cell", "sets", "runs", "left", "parameters", "memory", "time a run", "time left")


@dataclass(frozen=True)
class _Estimates:
    """Estimates of a step by cell, the rows of the splits, and notes on what could not be estimated."""

    by_cell: dict[str, RunEstimate]
    rows: dict[str, int]
    notes: list[str]


def describe_dry_run(study: Study | None, folder: Path, slots: int = 1, gpu_model: str = "H100") -> str:
    """Return one row per cell: its runs, parameters, peak memory of a step, time.

    The time of a cell is the mean of its finished runs. A cell without finished runs is scaled from the others by what
    a step moves and computes (``fuxictr_me.estimates``). Before the first finished run, the time is that of one epoch
    on the GPU, and the text says so: with the step's expected time, or its least time for models of others.

    Args:
        study: if None, the plan that ``folder`` has is read.
        folder: of the study. Nothing is written to it.
        slots: number of runs at a time.
        gpu_model: name of a GPU in ``fuxictr_me.estimates.GPUS``.

    Raises:
        UsageError: a model refuses its settings.
    """
    old = read_plan(folder) if (folder / PLAN).is_file() else None
    progress = read_progress(old, folder) if old else None
    design = study or old
    if design is None:
        raise UsageError(f"{folder} is not a study: it has no {PLAN}")
    cells = design.cells if isinstance(design, Plan) else {cell.name: cell for cell in design.cells}
    finished = _find_finished(old, progress, cells)
    seconds = {name: fmean(of_cell) for name, of_cell in finished.items()}
    estimates = _estimate_cells(cells, design, old, folder, gpu_model)
    ratios = [seconds[name] / estimates.by_cell[name].kernel_seconds for name in seconds if name in estimates.by_cell]
    rows: list[tuple[str, ...]] = [HEADER]
    all_runs, all_left, all_time = 0, 0, 0.0
    for name, cell in cells.items():
        runs = math.prod(map(len, cell.grid.values())) * design.tuning_seeds + len(design.seeds) - design.tuning_seeds
        left = runs - len(finished.get(name, ()))
        estimate = estimates.by_cell.get(name)
        time = seconds.get(name) or _estimate_seconds(estimate, ratios, estimates.rows)
        rows.append(_cell_row(cell, runs, left, estimate, time))
        all_runs, all_left, all_time = all_runs + runs, all_left + left, all_time + (time or 0) * left
    total = f"{all_runs} runs, {all_left} left"
    if all_time:
        least = "" if seconds else "at least "
        total += f": {least}{format_seconds(all_time / slots)} with {slots} at a time"
        total += " (by the study's finished runs)" if seconds else f" (one epoch each on one {gpu_model})"
    notes = [*(design.notes if isinstance(design, Study) else ()), *estimates.notes]
    if all_time and not seconds:
        notes = [*notes, "A run takes several epochs. Once one has finished, these times are estimated from it."]
    elif all_left and not all_time and estimates.by_cell:
        notes = [
            *notes,
            f"Times are not known before the rows are counted: fuxictr-me data build {design.dataset_id}",
        ]
    return "\n".join([*align_columns(rows, "l" + "r" * 7), "", total, *notes])


def _cell_row(cell: Cell, runs: int, left: int, estimate: RunEstimate | None, time: float | None) -> tuple[str, ...]:
    return (
        cell.name,
        f"{cell.settings.get('num_sets')} x {cell.settings.get('embedding_dim')}",
        str(runs),
        str(left),
        f"{estimate.parameters:,}" if estimate else "?",
        format_bytes(estimate.memory.peak) if estimate else "?",
        "?" if time is None else format_seconds(time),
        "?" if time is None else format_seconds(time * left),
    )


def _estimate_seconds(estimate: RunEstimate | None, ratios: list[float], rows: Mapping[str, int]) -> float | None:
    """Return the time of a run: scaled from finished runs, else that of one epoch; None if neither is known."""
    if estimate is None:
        return None
    if ratios:
        return median(ratios) * estimate.kernel_seconds
    if "train" in rows:
        step = estimate.expected_seconds or estimate.kernel_seconds
        return -(-rows["train"] // estimate.batch_size) * step
    return None


def _estimate_cells(
    cells: Mapping[str, Cell], design: Study | Plan, old: Plan | None, folder: Path, gpu_model: str
) -> _Estimates:
    """Estimate a step of each cell whose data have a known shape."""
    by_cell: dict[str, RunEstimate] = {}
    notes: dict[str, None] = {}
    rows: dict[str, int] = {}
    for name, cell in tqdm(cells.items(), desc="estimating", unit="cell", leave=False, disable=None):
        params = {**cell.settings, **design.dataset, "dataset_id": design.dataset_id}
        model_class = find_model(params["model"])
        check_model_settings(model_class, params)
        try:
            if old and (folder / old.data_folder / "feature_map.json").is_file():
                with change_directory(folder):
                    built_id = old.runs[0].settings["dataset_id"]  # the id under which the autotuner has them built
                    feature_map = load_feature_map(Path(old.data_folder), {**params, "dataset_id": built_id})
                    rows = count_rows(params, old.data_folder)
            else:
                source = design.source if isinstance(design, Study) and design.source.is_dir() else None
                feature_map, _ = find_feature_map(params, source)
                rows = count_rows(params, f"{params['data_root']}/{params['dataset_id']}")
        except UsageError as error:
            notes[f"Parameters, memory and time are not known yet: {error}"] = None
            continue
        try:
            by_cell[name] = estimate_run(model_class, feature_map, params, gpu_model, rows)
        except UsageError as error:
            if is_fuxictr_me_model(model_class):
                raise
            notes[str(error)] = None
    return _Estimates(by_cell, rows, list(notes))


def _find_finished(plan: Plan | None, progress: Progress | None, cells: Mapping[str, Cell]) -> dict[str, list[float]]:
    """Return cell -> seconds of its finished runs, for the cells whose settings have not changed since."""
    if plan is None or progress is None:
        return {}
    finished = {}
    for name in cells.keys() & plan.cells.keys():
        runs = [run for run in plan.runs_of_cell(name) if run.expid in progress.results]
        if runs and _has_same_settings(cells[name], plan.cells[name]):
            finished[name] = [progress.results[run.expid]["seconds"] for run in runs]
    return finished


def _has_same_settings(cell: Cell, other: Cell) -> bool:
    varied = {"seed", *cell.grid, *other.grid}
    keys = (cell.settings.keys() | other.settings.keys()) - varied
    return all(cell.settings.get(key) == other.settings.get(key) for key in keys)
