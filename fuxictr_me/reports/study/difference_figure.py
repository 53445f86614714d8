"""Differences between ME and SE as a forest plot."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from fuxictr_me.reports.study.comparisons import Comparison
from fuxictr_me.reports.study.metric_values import is_lower_better
from fuxictr_me.reports.study.model_panels import use_plain_ticks
from fuxictr_me.reports.style import BLUE, GREY, new_figure, shorten


def draw_differences(comparisons: Sequence[Comparison]) -> Figure:
    """Draw one row per comparison of ME and SE, with its mean, confidence interval and conclusion."""
    conclusions = [shorten(one.conclusion, 48) for one in comparisons]
    width, height = 6.4 + 0.065 * max(map(len, conclusions)), 1.2 + 0.27 * max(3, len(comparisons))
    figure, axes = new_figure(width, height)
    axes.axvline(0, color=GREY, linewidth=1)
    for y, one in enumerate(comparisons):
        if one.test.low is not None and one.test.high is not None:
            axes.plot([one.test.low, one.test.high], [y, y], color=BLUE, linewidth=1.8, marker="|", markersize=7)
        if one.test.mean is not None:
            axes.plot(one.test.mean, y, color=BLUE, marker="D", markersize=5.5)
    rows = range(len(comparisons))
    axes.set_yticks(rows, [shorten(f"{one.model} {one.scale}x", 40) for one in comparisons], fontsize=9)
    right = axes.twinx()
    right.set_yticks(rows, conclusions, fontsize=9)
    for each in (axes, right):
        each.set_ylim(len(comparisons) - 0.4, -0.6)
        each.tick_params(axis="y", length=0)
        each.spines[["top", "right", "left"]].set_visible(False)
    metric = comparisons[0].metric
    better = "left" if is_lower_better(metric) else "right"
    axes.set_xlabel(f"ME − SE, test {metric}: ME is better {better} of 0")
    use_plain_ticks(axes.xaxis)
    return figure
