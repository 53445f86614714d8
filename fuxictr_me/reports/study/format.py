"""Numbers and names as a report prints them."""

MISSING = "–"
DIGITS = 5  # of a metric, as in the paper


def number(value, digits=DIGITS):
    """``0.81228``, with thousands apart; ``–`` for None."""
    return MISSING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value, digits=DIGITS):
    """``+0.00046``, ``−0.00012``; ``–`` for None."""
    return MISSING if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def spread(mean, sd, digits=DIGITS):
    """``0.81228 ± 0.00005``, without the sd where there is none."""
    return number(mean, digits) if sd is None else f"{number(mean, digits)} ± {number(sd, digits)}"


def interval(low, high, digits=DIGITS):
    """``−0.00012 to +0.00046``; ``–`` where there is none."""
    return MISSING if low is None else f"{signed(low, digits)} to {signed(high, digits)}"


def p_value(p):
    """Two significant digits at most four decimals deep: ``0.62``, ``0.0031``, ``<0.0001``; ``–`` for None."""
    if p is None:
        return MISSING
    return "<0.0001" if p < 1e-4 else f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


def count(n, noun):
    """``1 cell``, ``3 cells``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def said(settings):
    """``net_dropout 0.2, embedding_regularizer 0/1e-06`` of settings by name; ``–`` of none."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in settings.items()) or MISSING


def _shown(value):
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def some(names, limit=4):
    """``a, b, c, d and 3 more``."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def by_model(cells):
    """``DCNv2_ME 2x, 10x; DNN_ME 10x`` of anything with ``model`` and ``scale``."""
    scales = {}
    for cell in cells:
        scales.setdefault(cell.model, []).append(f"{cell.scale}x")
    return "; ".join(f"{model} {', '.join(of_model)}" for model, of_model in scales.items())
