"""The scaling curves of a study: the fitted power laws with their bands, over the values of all seeds."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from fuxictr_me.reports.study.curve_findings import AXES, PARAMETERS, ScalingCurve, measure_curves, measure_size
from fuxictr_me.reports.study.metric_values import is_lower_better, values_by_seed
from fuxictr_me.reports.study.model_panels import Styles, add_legend, choose_styles, use_plain_ticks
from fuxictr_me.reports.style import shorten
from fuxictr_me.study.results import BASE, StudyResults

AXIS_LABELS = {PARAMETERS: "embedding parameters", AXES[1]: "FLOPs of training per row (estimate)"}


def draw_scaling_curves(results: StudyResults, metric: str) -> Figure:
    """Draw a test metric against embedding parameters (above) and FLOPs (below), one column per model.

    Each kind has its fitted curve with the interval as a band, and a point for each seed and size.
    """
    models, styles = results.models, choose_styles(results)
    figure = Figure(figsize=(0.8 + 3.4 * max(2, len(models)), 6.2), layout="constrained", facecolor="white")
    panels = figure.subplots(len(AXES), len(models), squeeze=False)
    for row, axis in enumerate(AXES):
        curves = measure_curves(results, metric, axis)
        for column, model in enumerate(models):
            axes = panels[row, column]
            axes.set_title(shorten(model, 30), fontsize=10)
            axes.set_xlabel(AXIS_LABELS[axis], fontsize=9)
            _draw_points(axes, results, model, metric, axis, styles)
            for of_kind in curves:
                if of_kind.model == model:
                    _draw_curve(axes, of_kind, styles)
            _set_style(axes)
    figure.supylabel(f"test {metric}, {'lower' if is_lower_better(metric) else 'higher'} is better", fontsize=10)
    add_legend(figure, styles, lines=[kind for kind in styles if kind != BASE])
    return figure


def _draw_points(axes: Axes, results: StudyResults, model: str, metric: str, axis: str, styles: Styles) -> None:
    for cell in results.cells:
        if cell.model == model and (values := list(values_by_seed(cell, metric).values())):
            x = [measure_size(cell, axis)] * len(values)
            axes.plot(x, values, **styles[cell.kind], linestyle="none", markersize=4, alpha=0.6, label=cell.title)


def _draw_curve(axes: Axes, of_kind: ScalingCurve, styles: Styles) -> None:
    curve = of_kind.curve
    if curve.band is None or curve.grid is None:
        return
    sign = -1 if is_lower_better(of_kind.metric) else 1
    x, color = curve.grid * of_kind.base_cost, styles[of_kind.kind]["color"]
    axes.plot(x, sign * (curve.a - curve.b * curve.grid**-curve.c), color=color, label=f"curve of {of_kind.kind}")
    axes.fill_between(x, sign * curve.band[0], sign * curve.band[1], color=color, alpha=0.15, linewidth=0)


def _set_style(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e3:g}k" if x < 1e6 else f"{x / 1e6:g}M"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    use_plain_ticks(axes.yaxis)
