"""What a study would run: parameters, memory and time, before it."""

import math
from statistics import fmean, median

from tqdm import tqdm

from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates import plan as predict
from fuxictr_me.estimates.report import find_feature_map
from fuxictr_me.estimates.vocabulary import rows_of
from fuxictr_me.io.working_folder import working_in
from fuxictr_me.runs.run_data import load_feature_map
from fuxictr_me.study.plan import PLAN, read_plan
from fuxictr_me.study.progress import read_state
from fuxictr_me.zoo.find_model import find_model, is_ours

HEADER = ("cell", "sets", "runs", "left", "parameters", "memory", "time a run", "time left")


def dry_run_text(study, folder, slots=1, gpu_model="H100"):
    """A line a cell: runs, parameters, peak memory of a step, time.

    The time of a cell is the mean of its finished runs; that of a cell without, theirs in the ratio of what a step
    moves and computes (``fuxictr_me.estimates``). Before the first finished run it is the floor of an epoch on the GPU,
    and says so.

    Args:
        study (Study): None to read the plan that ``folder`` holds.
        folder (Path): of the study; nothing is written to it.
        slots (int): runs at a time.
        gpu_model (str): of ``fuxictr_me.estimates.GPUS``.

    Returns:
        str

    Raises:
        UsageError: settings that a model refuses.
    """
    old = read_plan(folder) if (folder / PLAN).is_file() else None
    state = read_state(old, folder) if old else None
    cells = {cell.name: cell for cell in study.cells} if study else old.cells
    seeds = study.seeds if study else old.seeds
    seconds = _seconds(old, state, cells) if old else {}
    predictions, notes, rows = _predict(cells, study, old, folder, gpu_model)
    ratio = [seconds[name] / predictions[name].kernel_seconds for name in seconds if name in predictions]
    lines, all_runs, all_left, all_time = [], 0, 0, 0.0
    for name, cell in cells.items():
        runs = math.prod(map(len, cell.grid.values())) + len(seeds) - 1
        done = _done(name, old, state, cells)
        found = predictions.get(name)
        time = seconds.get(name) or (median(ratio) * found.kernel_seconds if ratio and found else None)
        if time is None and found and "train" in rows:
            time = -(-rows["train"] // found.batch_size) * found.kernel_seconds
        lines.append(
            (
                name,
                f"{cell.settings.get('num_sets')} x {cell.settings.get('embedding_dim')}",
                str(runs),
                str(runs - done),
                f"{found.parameters:,}" if found else "?",
                _memory(found.memory.peak) if found else "?",
                _time(time),
                _time(None if time is None else time * (runs - done)),
            )
        )
        all_runs, all_left, all_time = all_runs + runs, all_left + runs - done, all_time + (time or 0) * (runs - done)
    widths = [max(len(line[i]) for line in [HEADER, *lines]) for i in range(len(HEADER))]
    shown = [_aligned(line, widths) for line in [HEADER, *lines]]
    measured = "by the study's finished runs" if ratio or seconds else f"at least, one epoch each, on one {gpu_model}"
    total = f"{all_runs} runs, {all_left} left: {_time(all_time / slots)} with {slots} at a time ({measured})"
    return "\n".join([*shown, "", total if all_time else f"{all_runs} runs, {all_left} left", *notes])


def _predict(cells, study, old, folder, gpu_model):
    """Cell -> Plan of a step, where the data's shape is known; notes that say why one is not; rows of the splits."""
    found, notes, rows = {}, {}, {}
    for name, cell in tqdm(cells.items(), desc="predicting", unit="cell", leave=False, disable=None):
        dataset = study.dataset if study else old.dataset
        params = {**cell.settings, **dataset, "dataset_id": study.dataset_id if study else old.dataset_id}
        model_class = find_model(params["model"])
        check_model_settings(model_class, params)
        try:
            if old and (folder / old.data_folder / "feature_map.json").is_file():
                with working_in(folder):
                    feature_map = load_feature_map(old.data_folder, {**params, "dataset_id": built_id(old)})
                    rows = rows_of(params, old.data_folder)
            else:
                own = study.source if study and study.source.is_dir() else None
                feature_map, _ = find_feature_map(params, own)
                rows = rows_of(params, f"{params['data_root']}/{params['dataset_id']}")
        except UsageError as error:
            notes[f"Parameters, memory and time are not known yet: {error}"] = None
            continue
        try:
            found[name] = predict(model_class, feature_map, params, gpu_model, rows)
        except UsageError as error:
            if is_ours(model_class):
                raise
            notes[str(error)] = None
    return found, list(notes), rows


def built_id(plan):
    """The id under which FuxiCTR's autotuner has the data built."""
    return plan.runs[0].settings["dataset_id"]


def _seconds(plan, state, cells):
    """Cell -> mean seconds of its finished runs, where there are some and its settings are as they were."""
    found = {}
    for name in cells.keys() & plan.cells.keys():
        runs = [state.results[run.expid]["seconds"] for run in plan.of_cell(name) if run.expid in state.results]
        if runs and _alike(cells[name], plan.cells[name]):
            found[name] = fmean(runs)
    return found


def _done(name, plan, state, cells):
    if plan is None or name not in plan.cells or not _alike(cells[name], plan.cells[name]):
        return 0
    return sum(run.expid in state.results for run in plan.of_cell(name))


def _alike(cell, other):
    varied = {"seed", *cell.grid, *other.grid}
    return all(cell.settings.get(k) == other.settings.get(k) for k in (cell.settings.keys() | other.settings) - varied)


def _aligned(line, widths):
    return "  ".join([line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))])


def _memory(count):
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _time(seconds):
    if seconds is None:
        return "?"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
