"""Compare a study with the plan in its folder."""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fuxictr_me.errors import UsageError
from fuxictr_me.study.design import Cell, Study
from fuxictr_me.study.plan_file import Plan, read_plan
from fuxictr_me.study.progress import read_progress
from fuxictr_me.study.study_data import describe_data_change
from fuxictr_me.study.study_layout import relocate_dataset


def describe_changes(study: Study, folder: Path, allow: bool = False) -> str:
    """Return one line per change of a study since it was laid out; empty without changes.

    Args:
        study: as given now.
        folder: that has the earlier plan.
        allow: whether settings of finished runs may differ.

    Raises:
        UsageError: finished runs have other settings.
    """
    old, cells = read_plan(folder), {cell.name: cell for cell in study.cells}
    progress = read_progress(old, folder)
    finished = {run.cell for run in old.runs if run.expid in progress.results}
    of_data = _compare_settings("the data set", old.dataset, relocate_dataset(study, folder))
    of_data += [line for line in [find_data_change(old, folder)] if line]
    if any("data_digest" not in result for result in progress.results.values()):
        of_data.append("they were made by a version that did not record their data and all settings")
    by_cell = {name: _compare_cells(cell, cells[name]) for name, cell in old.cells.items() if name in cells}
    lost = [*(of_data if finished else []), *(line for name in by_cell if name in finished for line in by_cell[name])]
    if lost and not allow:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise UsageError(
            f"{folder} has {progress.finished} finished runs of other settings: {lost[0]}{more}; choose another folder "
            "with --out, or continue with --changed: then they stay in checkpoints/ and no longer count"
        )
    lines = [*of_data, *(line for differing in by_cell.values() for line in differing)]
    lines += [*_compare_members("seeds", old.seeds, study.seeds), *_compare_members("cells", old.cells, cells)]
    if study.tuning_seeds != old.tuning_seeds:
        lines.append(f"tuning_seeds: {old.tuning_seeds} before, {study.tuning_seeds} now")
    for name in by_cell:
        if cells[name].grid != old.cells[name].grid:
            lines.append(f"grid of {name}: {old.cells[name].grid} before, {cells[name].grid} now")
    return "\n".join(f"The study has changed: {line}" for line in lines)


def find_data_change(plan: Plan, folder: Path) -> str | None:
    """Return how the data differ from those of the finished runs; None if they do not, or none were built."""
    try:
        return describe_data_change(plan, folder) if plan.data else None
    except UsageError as error:  # raw data are missing; perhaps the study now names others
        return str(error)


def refuse_lost_runs(plan: Plan, folder: Path, why: str | None) -> None:
    """Refuse to continue if finished runs would no longer count.

    Raises:
        UsageError: there are finished runs, and ``why`` says how the study differs from them.
    """
    if why and (count := read_progress(plan, folder).finished):
        raise UsageError(
            f"{folder} has {count} finished runs of other data: {why}; choose another folder with --out, or continue "
            "with --changed: then runs whose data differ stay in checkpoints/ and no longer count"
        )


def _compare_cells(before: Cell, after: Cell) -> list[str]:
    """Return the settings that differ, except those that the grids and seeds vary."""
    return _compare_settings(before.name, before.settings, after.settings, {"seed", *before.grid, *after.grid})


def _compare_settings(name: str, before: dict, after: dict, varied: Iterable[str] = ()) -> list[str]:
    after = json.loads(json.dumps(after))  # as it would be read back from study.json
    keys = sorted((before.keys() | after.keys()) - set(varied))
    differing = [key for key in keys if before.get(key) != after.get(key)]
    return [f"{key} of {name}: {before.get(key)!r} before, {after.get(key)!r} now" for key in differing]


def _compare_members(what: str, before: Collection, after: Collection) -> Iterator[str]:
    for change, these, others in (("added", after, before), ("left out", before, after)):
        if members := [str(x) for x in these if x not in others]:
            yield f"{what} {change}: {', '.join(members)}"
