"""Format counts, byte sizes, times and lists of names, for messages and reports of every layer."""

from collections.abc import Iterable, Sequence

MISSING = "–"  # shown in place of a number that does not exist


def pluralize(count: int, noun: str) -> str:
    """Return ``1 cell`` or ``3 cells``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join_names(names: Iterable[object], limit: int = 5) -> str:
    """Return ``a, b, c, d, e and 3 more``."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def format_bytes(count: float) -> str:
    """Return a number of bytes in decimal units: ``36.6 MB``, ``21.61 GB``, ``80 GB``."""
    units = ("EB", 1e18), ("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)
    unit, scale = next(((unit, scale) for unit, scale in units if count >= scale), ("B", 1))
    digits = 2 if scale >= 1e9 else 1
    return f"{count / scale:,.{digits}f}".removesuffix(f".{'0' * digits}") + f" {unit}"


def format_seconds(seconds: float) -> str:
    """Return a time in the unit that suits its size: ``2.59 ms``, ``3.0 s``, ``2.5 min``, ``7.2 h``."""
    if seconds < 1:
        return f"{seconds * 1e3:,.2f} ms"
    for scale, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds:,.1f} s"


def align_columns(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Return one line per row, its cells padded to the width of their column.

    Args:
        rows: cells, of equally many columns in each row.
        align: one letter per column, ``l`` (left) or ``r`` (right).
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(pad_cells(row, widths, align)).rstrip() for row in rows]


def pad_cells(cells: Sequence[str], widths: Sequence[int], align: str) -> list[str]:
    """Return cells padded to the widths of their columns; ``align`` as for ``align_columns``."""
    columns = zip(cells, widths, align, strict=True)
    return [cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in columns]
