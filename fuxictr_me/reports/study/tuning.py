"""How much each kind of a study was tuned, and what was chosen."""

from fuxictr_me.reports.format import format_number, format_settings
from fuxictr_me.reports.tables import Table
from fuxictr_me.study.results import BASE, SINGLE, CellResult, StudyResults


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
    return [len(cell.tried) for cell in results.cells if cell.kind == kind]


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


def tuning_table(results: StudyResults) -> Table:
    """Return what was tried for each tuned cell with the first seed, and what the validation split chose."""
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
