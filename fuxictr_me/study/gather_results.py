"""Gather the results of a study from its files."""

import csv
import json
from pathlib import Path

from fuxictr_me.errors import UsageError
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.study.design import Cell
from fuxictr_me.study.design_checks import check_comparable
from fuxictr_me.study.plan_file import Plan, Run
from fuxictr_me.study.progress import Progress, list_tried, read_progress
from fuxictr_me.study.results import CellResult, RunResult, StudyResults
from fuxictr_me.training.callbacks.information_abundance import ALL

SHARED = (
    *("optimizer", "learning_rate", "batch_size", "epochs", "early_stop_patience", "reduce_lr_on_plateau", "metrics"),
    *("embedding_initializer", "network_initializer", "embedding_regularizer", "net_regularizer", "weight_decay"),
    "max_gradient_norm",
)
COUNTS, MEASURES = ("num_ids", "dim"), ("ia", "ia_ratio", "ia_random")


def gather_results(plan: Plan, folder: str | Path) -> StudyResults:
    """Return all results that a study has so far."""
    folder = Path(folder)
    check_comparable(plan.cells.values(), ("monitor", "monitor_mode"))
    progress = read_progress(plan, folder)
    cells = tuple(_gather_cell(plan, cell, progress, folder) for cell in plan.cells.values())
    first = next(iter(plan.cells.values())).settings
    versions: dict[str, str] = next((result["versions"] for result in progress.results.values()), {})
    return StudyResults(
        name=plan.name,
        dataset_id=plan.dataset_id,
        seeds=plan.seeds,
        tuning_seeds=plan.tuning_seeds,
        monitor=str(first.get("monitor", "AUC")),
        monitor_mode=first.get("monitor_mode", "max"),
        grid={cell.kind: cell.grid for cell in plan.cells.values() if cell.grid},
        shared=_find_shared_settings(plan),
        versions=versions,
        cells=cells,
        failed=tuple((expid, record["error"]) for expid, record in progress.failed.items()),
        paper_data=plan.dataset_id if has_published_rows(plan) else "",
    )


def has_published_rows(plan: Plan) -> bool:
    """Return whether each split of a study's data has as many rows as the published files of its data set."""
    rows = plan.data.get("rows", {})
    file = find_bundled_folder("dataset_configs") / plan.dataset_id / "files.json"
    if not rows or not file.is_file():
        return False
    files = json.loads(file.read_text())["files"]
    return rows == {name.removesuffix(".csv"): entry["rows"] for name, entry in files.items()}


def _gather_cell(plan: Plan, cell: Cell, progress: Progress, folder: Path) -> CellResult:
    chosen, runs = progress.chosen.get(cell.name), plan.runs_of_cell(cell.name)
    finished = [run for run in runs if run.values == chosen and run.expid in progress.results]
    return CellResult(
        model=cell.model,
        kind=cell.kind,
        scale=cell.scale,
        num_sets=cell.settings["num_sets"],
        embedding_dim=cell.settings["embedding_dim"],
        chosen=chosen or {},
        runs=tuple(_gather_run(run, progress.results[run.expid], folder) for run in finished),
        tried=tuple(list_tried(plan, cell, progress.results)) if cell.grid else (),
    )


def _gather_run(run: Run, result: dict, folder: Path) -> RunResult:
    return RunResult(
        expid=result["expid"],
        seed=run.seed,
        valid=result["valid"],
        test=result["test"],
        parameters=result["parameters"],
        embedding_parameters=result["parameters"] - result["parameters_without_embeddings"],
        seconds=result["seconds"],
        steps=result["steps"],
        peak_memory=result.get("peak_memory"),
        abundance=read_abundance(folder / "checkpoints" / result["dataset_id"] / f"{result['expid']}.ia.csv"),
    )


def read_abundance(path: Path) -> list[dict]:
    """Return one dict per field from the callback's csv: the best weights, sets side by side; empty without a file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if (row["event"], row["set"]) == ("best", ALL)]
        has_layers = len({row["layer"] for row in rows}) > 1
        return [_read_field(row, has_layers) for row in rows if row["ia"] != ""]
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{path} is not a file of information abundance: {type(error).__name__} {error}") from None


def _read_field(row: dict, has_layers: bool) -> dict:
    return {
        "field": f"{row['field']} ({row['layer']})" if has_layers else row["field"],
        **{key: int(row[key]) for key in COUNTS},
        **{key: float(row[key]) if row[key] != "" else None for key in MEASURES},
    }


def _find_shared_settings(plan: Plan) -> dict:
    """Return the settings of ``SHARED`` that are not tuned; if models differ in one, its value says so."""
    shared = {}
    for key in SHARED:
        values = [cell.settings.get(key) for cell in plan.cells.values()]
        if any(key in cell.grid for cell in plan.cells.values()) or all(value is None for value in values):
            continue
        shared[key] = values[0] if all(value == values[0] for value in values) else "differs between models"
    return shared
