"""ME − SE as a forest plot."""

from math import isfinite

from fuxictr_me.reports.study.metric_values import lower_is_better
from fuxictr_me.reports.study.panels import plain_numbers
from fuxictr_me.reports.style import BLUE, GREY, new_figure, shorten


def draw_differences(differences, metric="AUC"):
    """ME − SE, a row a comparison, with its confidence interval and what is said of it.

    Args:
        differences (list): objects with ``label`` (str), ``mean``, ``low``, ``high`` (floats; None or NaN where they
            cannot be computed) and ``verdict`` (str).
        metric (str): what differs.

    Returns:
        matplotlib.figure.Figure
    """
    verdicts = [shorten(one.verdict or "", 48) for one in differences]
    figure, axes = new_figure(6.4 + 0.065 * max(map(len, verdicts), default=0), 1.2 + 0.27 * max(3, len(differences)))
    axes.axvline(0, color=GREY, linewidth=1)
    for y, one in enumerate(differences):
        if _is_number(one.low) and _is_number(one.high):
            axes.plot([one.low, one.high], [y, y], color=BLUE, linewidth=1.8, marker="|", markersize=7)
        if _is_number(one.mean):
            axes.plot(one.mean, y, color=BLUE, marker="D", markersize=5.5)
    rows = range(len(differences))
    axes.set_yticks(rows, [shorten(one.label, 40) for one in differences], fontsize=9)
    right = axes.twinx()
    right.set_yticks(rows, verdicts, fontsize=9)
    for each in (axes, right):
        each.set_ylim(len(differences) - 0.4, -0.6)
        each.tick_params(axis="y", length=0)
        each.spines[["top", "right", "left"]].set_visible(False)
    better = "left" if lower_is_better(metric) else "right"
    axes.set_xlabel(f"ME − SE, test {metric}: {better} of 0 ME is better")
    plain_numbers(axes.xaxis)
    return figure


def _is_number(value):
    return value is not None and isfinite(value)
