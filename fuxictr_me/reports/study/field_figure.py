"""Information abundance of each field at the largest size, SE beside ME (the paper's figure 8a)."""

import numpy as np

from fuxictr_me.reports.study.panels import styles_of
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.style import GREY, PALE, fields_figure, label_fields
from fuxictr_me.study.results import BASE, MULTI, SINGLE


def draw_fields(results, model):
    """IA of each field, fewest ids first: means over seeds and their sd, beside random initialisation and the ceiling.

    Args:
        results (StudyResults)
        model (str)

    Returns:
        matplotlib.figure.Figure: None where no run of the model has IA.
    """
    cells = largest_measured(results, model)
    tables = [_by_field(cell) for cell in cells]
    common = set.intersection(*map(set, tables)) if tables else set()
    if not common:
        return None
    fields = sorted((tables[0][name] for name in common), key=lambda field: (field["num_ids"], field["field"]))
    figure, axes = fields_figure(len(fields))
    x = np.arange(len(fields))
    axes.bar(x, [field["ceiling"] for field in fields], color=PALE, width=0.9, label="ceiling min(K, D)")
    for n, (cell, table) in enumerate(zip(cells, tables, strict=True)):
        own = [table[field["field"]] for field in fields]
        at, style = x + 0.5 * ((n + 0.5) / len(cells) - 0.5), styles_of(results)[cell.kind]
        means, sds = np.array([mean_and_sd(field["ia"]) for field in own], dtype=float).T
        label = f"{cell.title} ({cell.num_sets} × {cell.embedding_dim})"
        axes.errorbar(at, means, yerr=sds, fmt="none", ecolor=style["color"], elinewidth=1.3, capsize=2)
        axes.plot(at, means, **style, linestyle="none", markersize=5.5, label=label)
        random = np.array([mean_and_sd(field["random"])[0] for field in own], dtype=float)
        half = 0.25 / len(cells)
        axes.hlines(random, at - half, at + half, colors=style["color"], linewidth=1.4)
    axes.plot([], [], color=GREY, linewidth=1.4, label="lines: random initialisation")
    label_fields(figure, axes, fields)
    return figure


def largest_measured(results, model):
    """SE and ME of the largest size at which both have IA, else the one that has it at the largest, else base.

    Args:
        results (StudyResults)
        model (str)

    Returns:
        list of CellResult: two, one or none.
    """
    measured = [c for c in results.cells if c.model == model and any(run.abundance for run in c.runs)]
    sizes = {}
    for cell in measured:
        if cell.kind in (SINGLE, MULTI):
            sizes.setdefault(cell.scale, []).append(cell)
    if not sizes:
        return [cell for cell in measured if cell.kind == BASE]
    return sizes[max(sizes, key=lambda scale: (len(sizes[scale]), scale))]


def _by_field(cell):
    """Field -> its ids, its ceiling, and of each run its IA and that of random initialisation."""
    found = {}
    for run in cell.runs:
        for row in run.abundance:
            about = {key: row[key] for key in ("field", "num_ids")} | {"ceiling": min(row["dim"], row["num_ids"])}
            field = found.setdefault(row["field"], {**about, "ia": [], "random": []})
            field["ia"].append(row["ia"])
            field["random"] += [] if row["ia_random"] is None else [row["ia_random"]]
    return found
