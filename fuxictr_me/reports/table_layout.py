"""A table of text, as Markdown that reads well as plain text, and as LaTeX."""

from dataclasses import dataclass
from itertools import groupby

LATEX_LETTERS = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "–": "--",
    "…": r"\ldots{}",
}


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption (str)
        columns (tuple of (str, str)): group and name; columns of one group stand together, ``""`` is none.
        align (str): a letter a column, ``l`` or ``r``.
        rows (tuple of tuple of str): cells.
        notes (tuple of str): sentences to stand below.
        quoted (frozenset of int): rows of numbers that others published: in italics.
    """

    caption: str
    columns: tuple
    align: str
    rows: tuple
    notes: tuple = ()
    quoted: frozenset = frozenset()

    @property
    def header(self):
        """Names of the columns, each with its group (list of str)."""
        return [f"{group} {name}".strip() for group, name in self.columns]


def markdown(table):
    """A table as Markdown: caption, aligned columns, notes.

    Args:
        table (Table)

    Returns:
        str: ends with a newline.
    """
    rows = [[f"*{cell}*" if i in table.quoted else cell for cell in row] for i, row in enumerate(table.rows)]
    rows = [[cell.replace("|", r"\|") for cell in row] for row in (table.header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    sides = list(zip(widths, table.align, strict=True))
    rule = ["-" * width if side == "l" else "-" * (width - 1) + ":" for width, side in sides]
    padded = [[_padded(cell, *side) for cell, side in zip(row, sides, strict=True)] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:])]
    return "\n".join([f"**{table.caption}**", "", *lines, *(line for note in table.notes for line in ("", note)), ""])


def latex(table):
    """A table as LaTeX; the document needs the packages booktabs and graphicx. A wide one is shrunk to the line.

    Args:
        table (Table)

    Returns:
        str: a ``table`` environment; ends with a newline.
    """
    names = [escaped(name) for _, name in table.columns]
    groups = list(_groups(table.columns))
    lines = [r"% needs \usepackage{booktabs, graphicx}", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{escaped(table.caption)}}}")
    lines.append(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%")
    lines += [rf"\begin{{tabular}}{{{table.align}}}", r"\toprule"]
    if any(group for group, _, _ in groups):
        lines.append(_line(rf"\multicolumn{{{size}}}{{c}}{{{escaped(group)}}}" for group, _, size in groups))
        lines += [rf"\cmidrule(lr){{{start}-{start + size - 1}}}" for group, start, size in groups if group]
    lines += [_line(names), r"\midrule"]
    for i, row in enumerate(table.rows):
        lines.append(_line(rf"\textit{{{escaped(c)}}}" if i in table.quoted else escaped(c) for c in row))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escaped(' '.join(table.notes))}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text):
    """Text as LaTeX prints it."""
    return "".join(LATEX_LETTERS.get(letter, letter) for letter in text)


def _padded(cell, width, side):
    return cell.ljust(width) if side == "l" else cell.rjust(width)


def _groups(columns):
    """(group, number of its first column, how many) in order; columns of no group stand alone."""
    numbered = enumerate(columns, start=1)
    for (group, _), members in groupby(numbered, key=lambda column: (column[1][0], column[1][0] or column[0])):
        members = list(members)
        yield group, members[0][0], len(members)


def _line(cells):
    return " & ".join(cells) + r" \\"
