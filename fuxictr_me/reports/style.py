"""What all pictures share: colours, markers, axes over fields, and how they are saved."""

import io

from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLORS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)  # Okabe and Ito: told apart by colour-blind eyes
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "<", ">", "*")
GREY, PALE = "#6B6B6B", "#E4E4E4"
IA_LABEL = "information abundance  Σσ / max σ"
ROTATED = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
DPI = 150


def new_figure(width, height):
    """A figure of one panel, in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def fields_figure(num_fields):
    """A figure that is wide enough for a point a field, and its axes."""
    return new_figure(min(13.5, max(6.4, 2.6 + 0.28 * num_fields)), 4.8)


def label_fields(figure, axes, fields):
    """Name the fields below the axes and put the legend above.

    Args:
        fields (list of dict): ``field`` and ``num_ids``, in the order of x.
    """
    size = 9 if len(fields) <= 25 else 8
    labels = [f"{shorten(field['field'])}  {field['num_ids']:,}" for field in fields]
    axes.set_xticks(range(len(fields)), labels, fontsize=size, **ROTATED)
    axes.set_xlim(-0.7, len(fields) - 0.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("field and its number of ids D, fewest first")
    axes.set_ylabel(IA_LABEL)
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, min(5, len(names), 90 // (max(map(len, names)) + 6)))  # what fits the width
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=9)


def shorten(name, limit=18):
    """A name that fits beside an axis, and whose ``$`` are no mathematics."""
    short = name if len(name) <= limit else f"{name[: limit - 1]}…"
    return short.replace("$", r"\$")


def save(figure, folder, name):
    """Write a figure as PNG and as SVG.

    Returns:
        dict: ``name``, ``png`` (bytes), ``width`` (CSS pixels).
    """
    figure.savefig(folder / f"{name}.svg")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    (folder / f"{name}.png").write_bytes(png.getvalue())
    return {"name": name, "png": png.getvalue(), "width": round(figure.get_size_inches()[0] * 96)}
