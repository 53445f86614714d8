"""The figure "rank along the depth": how many directions each representation of a model uses, one line per run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuxictr_me.reports.collapse.depth import find_mean_of_sets, list_wholes
from fuxictr_me.reports.style import COLORS, MARKERS, PALE, ROTATED, shorten

PANELS = {
    "effective_rank_ratio": "effective rank\n/ min(rows, width)",
    "ia_ratio": "information abundance\n/ min(rows, width)",
}


def draw_depth(reports: Sequence[dict]) -> Figure:
    """Draw shares of the possible directions over the representations in call order, one panel per measure.

    Args:
        reports: of ``report_run``, with ``depth``.
    """
    names = merge_orders([[name for name, _ in list_wholes(report["depth"])] for report in reports])
    width = min(13.5, max(6.4, 2.2 + 0.34 * len(names)))
    figure = Figure(figsize=(width, 6.4), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, (key, label) in zip(panels, PANELS.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=PALE, linewidth=0.8)
        for n, report in enumerate(reports):
            _draw_run(axes, report, names, key, n)
        axes.set_ylim(0, min(1.02, 1.1 * axes.get_ylim()[1]))
        axes.set_ylabel(label)
    size = 9 if len(names) <= 25 else 7
    panels[-1].set_xticks(range(len(names)), [shorten(name, 34) for name in names], fontsize=size, **ROTATED)
    panels[-1].set_xlim(-0.5, len(names) - 0.5)
    panels[-1].set_xlabel("representations, in the order in which they are computed")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def merge_orders(orders: Sequence[Sequence[str]]) -> list[str]:
    """Merge several lists of names into one in which the order of the first is kept, and others are put between."""
    merged: list[str] = []
    for order in orders:
        position = 0
        for name in order:
            if name in merged:
                position = merged.index(name) + 1
            else:
                merged.insert(position, name)
                position += 1
    return merged


def _draw_run(axes: Axes, report: dict, names: Sequence[str], key: str, n: int) -> None:
    color, marker = COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)]
    wholes = {name: part[key] for name, part in list_wholes(report["depth"])}
    single = {one["name"]: find_mean_of_sets(one, key) for one in report["depth"]["representations"]}
    has_sets = any(value is not None for value in single.values())
    label = f"{shorten(report['expid'], 30)}{', sets side by side' if has_sets else ''}"
    _draw_line(axes, [wholes.get(name) for name in names], color=color, marker=marker, label=label)
    if has_sets:
        label = f"{shorten(report['expid'], 30)}, mean of single sets"
        _draw_line(axes, [single.get(name) for name in names], color=color, marker=marker, label=label, linestyle="--")


def _draw_line(axes: Axes, values: Sequence[float | None], linestyle: str = "-", **style: Any) -> None:
    """Draw the values that exist, joined over those that do not."""
    points = [(x, value) for x, value in enumerate(values) if value is not None]
    fill = "none" if linestyle == "--" else "full"
    axes.plot(*np.transpose(points), linestyle=linestyle, linewidth=1.5, markersize=5, fillstyle=fill, **style)
