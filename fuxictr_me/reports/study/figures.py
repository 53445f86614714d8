"""A test metric and information abundance against size: the paper's figures 1a and 7 for a study of one's own."""

from statistics import fmean

import numpy as np
from matplotlib.ticker import NullLocator

from fuxictr_me.reports.study.metric_values import IA_RATIO, lower_is_better
from fuxictr_me.reports.study.panels import legend_above, model_panels, of_metric, plain_numbers, points_of, styles_of
from fuxictr_me.reports.style import GREY
from fuxictr_me.study.results import BASE, MULTI, SINGLE

DODGE = 1.05  # times the size, between kinds of the same size
SEED = {"color": GREY, "marker": "o", "markersize": 3, "linestyle": "none", "alpha": 0.5, "label": "one seed"}
RANDOM = {"color": GREY, "linestyle": "--", "linewidth": 1.6, "label": "random initialisation"}
PUBLISHED = {"color": GREY, "linestyle": "none", "markerfacecolor": "none", "markersize": 9}


def draw_metric(results, metric, published=None):
    """A test metric against size, a panel a model: means over seeds, their sd, and the single seeds (paper, figure 1a).

    Args:
        results (StudyResults)
        metric (str): e.g. ``AUC``.
        published (dict): (model, kind, scale) -> value, shown as hollow markers.

    Returns:
        matplotlib.figure.Figure
    """
    figure, panels, styles = _by_size(results, of_metric(metric))
    for (model, kind, scale), value in (published or {}).items():
        if model in panels and kind in styles:
            panels[model].plot(
                scale * _shift(styles, kind), value, **{**PUBLISHED, **styles[kind], "label": "published"}
            )
    better = "lower" if lower_is_better(metric) else "higher"
    figure.supylabel(f"test {metric}, {better} is better", fontsize=10)
    more = [{**PUBLISHED, "marker": "o", "label": "published"}] if published else []
    legend_above(figure, styles, SEED, *more, lines=(SINGLE, MULTI))
    return figure


def draw_abundance(results):
    """Mean over fields of IA / min(K, D), sets side by side, against size, a panel a model.

    The reference is the mean of base, SE and ME of the size at random initialisation, over the fields that have one.

    Args:
        results (StudyResults)

    Returns:
        matplotlib.figure.Figure
    """
    figure, panels, styles = _by_size(results, of_metric(IA_RATIO), sharey=True)
    for model, axes in panels.items():
        random = {}
        for kind in (BASE, SINGLE, MULTI):
            for point in points_of(results, model, kind, random_ia_ratios):
                random.setdefault(point.scale, []).extend(point.values)
        axes.plot(sorted(random), [fmean(random[scale]) for scale in sorted(random)], **RANDOM)
        axes.set_ylim(bottom=0)
    figure.supylabel("IA / min(K, D), mean over fields", fontsize=10)
    legend_above(figure, styles, SEED, RANDOM, lines=(SINGLE, MULTI))
    return figure


def random_ia_ratios(cell):
    """IA / min(K, D) at random initialisation of each run: mean over the fields that have it."""
    known = [[field for field in run.abundance if field["ia_random"] is not None] for run in cell.runs]
    return [fmean(f["ia_random"] / min(f["dim"], f["num_ids"]) for f in fields) for fields in known if fields]


def _by_size(results, quantity, **options):
    """A quantity of the runs against size: SE and ME as lines from the base they share, controls as points."""
    figure, panels = model_panels(results, **options)
    styles = styles_of(results)
    scales = sorted({cell.scale for cell in results.cells})
    for model, axes in panels.items():
        base = points_of(results, model, BASE, quantity)
        for kind, style in styles.items():
            points = points_of(results, model, kind, quantity)
            x, means = [p.scale * _shift(styles, kind) for p in points], [p.mean for p in points]
            if kind in (SINGLE, MULTI):
                line = {"color": style["color"], "linewidth": 1.5, "label": f"line of {kind}"}
                axes.plot([*(p.scale for p in base), *x], [*(p.mean for p in base), *means], **line)
            for at, point in zip(x, points, strict=True):
                axes.plot([at] * len(point.values), point.values, **{**SEED, "color": style["color"]})
            sds = np.array([point.sd for point in points], dtype=float)  # NaN, and so no bar, of one run
            axes.errorbar(x, means, yerr=sds, fmt="none", ecolor=style["color"], elinewidth=1.2, capsize=2.5)
            axes.plot(x, means, **style, linestyle="none", markersize=5.5, zorder=3, label=kind)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(scales, [f"{scale}x" for scale in scales])
        axes.set_xlim(scales[0] * 0.85, scales[-1] * 1.2)
        plain_numbers(axes.yaxis)
    figure.supxlabel("embedding parameters, times those of base", fontsize=10)
    return figure, panels, styles


def _shift(styles, kind):
    """Factor of x that keeps kinds of one size apart; 1 for base, which is alone at its size."""
    kinds = [other for other in styles if other != BASE]
    return 1 if kind == BASE else DODGE ** (kinds.index(kind) - (len(kinds) - 1) / 2)
