"""How much each kind of a study was tuned, and what was chosen."""

from statistics import stdev

from fuxictr_me.reports.format import format_number, format_settings
from fuxictr_me.reports.tables import Table
from fuxictr_me.study.results import BASE, SINGLE, CellResult, StudyResults

FEWEST_FOR_DEVIATION = 3  # runs of a cell


def list_kinds(results: StudyResults) -> list[str]:
    """Return the kinds of a study in order, base among them."""
    return list(dict.fromkeys(cell.kind for cell in results.cells))


def grid_of(results: StudyResults, kind: str) -> dict[str, list]:
    """Return setting -> values tried for a kind. Base is tuned as SE is, unless the study has a grid for base."""
    return results.grid.get(kind, results.grid.get(SINGLE, {}) if kind == BASE else {})


def is_tuned(results: StudyResults) -> bool:
    """Return whether any setting of any kind had several values to choose from."""
    return any(len(values) > 1 for kind in list_kinds(results) for values in grid_of(results, kind).values())


def has_same_grids(results: StudyResults) -> bool:
    """Return whether all kinds had the same values to choose from."""
    grids = [grid_of(results, kind) for kind in list_kinds(results)]
    return all(grid == grids[0] for grid in grids)


def count_tuning_runs(results: StudyResults, kind: str) -> list[int]:
    """Return the number of tuning runs of each cell of a kind."""
    return [len(cell.tried) * results.tuning_seeds for cell in results.cells if cell.kind == kind]


def find_edge_choices(results: StudyResults) -> dict[str, list[CellResult]]:
    """Return setting -> the cells whose chosen value is the smallest or largest of its grid.

    The value 0 is left out: a rate or a weight cannot be smaller.
    """
    found: dict[str, list[CellResult]] = {}
    for cell in results.cells:
        for name, value in cell.chosen.items():
            tried = grid_of(results, cell.kind).get(name, ())
            is_numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (value, *tried))
            if is_numeric and len(set(tried)) > 1 and value != 0 and value in (min(tried), max(tried)):
                found.setdefault(name, []).append(cell)
    return found


def name_tuning_seeds(results: StudyResults) -> str:
    """Return with which seeds each cell was tuned: ``the first seed``, ``the first 3 seeds``."""
    return "the first seed" if results.tuning_seeds == 1 else f"the first {results.tuning_seeds} seeds"


def find_close_choices(results: StudyResults) -> list[CellResult]:
    """Return the cells whose chosen setting leads the next by less than a standard deviation between seeds.

    The deviation is that of the monitored validation metric over the runs with the chosen setting, divided by the root
    of the number of seeds for tuning. Cells with fewer than three such runs, or less than two settings, are left out.
    """
    found = []
    for cell in results.cells:
        of_runs = [run.valid[results.monitor] for run in cell.runs if results.monitor in run.valid]
        chosen = _validation_of_choice(cell)
        others = [value for values, value in cell.tried if values != cell.chosen]
        if chosen is not None and others and len(of_runs) >= FEWEST_FOR_DEVIATION:
            lead = min(abs(chosen - value) for value in others)
            if lead < stdev(of_runs) / results.tuning_seeds**0.5:
                found.append(cell)
    return found


def tuning_table(results: StudyResults) -> Table:
    """Return what was tried for each tuned cell, and what the validation split chose."""
    rows = [
        (
            cell.model,
            cell.title,
            str(len(cell.tried)),
            format_settings(cell.chosen),
            format_number(_validation_of_choice(cell)),
        )
        for cell in results.cells
        if cell.tried
    ]
    names = ("model", "size", "settings tried", "chosen", f"validation {results.monitor}")
    return Table("Chosen settings", names, "llrlr", rows)


def _validation_of_choice(cell: CellResult) -> float | None:
    """Return the validation value of the chosen setting; None before the choice."""
    return next((value for values, value in cell.tried if values == cell.chosen), None)
