"""The figure of the quickstart: information abundance per field, and singular-value spectra."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

COLORS = {"SE": "#0072B2", "ME": "#D55E00"}  # Okabe and Ito: distinguishable in grey and for colour-blind readers
LABELS = {"SE": "SE 10x: one set of 100", "ME": "ME 10x: 10 sets of 10, side by side"}
MARKERS = {"SE": "o", "ME": "D"}


def draw_comparison(fields: list[dict[str, Any]], spectra: dict[str, Any], path: Path) -> None:
    """Draw the figure and write it as PNG.

    Args:
        fields, spectra: as ``compare_collapse`` returns them.
        path: of the PNG.
    """
    figure = Figure(figsize=(12, 4.8), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])

    x = range(len(fields))
    left.bar(x, [f["ceiling"] for f in fields], color="#EEEEEE", width=0.9, label="ceiling: min(K, D)")
    left.hlines(
        [f["random"] for f in fields],
        [i - 0.4 for i in x],
        [i + 0.4 for i in x],
        colors="#777777",
        linewidth=1.5,
        label="random initialisation",
    )
    for shift, name in ((-0.17, "SE"), (0.17, "ME")):
        values = [f[name] for f in fields]
        style = {"color": COLORS[name], "marker": MARKERS[name], "linestyle": "none", "markersize": 6}
        left.plot([i + shift for i in x], values, label=LABELS[name], **style)
    left.set_xticks(list(x), [f"{f['field']}  {f['num_ids']:,}" for f in fields], rotation=50, ha="right", fontsize=8)
    left.set_ylabel("information abundance  Σσ / max σ")
    left.set_title("Information abundance of each field (number of ids)", loc="left", fontsize=11)
    left.legend(fontsize=8, loc="upper left", frameon=False)

    for name, spectrum in spectra.items():
        k = range(1, len(spectrum) + 1)
        style = {"color": COLORS[name], "marker": MARKERS[name], "markersize": 2.5, "linewidth": 1.3}
        right.plot(k, spectrum, label=LABELS[name], **style)
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_xlabel("k")
    right.set_ylabel("σₖ / σ₁, mean over fields")
    right.set_title("Singular values, fields with ids for all K = 100", loc="left", fontsize=11)
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
