"""Information abundance of each field at the largest size, SE beside ME (the paper's figure 8a)."""

import numpy as np
from matplotlib.figure import Figure

from fuxictr_me.reports.study.model_panels import choose_styles
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.style import add_random_to_legend, draw_ceilings, draw_dashes, label_fields, new_fields_figure
from fuxictr_me.study.results import BASE, MULTI, SINGLE, CellResult, StudyResults


def draw_fields(results: StudyResults, model: str) -> Figure | None:
    """Draw IA of each field, mean ± sd over seeds, with random initialisation and the ceiling as references.

    Returns:
        None if no run of the model recorded IA.
    """
    cells = find_largest_measured(results, model)
    tables = [_group_by_field(cell) for cell in cells]
    common = set.intersection(*map(set, tables)) if tables else set()
    if not common:
        return None
    fields = sorted((tables[0][name] for name in common), key=lambda field: (field["num_ids"], field["field"]))
    figure, axes = new_fields_figure(len(fields))
    x = np.arange(len(fields))
    draw_ceilings(axes, [field["ceiling"] for field in fields])
    for n, (cell, table) in enumerate(zip(cells, tables, strict=True)):
        of_cell = [table[field["field"]] for field in fields]
        at, style = x + 0.5 * ((n + 0.5) / len(cells) - 0.5), choose_styles(results)[cell.kind]
        means, sds = np.array([mean_and_sd(field["ia"]) for field in of_cell], dtype=float).T
        label = f"{cell.title} ({cell.num_sets} × {cell.embedding_dim})"
        axes.errorbar(at, means, yerr=sds, fmt="none", ecolor=style["color"], elinewidth=1.3, capsize=2)
        axes.plot(at, means, **style, linestyle="none", markersize=5.5, label=label)
        random = [mean_and_sd(field["random"])[0] for field in of_cell]
        draw_dashes(axes, at, random, 0.25 / len(cells), colors=style["color"], linewidth=1.4)
    add_random_to_legend(axes)
    label_fields(figure, axes, fields)
    return figure


def find_largest_measured(results: StudyResults, model: str) -> list[CellResult]:
    """Return SE and ME of the largest size at which both have IA, else the largest one that has it, else base."""
    measured = [c for c in results.cells if c.model == model and any(run.abundance for run in c.runs)]
    sizes: dict[int, list[CellResult]] = {}
    for cell in measured:
        if cell.kind in (SINGLE, MULTI):
            sizes.setdefault(cell.scale, []).append(cell)
    if not sizes:
        return [cell for cell in measured if cell.kind == BASE]
    return sizes[max(sizes, key=lambda scale: (len(sizes[scale]), scale))]


def _group_by_field(cell: CellResult) -> dict[str, dict]:
    """Return field -> its number of ids, its ceiling, and lists of IA and random IA over the runs."""
    found: dict[str, dict] = {}
    for run in cell.runs:
        for row in run.abundance:
            about = {key: row[key] for key in ("field", "num_ids")} | {"ceiling": min(row["dim"], row["num_ids"])}
            field = found.setdefault(row["field"], {**about, "ia": [], "random": []})
            field["ia"].append(row["ia"])
            field["random"] += [] if row["ia_random"] is None else [row["ia_random"]]
    return found
