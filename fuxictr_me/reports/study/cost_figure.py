"""A test metric against its cost: bytes of weights, or time."""

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from fuxictr_me.reports.study.cost_table import measure_cost
from fuxictr_me.reports.study.metric_values import is_lower_better
from fuxictr_me.reports.study.model_panels import (
    Quantity,
    add_legend,
    choose_styles,
    metric_quantity,
    new_model_panels,
    points_of,
    use_plain_ticks,
)
from fuxictr_me.reports.study.pareto import find_pareto_front
from fuxictr_me.study.results import BASE, MULTI, SINGLE, CellResult, StudyResults

FRONT: dict[str, Any] = {"color": "#B5B5B5", "linewidth": 1.6, "label": "Pareto front"}
LABEL_RIGHT: dict[str, Any] = {"xytext": (6, 0), "ha": "left", "va": "center"}
LABEL_PLACES = {  # the front passes between the labels of SE and ME
    SINGLE: {"xytext": (4, -3), "ha": "left", "va": "top"},
    MULTI: {"xytext": (-4, 3), "ha": "right", "va": "bottom"},
}
COSTS = {  # name -> attribute of ``Cost``, its unit in the figure, label
    "bytes": ("weight_bytes", 1e6, "MB of weights, 4 bytes per parameter"),
    "seconds": ("seconds_per_1000_steps", 1, "seconds per 1,000 optimizer steps"),
}


def draw_pareto(results: StudyResults, metric: str, cost: str) -> Figure:
    """Draw a test metric against cost, one panel per model: one point per cell, its scale, and the Pareto front.

    Args:
        results: of the study.
        metric: e.g. ``AUC``.
        cost: of ``COSTS``.
    """
    figure, panels = new_model_panels(results)
    styles = choose_styles(results)
    for model, axes in panels.items():
        points: list[tuple[float, float]] = []
        for kind, style in styles.items():
            costs = {p.scale: p.mean for p in points_of(results, model, kind, cost_quantity(cost))}
            values = {p.scale: p.mean for p in points_of(results, model, kind, metric_quantity(metric))}
            of_kind = {scale: (costs[scale], values[scale]) for scale in values if scale in costs}
            axes.plot(*_to_columns(of_kind.values()), **style, linestyle="none", markersize=6, label=kind)
            for scale, point in of_kind.items() if kind != BASE else ():
                text: dict[str, Any] = {"color": style["color"], "fontsize": 7.5, **LABEL_PLACES.get(kind, LABEL_RIGHT)}
                axes.annotate(f"{scale}x", point, textcoords="offset points", **text)
            points += of_kind.values()
        front = [points[n] for n in find_pareto_front(points, not is_lower_better(metric))]
        axes.step(*_to_columns(front), where="post", zorder=0, **FRONT)
        axes.margins(0.12, 0.14)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        use_plain_ticks(axes.yaxis)
    figure.supxlabel(f"{COSTS[cost][2]} (log scale)", fontsize=10)
    figure.supylabel(f"test {metric}", fontsize=10)
    add_legend(figure, styles, FRONT)
    return figure


def cost_quantity(cost: str) -> Quantity:
    """Return the quantity that reads a cost of ``COSTS``, in the unit of the figure."""
    name, unit, _ = COSTS[cost]

    def quantity(cell: CellResult) -> list[float]:
        value = getattr(measure_cost(cell), name) if cell.runs else None
        return [] if value is None else [value / unit]

    return quantity


def _to_columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    points = list(points)
    return [x for x, _ in points], [y for _, y in points]
