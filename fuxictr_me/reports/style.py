"""Style of all figures: colours, markers, axes over fields, and how figures are saved."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLORS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)  # of Okabe and Ito: colour-blind readers can tell them apart
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "<", ">", "*")
GREY, PALE = "#6B6B6B", "#E4E4E4"
IA_LABEL = "information abundance  Σσ / max σ"
ROTATED: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
DPI = 150


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure with its texts.

    Attributes:
        name: of its files, without a suffix.
        figure: what is drawn.
        caption: printed below it.
        alt: alternative text for readers who do not see it.
    """

    name: str
    figure: Figure
    caption: str
    alt: str


@dataclass(frozen=True)
class SavedFigure:
    """A figure as a page embeds it: PNG data, width in CSS pixels, and the texts of ``CaptionedFigure``."""

    name: str
    png: bytes
    width: int
    caption: str
    alt: str


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of one panel, of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def new_fields_figure(num_fields: int) -> tuple[Figure, Axes]:
    """Return a figure wide enough for one point per field, and its axes."""
    return new_figure(min(13.5, max(6.4, 2.6 + 0.28 * num_fields)), 4.8)


def label_fields(figure: Figure, axes: Axes, fields: Sequence[Mapping]) -> None:
    """Name the fields below the axes, and put the legend above them.

    Args:
        figure: that the axes belong to.
        axes: field n is at x = n.
        fields: with ``field`` (name) and ``num_ids``.
    """
    size = 9 if len(fields) <= 25 else 8
    labels = [f"{shorten(field['field'])}  {field['num_ids']:,}" for field in fields]
    axes.set_xticks(range(len(fields)), labels, fontsize=size, **ROTATED)
    axes.set_xlim(-0.7, len(fields) - 0.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("field and its number of ids D, in ascending order of D")
    axes.set_ylabel(IA_LABEL)
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, min(5, len(names), 90 // (max(map(len, names)) + 6)))  # as many as fit the width
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def draw_ceilings(axes: Axes, ceilings: Sequence[float], suffix: str = "") -> None:
    """Draw min(K, D) of each field as a pale bar."""
    axes.bar(range(len(ceilings)), ceilings, color=PALE, width=0.9, label=f"ceiling min(K, D){suffix}")


def draw_dashes(axes: Axes, x: np.ndarray, y: Iterable[float | None], half_width: float, **style: Any) -> None:
    """Draw a horizontal dash around each x at height y; None draws nothing. ``style`` as for ``Axes.hlines``."""
    heights = np.array([np.nan if value is None else value for value in y])
    axes.hlines(heights, x - half_width, x + half_width, **style)


def add_random_to_legend(axes: Axes) -> None:
    """Explain dashes in the colours of several models in the legend."""
    axes.plot([], [], color=GREY, linewidth=1.4, label="dashes: random initialisation")


def shorten(name: str, limit: int = 18) -> str:
    """Return a name that fits beside an axis, in which matplotlib takes no ``$`` for mathematics."""
    short = name if len(name) <= limit else f"{name[: limit - 1]}…"
    return short.replace("$", r"\$")


def save_figures(figures: Iterable[CaptionedFigure], folder: Path) -> list[SavedFigure]:
    """Write each figure to ``folder`` as PNG and as SVG."""
    saved = []
    for one in figures:
        one.figure.savefig(folder / f"{one.name}.svg")
        png = io.BytesIO()
        one.figure.savefig(png, format="png", dpi=DPI)
        (folder / f"{one.name}.png").write_bytes(png.getvalue())
        width = round(one.figure.get_size_inches()[0] * 96)
        saved.append(SavedFigure(one.name, png.getvalue(), width, one.caption, one.alt))
    return saved
