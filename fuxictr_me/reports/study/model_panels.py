"""Parts of a study's figures: one panel per model, one style per kind, the mean over seeds, one legend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from fuxictr_me.reports.study.metric_values import values_by_seed
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.reports.study.tuning import list_kinds
from fuxictr_me.reports.style import BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, shorten
from fuxictr_me.study.results import BASE, MULTI, SINGLE, CellResult, StudyResults

STYLES = {BASE: ("black", "s"), SINGLE: (BLUE, "o"), MULTI: (ORANGE, "D")}
CONTROL_COLORS, CONTROL_MARKERS = (GREEN, PINK, SKY, YELLOW), ("^", "v", "P", "X", "<", ">", "*")

DODGE = 1.05  # factor of x between kinds of the same size

Quantity = Callable[[CellResult], list[float]]  # a cell's runs -> one value per run that has it
LineStyle = Literal["-", "--", ":"]
Styles = dict[str, dict[str, Any]]  # kind -> options ``color`` and ``marker`` of its points


@dataclass(frozen=True)
class Point:
    """A quantity of a cell over its runs; ``sd`` is over n − 1, None for a single run."""

    scale: int
    values: list[float]
    mean: float
    sd: float | None


def points_of(results: StudyResults, model: str, kind: str, quantity: Quantity) -> list[Point]:
    """Return the points of a model and kind, smallest scale first, of the cells that have a value."""
    cells = sorted((c for c in results.cells if (c.model, c.kind) == (model, kind)), key=lambda cell: cell.scale)
    points = []
    for cell in cells:
        values = quantity(cell)
        mean, sd = mean_and_sd(values)
        if mean is not None:
            points.append(Point(cell.scale, values, mean, sd))
    return points


def metric_quantity(metric: str) -> Quantity:
    """Return the quantity that reads a metric: see ``values_by_seed``."""
    return lambda cell: list(values_by_seed(cell, metric).values())


def choose_styles(results: StudyResults) -> Styles:
    """Return the style of each kind that the study has: base, SE and ME first, then the controls."""
    kinds = list_kinds(results)
    controls = [kind for kind in kinds if kind not in STYLES]
    of_controls = {
        kind: (CONTROL_COLORS[n % len(CONTROL_COLORS)], CONTROL_MARKERS[n % len(CONTROL_MARKERS)])
        for n, kind in enumerate(controls)
    }
    styles = {**STYLES, **of_controls}
    return {k: {"color": color, "marker": marker} for k, (color, marker) in styles.items() if k in kinds}


def new_model_panels(results: StudyResults, sharey: bool = False) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with one panel per model, and model -> its axes."""
    models = results.models
    columns = len(models) if len(models) <= 3 else 2 if len(models) == 4 else 3
    rows = -(-len(models) // columns)
    size = (6.4, 4.2) if len(models) == 1 else (0.6 + 3.6 * columns, 0.9 + 2.7 * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for axes in panels[len(models) :]:
        axes.remove()
    for model, axes in zip(models, panels, strict=False):
        axes.set_title(shorten(model, 30), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, dict(zip(models, panels, strict=False))


def dodge(styles: Styles, kind: str) -> float:
    """Return the factor of x that separates kinds of one size; 1 for base, which is alone at its size."""
    kinds = [other for other in styles if other != BASE]
    return 1 if kind == BASE else DODGE ** (kinds.index(kind) - (len(kinds) - 1) / 2)


def add_legend(
    figure: Figure, styles: Styles, *more: Mapping[str, Any], lines: Mapping[str, LineStyle] | None = None
) -> None:
    """Put one legend for all panels above them.

    Args:
        figure: of ``new_model_panels``.
        styles: of the kinds.
        *more: options of further lines, with ``label``.
        lines: kind -> line style, of the kinds that are drawn as lines.
    """
    handles = [
        Line2D([], [], **style, linestyle=lines[kind] if lines and kind in lines else "none", label=shorten(kind))
        for kind, style in styles.items()
    ]
    handles += [Line2D([], [], **options) for options in more]
    columns = max(2, int(figure.get_size_inches()[0] / 1.5))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def use_plain_ticks(axis: Axis) -> None:
    """Label ticks with the full number, as 0.8126, without offset and without powers of ten."""
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(formatter)
