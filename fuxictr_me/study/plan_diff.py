"""What is new in a study against the one that its folder holds."""

import json
from pathlib import Path

from fuxictr_me.errors import UsageError
from fuxictr_me.study.plan import Plan, moved_dataset, read_plan
from fuxictr_me.study.progress import read_state
from fuxictr_me.study.study_data import data_change


def changes(study, folder, allowed=False):
    """Words on what has changed; finished runs are not left behind unasked.

    Args:
        study (Study): as it is asked for now.
        folder (Path): of a study.
        allowed (bool): whether settings of finished runs may differ.

    Returns:
        str: a line a change; empty without any.

    Raises:
        UsageError: finished runs have other settings.
    """
    old, cells = read_plan(folder), {cell.name: cell for cell in study.cells}
    state = read_state(old, folder)
    finished = {run.cell for run in old.runs if run.expid in state.results}
    of_data = _settings("the data set", old.dataset, moved_dataset(study, folder))
    of_data += [line for line in [of_contents(old, folder)] if line]
    if any("data_digest" not in result for result in state.results.values()):
        of_data.append("they were made by a version that recorded neither their data nor all settings")
    by_cell = {name: _of_cell(cell, cells[name]) for name, cell in old.cells.items() if name in cells}
    lost = [*(of_data if finished else []), *(line for name in by_cell if name in finished for line in by_cell[name])]
    if lost and not allowed:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise UsageError(
            f"{folder} has {state.counted} finished runs of other settings: {lost[0]}{more}; name another --out, or "
            "--changed to go on: they stay in checkpoints/ and no longer count"
        )
    lines = [*of_data, *(line for differing in by_cell.values() for line in differing)]
    lines += [*_members("seeds", old.seeds, study.seeds), *_members("cells", old.cells, cells)]
    for name in by_cell:
        if cells[name].grid != old.cells[name].grid:
            lines.append(f"grid of {name}: {old.cells[name].grid} before, {cells[name].grid} now")
    return "\n".join(f"The study has changed: {line}" for line in lines)


def of_contents(plan: Plan, folder: Path) -> str | None:
    """Return how the data now differ from those of the finished runs; None where they do not, or there are none."""
    try:
        return data_change(plan, folder) if plan.data else None
    except UsageError as error:  # raw data that are not there any more: perhaps the study now names others
        return str(error)


def refuse_lost_runs(plan: Plan, folder: Path, why: str | None) -> None:
    """Refuse to leave finished runs behind unasked.

    Raises:
        UsageError: there are some, and ``why`` says how the study now differs from them.
    """
    if why and (count := read_state(plan, folder).counted):
        raise UsageError(
            f"{folder} has {count} finished runs of other data: {why}; name another --out, or --changed to go on: "
            "runs whose data differ no longer count, and stay in checkpoints/"
        )


def _of_cell(before, after):
    """Settings that differ, of those that its grid and the seeds do not vary."""
    return _settings(before.name, before.settings, after.settings, {"seed", *before.grid, *after.grid})


def _settings(name, before, after, varied=frozenset()):
    after = json.loads(json.dumps(after))  # as it is read back from study.json
    keys = sorted((before.keys() | after.keys()) - varied)
    differing = [key for key in keys if before.get(key) != after.get(key)]
    return [f"{key} of {name}: {before.get(key)!r} before, {after.get(key)!r} now" for key in differing]


def _members(what, before, after):
    for word, these, others in (("added", after, before), ("left out", before, after)):
        if some := [str(x) for x in these if x not in others]:
            yield f"{what} {word}: {', '.join(some)}"
