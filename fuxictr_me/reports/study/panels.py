"""What the figures of a study share: a panel a model, a style a kind, the mean over seeds, a legend above."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fuxictr_me.reports.study.metric_values import values
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.style import BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, shorten
from fuxictr_me.study.results import BASE, MULTI, SINGLE

STYLES = {BASE: ("black", "s"), SINGLE: (BLUE, "o"), MULTI: (ORANGE, "D")}
CONTROL_COLORS, CONTROL_MARKERS = (GREEN, PINK, SKY, YELLOW), ("^", "v", "P", "X", "<", ">", "*")


@dataclass(frozen=True)
class Point:
    """A quantity of a cell, over its runs.

    Attributes:
        scale (int)
        values (list of float): one a run, one at least.
        mean (float)
        sd (float or None): over n − 1; None of a single run.
    """

    scale: int
    values: list
    mean: float
    sd: float | None


def points_of(results, model, kind, quantity):
    """The points of a model and kind, smallest first; a cell without a value has none.

    Args:
        results (StudyResults)
        model, kind (str)
        quantity (callable): CellResult -> list of float, one a run that has it.

    Returns:
        list of Point
    """
    cells = sorted((c for c in results.cells if (c.model, c.kind) == (model, kind)), key=lambda cell: cell.scale)
    found = [(cell.scale, quantity(cell)) for cell in cells]
    return [Point(scale, numbers, *mean_and_sd(numbers)) for scale, numbers in found if numbers]


def of_metric(metric):
    """A quantity for ``points_of``: a metric of the test set, or one of ``values.ABUNDANCE``."""
    return lambda cell: list(values(cell, metric).values())


def styles_of(results):
    """Kind -> colour and marker, of the kinds that the study has: base, SE and ME first, then the controls."""
    kinds = list(dict.fromkeys(cell.kind for cell in results.cells))
    controls = [kind for kind in kinds if kind not in STYLES]
    own = {
        kind: (CONTROL_COLORS[n % len(CONTROL_COLORS)], CONTROL_MARKERS[n % len(CONTROL_MARKERS)])
        for n, kind in enumerate(controls)
    }
    styles = {**STYLES, **own}
    return {k: {"color": color, "marker": marker} for k, (color, marker) in styles.items() if k in kinds}


def model_panels(results, **options):
    """A figure with a panel a model.

    Args:
        results (StudyResults)
        **options: of ``Figure.subplots``.

    Returns:
        (Figure, dict): the figure, and model -> axes.
    """
    models = results.models
    columns = len(models) if len(models) <= 3 else 2 if len(models) == 4 else 3
    rows = -(-len(models) // columns)
    size = (6.4, 4.2) if len(models) == 1 else (0.6 + 3.6 * columns, 0.9 + 2.7 * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in panels[len(models) :]:
        axes.remove()
    for model, axes in zip(models, panels, strict=False):
        axes.set_title(shorten(model, 30), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, dict(zip(models, panels, strict=False))


def legend_above(figure, styles, *more, lines=()):
    """One legend for all panels.

    Args:
        figure (Figure)
        styles (dict): of ``styles_of``.
        *more (dict): options of further lines, with ``label``.
        lines (tuple of str): kinds that are drawn as lines.
    """
    handles = [
        Line2D([], [], **style, linestyle="-" if kind in lines else "none", label=shorten(kind))
        for kind, style in styles.items()
    ]
    handles += [Line2D([], [], **options) for options in more]
    columns = max(2, int(figure.get_size_inches()[0] / 1.5))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def plain_numbers(axis):
    """Ticks in full, as 0.8126: no offset, no power of ten."""
    axis.set_major_locator(MaxNLocator(5))
    axis.get_major_formatter().set_useOffset(False)
    axis.get_major_formatter().set_scientific(False)
