"""How much tuning each kind of a study got, and where its choice fell."""

from fuxictr_me.study.results import BASE, SINGLE


def kinds_of(results):
    """The kinds of a study in order, base among them."""
    return list(dict.fromkeys(cell.kind for cell in results.cells))


def grid_of(results, kind):
    """setting -> values tried; base is tuned as SE is, unless the study has a grid of its own for it."""
    return results.grid.get(kind, results.grid.get(SINGLE, {}) if kind == BASE else {})


def is_tuned(results):
    """Whether there was anything to choose from."""
    return any(len(values) > 1 for kind in kinds_of(results) for values in grid_of(results, kind).values())


def same_grid(results):
    """Whether all kinds had the same to choose from."""
    grids = [grid_of(results, kind) for kind in kinds_of(results)]
    return all(grid == grids[0] for grid in grids)


def tries_a_cell(results, kind):
    """Tuning runs spent on each cell of a kind."""
    return [len(cell.tried) for cell in results.cells if cell.kind == kind]


def at_the_edge(results):
    """Cells whose choice is the smallest or largest number of its grid.

    A value of 0 is left out: of a rate or a weight there is nothing beyond it.

    Args:
        results (StudyResults)

    Returns:
        dict: setting -> list of CellResult.
    """
    found = {}
    for cell in results.cells:
        for name, value in cell.chosen.items():
            tried = grid_of(results, cell.kind).get(name, ())
            numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (value, *tried))
            if numeric and len(set(tried)) > 1 and value != 0 and value in (min(tried), max(tried)):
                found.setdefault(name, []).append(cell)
    return found
