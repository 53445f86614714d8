"""What accuracy costs: a test metric against bytes of weights and against time."""

from matplotlib.ticker import MaxNLocator, NullLocator

from fuxictr_me.reports.study import side_tables
from fuxictr_me.reports.study.metric_values import lower_is_better
from fuxictr_me.reports.study.panels import legend_above, model_panels, of_metric, plain_numbers, points_of, styles_of
from fuxictr_me.reports.study.pareto import pareto
from fuxictr_me.study.results import BASE, MULTI, SINGLE

LINE = "#B5B5B5"
FRONT = {"color": LINE, "linewidth": 1.6, "label": "Pareto front"}
BESIDE = {"xytext": (6, 0), "ha": "left", "va": "center"}
PLACES = {  # of the labels: the front passes between those of SE and ME
    SINGLE: {"xytext": (4, -3), "ha": "left", "va": "top"},
    MULTI: {"xytext": (-4, 3), "ha": "right", "va": "bottom"},
}
COSTS = {  # key of the table of costs, its unit here, label
    "bytes": ("weight_bytes", 1e6, "MB of weights, 4 bytes a parameter"),
    "seconds": ("seconds_per_1000_steps", 1, "seconds for 1,000 optimizer steps"),
}


def draw_pareto(results, metric, cost):
    """A test metric against cost, a panel a model: a point a cell, marked with its scale, and the Pareto front.

    Args:
        results (StudyResults)
        metric (str): e.g. ``AUC``.
        cost (str): ``bytes`` of weights, or ``seconds`` for 1,000 optimizer steps.

    Returns:
        matplotlib.figure.Figure
    """
    figure, panels = model_panels(results)
    styles = styles_of(results)
    for model, axes in panels.items():
        points = []
        for kind, style in styles.items():
            costs = {point.scale: point.mean for point in points_of(results, model, kind, of_cost(cost))}
            values = {p.scale: p.mean for p in points_of(results, model, kind, of_metric(metric))}
            own = {scale: (costs[scale], values[scale]) for scale in values if scale in costs}
            axes.plot(*_columns(own.values()), **style, linestyle="none", markersize=6, label=kind)
            for scale, point in own.items() if kind != BASE else ():
                text = {"color": style["color"], "fontsize": 7.5, **PLACES.get(kind, BESIDE)}
                axes.annotate(f"{scale}x", point, textcoords="offset points", **text)
            points += own.values()
        front = [points[n] for n in pareto(points, not lower_is_better(metric))]
        axes.step(*_columns(front), where="post", zorder=0, **FRONT)
        axes.margins(0.12, 0.14)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        plain_numbers(axes.yaxis)
    figure.supxlabel(f"{COSTS[cost][2]} (log scale)", fontsize=10)
    figure.supylabel(f"test {metric}", fontsize=10)
    legend_above(figure, styles, FRONT)
    return figure


def of_cost(cost):
    """A quantity for ``points_of``: what a cell costs, as the table of costs has it; bytes in MB."""
    key, unit, _ = COSTS[cost]

    def quantity(cell):
        value = side_tables.cost(cell)[key] if cell.runs else None
        return [] if value is None else [value / unit]

    return quantity


def _columns(points):
    points = list(points)
    return [x for x, _ in points], [y for _, y in points]
