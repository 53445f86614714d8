"""The scaling curves of a study: the fitted power laws with their bands, over the values of all seeds."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from fuxictr_me.reports.study.curve_findings import AXES, PARAMETERS, ScalingCurve, measure_curves, measure_size
from fuxictr_me.reports.study.metric_values import is_lower_better, values_by_seed
from fuxictr_me.reports.study.model_panels import Styles, add_legend, choose_styles, dodge, use_plain_ticks
from fuxictr_me.reports.style import GREY, shorten
from fuxictr_me.study.results import BASE, StudyResults

AXIS_LABELS = {PARAMETERS: "embedding parameters", AXES[1]: "FLOPs of training per row (estimate)"}
FALLING = ("peaks", "loses")  # verdicts
FALLS = {"color": GREY, "linestyle": "--", "label": "worse at the largest size"}


def draw_scaling_curves(results: StudyResults, metric: str) -> Figure:
    """Draw a test metric against embedding parameters (above) and FLOPs (below), one column per model.

    Each kind has its fitted curve with the interval as a band, and a point for each seed and size. The curve of a kind
    that is worse at its largest size is dashed, because a power law cannot fall after a gain.
    """
    models, styles = results.models, choose_styles(results)
    figure = Figure(figsize=(0.8 + 3.4 * max(2, len(models)), 6.4), layout="constrained", facecolor="white")
    panels = figure.subplots(len(AXES), len(models), squeeze=False, sharey="col")
    curves_of = {axis: measure_curves(results, metric, axis) for axis in AXES}
    for row, (axis, curves) in enumerate(curves_of.items()):
        for column, model in enumerate(models):
            axes = panels[row, column]
            if row == 0:
                axes.set_title(shorten(model, 30), fontsize=10)
            for of_kind in curves:
                if of_kind.model == model:
                    _draw_curve(axes, of_kind, styles)
            _draw_points(axes, results, model, metric, axis, styles)
            _set_style(axes, _list_parameters(results, model) if axis == PARAMETERS else {})
        panels[row, len(models) // 2].set_xlabel(AXIS_LABELS[axis], fontsize=10)
    figure.supylabel(f"test {metric}, {'lower' if is_lower_better(metric) else 'higher'} is better", fontsize=10)
    falls = any(of_kind.curve.verdict in FALLING for curves in curves_of.values() for of_kind in curves)
    more = [FALLS] if falls else []
    add_legend(figure, styles, *more, lines={kind: "-" for kind in styles if kind != BASE})
    return figure


def _draw_points(axes: Axes, results: StudyResults, model: str, metric: str, axis: str, styles: Styles) -> None:
    for cell in results.cells:
        if cell.model == model and (values := list(values_by_seed(cell, metric).values())):
            shift = dodge(styles, cell.kind) if axis == PARAMETERS else 1.0  # kinds of one size have equal parameters
            x = [measure_size(cell, axis) * shift] * len(values)
            axes.plot(x, values, **styles[cell.kind], linestyle="none", markersize=4, alpha=0.6, label=cell.title)


def _list_parameters(results: StudyResults, model: str) -> dict[float, int]:
    """Return embedding parameters -> scale of a model's cells. One kind of each scale is enough."""
    cells = (cell for cell in results.cells if cell.model == model and cell.runs)
    parameters = {cell.scale: measure_size(cell, PARAMETERS) for cell in cells}
    return {size: scale for scale, size in parameters.items()}


def _draw_curve(axes: Axes, of_kind: ScalingCurve, styles: Styles) -> None:
    curve = of_kind.curve
    if curve.band is None or curve.grid is None:
        return
    sign = -1 if is_lower_better(of_kind.metric) else 1
    x, color = curve.grid * of_kind.base_cost, styles[of_kind.kind]["color"]
    style = "--" if curve.verdict in FALLING else "-"
    y = sign * (curve.a - curve.b * curve.grid**-curve.c)
    axes.plot(x, y, color=color, linestyle=style, label=f"curve of {of_kind.kind}")
    axes.fill_between(x, sign * curve.band[0], sign * curve.band[1], color=color, alpha=0.12, linewidth=0)


def _set_style(axes: Axes, scales: dict[float, int]) -> None:
    """Use a logarithmic axis of x, with ticks at the sizes in ``scales``, or at 1, 2 and 5 times powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if scales:
        axes.set_xticks(list(scales), [f"{scale}x\n{_shorten_number(size)}" for size, scale in scales.items()])
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _shorten_number(x)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    use_plain_ticks(axes.yaxis)


def _shorten_number(number: float) -> str:
    return f"{number / 1e3:.3g}k" if number < 1e6 else f"{number / 1e6:.3g}M"
