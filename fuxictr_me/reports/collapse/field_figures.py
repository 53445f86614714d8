"""Spectra, information abundance and its curves over training: the paper's figures 1b, 2, 8a and 8b for any model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fuxictr_me.reports.collapse.verdict import is_collapsed
from fuxictr_me.reports.style import (
    BLUE,
    COLORS,
    GREY,
    MARKERS,
    ORANGE,
    SKY,
    add_random_to_legend,
    draw_ceilings,
    draw_dashes,
    label_fields,
    new_fields_figure,
    new_figure,
)

FLOOR = 1e-4  # smallest σ / σ₁ that is drawn


def draw_spectra(layer: dict) -> Figure:
    """Draw the normalised singular values of each field's table, coloured by its number of ids (paper, figure 1b)."""
    figure, axes = new_figure(7.4, 4.6)
    fields = [field for field in layer["fields"] if len(field["parts"][-1]["spectrum"]) > 1]
    ids = [field["num_ids"] for field in fields] or [1, 10]
    fewest, most = max(1, min(ids)), max(*ids, min(ids) + 1, 2)
    decades = most >= 10 * fewest  # else a logarithmic scale would have no plain numbers beside it
    norm = LogNorm(fewest, most) if decades else Normalize(fewest, most)
    colors = ScalarMappable(norm, ListedColormap(colormaps["cividis_r"](np.linspace(0.12, 1, 256))))
    width = max((len(field["parts"][-1]["spectrum"]) for field in fields), default=1)
    for field in fields:
        spectrum = field["parts"][-1]["spectrum"]
        k = range(1, len(spectrum) + 1)
        axes.plot(k, spectrum, color=colors.to_rgba(field["num_ids"]), linewidth=1.3, alpha=0.85)
    if full := [field["parts"][-1]["spectrum"] for field in fields if len(field["parts"][-1]["spectrum"]) == width]:
        mean = np.mean(full, axis=0)
        label = f"mean of the {len(full)} fields that have {width} singular values"
        axes.plot(range(1, width + 1), mean, color="black", linewidth=2.6, linestyle="--", label=label)
        axes.legend(frameon=False, loc="lower left")
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(max(FLOOR, axes.get_ylim()[0]), 1.25)
    axes.set_xlabel("k, singular values by size")
    axes.set_ylabel("σₖ / σ₁")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ticks = None if decades else MaxNLocator("auto", integer=True)
    figure.colorbar(colors, ax=axes, label="number of ids D", pad=0.02, ticks=ticks)
    return figure


def draw_abundance(layer: dict) -> Figure:
    """Draw IA of each field with random initialisation and the ceiling, by number of ids (paper, figure 2)."""
    fields = _sort_by_ids(layer)
    figure, axes = new_fields_figure(len(fields))
    wholes = [field["parts"][-1] for field in fields]
    _draw_references(axes, wholes)
    for chosen, color, marker, label in ((False, BLUE, "o", "learned"), (True, ORANGE, "D", "learned, collapsed")):
        points = [(x, part["ia"]) for x, part in enumerate(wholes) if is_collapsed(part) == chosen]
        if points:
            style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6.5, "linestyle": "none"}
            axes.plot(*zip(*points, strict=True), label=label, **style)
    label_fields(figure, axes, fields)
    return figure


def draw_per_set(layer: dict) -> Figure:
    """Draw IA of each set's table for each field (paper, figure 8b)."""
    fields = _sort_by_ids(layer)
    figure, axes = new_fields_figure(len(fields))
    single = [field["parts"][0] for field in fields]
    _draw_references(axes, single, suffix=" of one set")
    num_sets = layer["num_sets"]
    for m in range(num_sets):
        shift = 0.75 * ((m + 0.5) / num_sets - 0.5)
        values = [field["parts"][m]["ia"] for field in fields]
        style: dict[str, Any] = {"color": COLORS[m % len(COLORS)], "marker": MARKERS[m % len(MARKERS)]}
        style["markersize"] = 5 if num_sets <= 5 else 3.8
        axes.plot([x + shift for x in range(len(fields))], values, linestyle="none", label=f"set {m}", **style)
    label_fields(figure, axes, fields)
    return figure


def draw_compared(models: Mapping[str, dict]) -> Figure:
    """Draw IA of the fields that all models have, sets side by side (paper, figure 8a).

    Args:
        models: expid -> layer of ``measure_collapse``.
    """
    first = next(iter(models.values()))
    common = set.intersection(*({f["field"] for f in layer["fields"]} for layer in models.values()))
    fields = [field for field in _sort_by_ids(first) if field["field"] in common]
    figure, axes = new_fields_figure(len(fields))
    for n, (expid, layer) in enumerate(models.items()):
        parts = {field["field"]: field["parts"][-1] for field in layer["fields"]}
        wholes = [parts[field["field"]] for field in fields]
        color, shift = COLORS[n % len(COLORS)], 0.6 * ((n + 0.5) / len(models) - 0.5)
        x = np.arange(len(fields)) + shift
        dims = {part["dim"] for field in layer["fields"] for part in field["parts"][:-1]}
        size = f" × {dims.pop()}" if len(dims) == 1 else " sets"
        label = f"{expid} ({layer['num_sets']}{size})"
        style: dict[str, Any] = {"marker": MARKERS[n % len(MARKERS)], "linestyle": "none", "markersize": 6}
        axes.plot(x, [part["ia"] for part in wholes], color=color, label=label, **style)
        draw_dashes(axes, x, [part["ia_random"] for part in wholes], 0.3 / len(models), colors=color, linewidth=1.4)
    add_random_to_legend(axes)
    label_fields(figure, axes, fields)
    return figure


def draw_curves(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draw IA / min(K, D) of each field at each evaluation, and their mean.

    Args:
        rows: of the callback's csv, of one layer, event ``evaluation``, set ``all``.
    """
    figure, axes = new_figure(7.4, 4.6)
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["ia_ratio"] != "":
            curves.setdefault(row["field"], {})[int(row["step"])] = float(row["ia_ratio"])
    marker = "o" if len({step for curve in curves.values() for step in curve}) < 15 else None
    for curve in curves.values():
        axes.plot(list(curve), list(curve.values()), color=SKY, linewidth=1, alpha=0.7, marker=marker, markersize=2.5)
    steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    mean = [np.mean([curve[step] for curve in curves.values()]) for step in steps]
    axes.plot([], [], color=SKY, linewidth=1, label="one field")
    axes.plot(steps, mean, color=BLUE, linewidth=2.6, marker=marker, label=f"mean of {len(curves)} fields")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("IA / min(K, D)")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)
    return figure


def _sort_by_ids(layer: dict) -> list[dict]:
    return sorted(layer["fields"], key=lambda field: field["num_ids"])


def _draw_references(axes: Axes, parts: Sequence[dict], suffix: str = "") -> None:
    """Draw the ceiling of each field as a bar, and random initialisation as a dash."""
    draw_ceilings(axes, [part["ceiling"] for part in parts], suffix)
    style: dict[str, Any] = {"colors": GREY, "linewidth": 1.8, "label": f"random initialisation{suffix}"}
    draw_dashes(axes, np.arange(len(parts)), [part["ia_random"] for part in parts], 0.42, **style)
