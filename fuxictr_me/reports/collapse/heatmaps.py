"""Heat maps over pairs of fields: IA of sub-embeddings and strength of interaction (paper, figures 3 and 8c)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuxictr_me.reports.style import BLUE, ROTATED, shorten

COLOURS = "cividis"  # perceptually uniform: readable in grey and for colour-blind readers
MOST_PANELS = 12


def draw_sub_embeddings(interaction: dict, layer: dict) -> Figure:
    """Draw IA(E_i→j), mean over sets, with its means over rows and columns, fields sorted by IA(E_i) (paper, figure 3).

    The paper shows sums in place of means. A mean has the scale of the map, and gives the same order of fields.
    """
    order, names = _sort_fields(interaction, layer)
    stacked = np.array([one["sub_ia"] for one in interaction["sets"]], dtype=float)
    with_table = [n for n in order if interaction["table_of"][n] is not None]
    matrix = stacked.mean(axis=0)[np.ix_(with_table, order)]
    side = _panel_side(len(order))
    figure = Figure(figsize=(side + 2.6, side + 1.9), layout="constrained", facecolor="white")
    ratios = {"width_ratios": [6, 1, 0.25], "height_ratios": [1, 6]}
    (top, *empty), (main, right, scale) = figure.subplots(2, 3, gridspec_kw=ratios)
    for axes in empty:
        axes.axis("off")
    image = main.imshow(np.ma.masked_invalid(matrix), cmap=COLOURS, aspect="auto")
    main.set_facecolor("white")
    _name_fields(main, names, names[: len(with_table)])
    main.set_xlabel("field j")
    main.set_ylabel("field i, lowest IA($E_i$) first")
    top.bar(range(len(order)), _mean(matrix, 0), color=BLUE, width=0.8)
    right.barh(range(len(with_table)), _mean(matrix, 1), color=BLUE, height=0.8)
    top.set_xlim(main.get_xlim())
    right.set_ylim(main.get_ylim())
    top.set_xticks([])
    right.set_yticks([])
    top.set_ylabel("column\nmean")
    right.set_xlabel("row mean")
    for axes in (top, right):
        axes.spines[["top", "right"]].set_visible(False)
    several = f", mean of {len(stacked)} sets" if len(stacked) > 1 else ""
    figure.colorbar(image, cax=scale, label=rf"IA($E_i^{{\to j}}$){several}")
    return figure


def draw_norms(interaction: dict, layer: dict) -> Figure:
    """Draw ‖W_{i→j}‖_F of each set on one scale, fields sorted as in the map of IA (paper, figure 8c)."""
    order, names = _sort_fields(interaction, layer)
    sets = interaction["sets"][:MOST_PANELS]
    matrices = [np.array(one["norms"], dtype=float)[np.ix_(order, order)] for one in sets]
    columns = min(len(sets), 2 if len(sets) <= 4 else 3)
    rows = -(-len(sets) // columns)
    side = min(_panel_side(len(order)), 5.2 if columns == 2 else 4.4) if columns > 1 else _panel_side(len(order))
    figure = Figure(figsize=(columns * side + 1.9, rows * side + 1.2), layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, squeeze=False)
    low, high = np.nanmin(matrices), np.nanmax(matrices)
    for axes in panels.flat:
        axes.axis("off")
    for n, (one, matrix, axes) in enumerate(zip(sets, matrices, panels.flat, strict=False)):
        axes.axis("on")
        image = axes.imshow(np.ma.masked_invalid(matrix), cmap=COLOURS, vmin=low, vmax=high)
        if len(interaction["sets"]) > 1:
            axes.set_title(f"set {one['set']}", fontsize=10)
        _name_fields(axes, names if n + columns >= len(sets) else [], names if n % columns == 0 else [], columns > 1)
    figure.supxlabel("to field j", fontsize=10)
    figure.supylabel("from field i", fontsize=10)
    figure.colorbar(image, ax=panels, label=r"$\Vert W_{i\to j}\Vert$, Frobenius norm", shrink=0.8)
    return figure


def _sort_fields(interaction: dict, layer: dict) -> tuple[np.ndarray, list[str]]:
    """Return positions and names of the fields, sorted by IA of their table; fields without a table come last."""
    ia = {field["field"]: field["parts"][-1]["ia"] for field in layer["fields"]}
    values = [ia.get(table, np.inf) for table in interaction["table_of"]]
    order = np.argsort(values, kind="stable")
    return order, [shorten(interaction["fields"][n]) for n in order]


def _panel_side(count: int) -> float:
    return min(9.5, max(3.6, 0.24 * count))


def _mean(matrix: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over the pairs that have a value; 0 if none has."""
    known = np.isfinite(matrix)
    return np.where(known, matrix, 0).sum(axis=axis) / np.maximum(known.sum(axis=axis), 1)


def _name_fields(axes: Axes, below: Sequence[str], left: Sequence[str], is_small: bool = False) -> None:
    many = max(len(below), len(left)) > 20
    size = 7 if many or is_small else 9
    axes.set_xticks(range(len(below)), below, fontsize=size, **({"rotation": 90} if many else ROTATED))
    axes.set_yticks(range(len(left)), left, fontsize=size)
    axes.tick_params(length=0)
