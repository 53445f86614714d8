"""A test metric and information abundance against size: the paper's figures 1a and 7 for a study."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fuxictr_me.reports.study.metric_values import IA_RATIO, is_lower_better
from fuxictr_me.reports.study.model_panels import (
    LineStyle,
    Quantity,
    Styles,
    add_legend,
    choose_styles,
    dodge,
    metric_quantity,
    new_model_panels,
    points_of,
    use_plain_ticks,
)
from fuxictr_me.reports.style import GREY
from fuxictr_me.study.results import BASE, ENSEMBLE, MULTI, SINGLE, CellResult, StudyResults

FROM_BASE: dict[str, LineStyle] = {SINGLE: "-", MULTI: "-", ENSEMBLE: "--"}  # kinds that are base at one times the size
OWN_LINE: LineStyle = ":"  # of other kinds, whose model need not be base there
SEED: dict[str, Any] = {
    "color": GREY,
    "marker": "o",
    "markersize": 3,
    "linestyle": "none",
    "alpha": 0.5,
    "label": "one seed",
}
RANDOM: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.6, "label": "random initialisation"}
PUBLISHED: dict[str, Any] = {
    "color": GREY,
    "linestyle": "none",
    "markerfacecolor": "none",
    "markersize": 9,
    "label": "published",
}


def draw_metric(
    results: StudyResults, metric: str, published: Mapping[tuple[str, str, int], float] | None = None
) -> Figure:
    """Draw a test metric against size, one panel per model: means over seeds, their sd, the seeds (paper, figure 1a).

    Args:
        results: of the study.
        metric: e.g. ``AUC``.
        published: (model, kind, scale) -> value, drawn as hollow markers.
    """
    figure, panels, styles = _draw_by_size(results, metric_quantity(metric))
    for (model, kind, scale), value in (published or {}).items():
        if model in panels and kind in styles:
            panels[model].plot(scale * dodge(styles, kind), value, **{**PUBLISHED, **styles[kind]})
    better = "lower" if is_lower_better(metric) else "higher"
    figure.supylabel(f"test {metric}, {better} is better", fontsize=10)
    more = [{**PUBLISHED, "marker": "o"}] if published else []
    add_legend(figure, styles, SEED, *more, lines=_choose_lines(results))
    return figure


def draw_abundance(results: StudyResults) -> Figure:
    """Draw IA / min(K, D), mean over fields with the sets side by side, against size, one panel per model.

    The reference is the mean over base, SE and ME of a size at random initialisation, over the fields that have one.
    """
    figure, panels, styles = _draw_by_size(results, metric_quantity(IA_RATIO), sharey=True)
    for model, axes in panels.items():
        random: dict[int, list[float]] = {}
        for kind in (BASE, SINGLE, MULTI):
            for point in points_of(results, model, kind, random_ia_ratios):
                random.setdefault(point.scale, []).extend(point.values)
        axes.plot(sorted(random), [fmean(random[scale]) for scale in sorted(random)], **RANDOM)
        axes.set_ylim(bottom=0)
    figure.supylabel("IA / min(K, D), mean over fields", fontsize=10)
    add_legend(figure, styles, SEED, RANDOM, lines=_choose_lines(results))
    return figure


def _choose_lines(results: StudyResults) -> dict[str, LineStyle]:
    """Return kind -> line style, of the kinds whose sizes are connected: from base, or between their own sizes."""
    sizes: dict[str, set[int]] = {}
    for cell in results.cells:
        sizes.setdefault(cell.kind, set()).add(cell.scale)
    own = {kind: OWN_LINE for kind, scales in sizes.items() if len(scales) > 1}
    return {**own, **{kind: line for kind, line in FROM_BASE.items() if kind in sizes}}


def random_ia_ratios(cell: CellResult) -> list[float]:
    """Return IA / min(K, D) at random initialisation of each run: the mean over the fields that have it."""
    known = [[field for field in run.abundance if field["ia_random"] is not None] for run in cell.runs]
    return [fmean(f["ia_random"] / min(f["dim"], f["num_ids"]) for f in fields) for fields in known if fields]


def _draw_by_size(
    results: StudyResults, quantity: Quantity, sharey: bool = False
) -> tuple[Figure, dict[str, Axes], Styles]:
    """Draw a quantity against size: SE, ME and ensemble as lines from base, other kinds as lines without it."""
    figure, panels = new_model_panels(results, sharey)
    styles, lines = choose_styles(results), _choose_lines(results)
    scales = sorted({cell.scale for cell in results.cells})
    for model, axes in panels.items():
        base = points_of(results, model, BASE, quantity)
        for kind, style in styles.items():
            points = points_of(results, model, kind, quantity)
            x, means = [p.scale * dodge(styles, kind) for p in points], [p.mean for p in points]
            if kind in lines:
                start = base if kind in FROM_BASE else []
                line = [*(p.scale for p in start), *x], [*(p.mean for p in start), *means]
                axes.plot(*line, color=style["color"], linewidth=1.5, linestyle=lines[kind], label=f"line of {kind}")
            for at, point in zip(x, points, strict=True):
                axes.plot([at] * len(point.values), point.values, **{**SEED, "color": style["color"]})
            sds = np.array([point.sd for point in points], dtype=float)  # a single run has NaN, and so no bar
            axes.errorbar(x, means, yerr=sds, fmt="none", ecolor=style["color"], elinewidth=1.2, capsize=2.5)
            axes.plot(x, means, **style, linestyle="none", markersize=5.5, zorder=3, label=kind)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(scales, [f"{scale}x" for scale in scales])
        axes.set_xlim(scales[0] * 0.85, scales[-1] * 1.2)
        use_plain_ticks(axes.yaxis)
    figure.supxlabel("embedding parameters, as a multiple of base", fontsize=10)
    return figure, panels, styles
