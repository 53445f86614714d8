"""Tables of text, rendered as Markdown that reads well as plain text, and as LaTeX. ``page.html.j2`` renders HTML."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fuxictr_me.formatting import pad_cells

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
    """A table of text.

    Attributes:
        caption: a sentence; may be empty.
        columns: names of the columns; in place of a name may stand ``(group, name)``. Columns of one group are
            adjacent and share a header in LaTeX.
        align: one letter per column, ``l`` or ``r``.
        rows: cells, all of them text; the first cell names the row.
        notes: sentences printed below the table.
        quoted: positions of rows with numbers that others published; they are set in italics.
        flagged: positions of rows that are highlighted in HTML.
    """

    caption: str
    columns: Sequence[str | tuple[str, str]]
    align: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    quoted: frozenset[int] = frozenset()
    flagged: frozenset[int] = frozenset()

    @property
    def grouped_columns(self) -> list[tuple[str, str]]:
        """Group (``""`` for none) and name of each column."""
        return [("", column) if isinstance(column, str) else column for column in self.columns]

    @property
    def header(self) -> list[str]:
        """Names of the columns, each preceded by its group."""
        return [f"{group} {name}".strip() for group, name in self.grouped_columns]


def to_markdown(table: Table) -> str:
    """Return a table as Markdown: caption, aligned columns and notes. The text ends with a newline."""
    rows = [[f"*{cell}*" if i in table.quoted else cell for cell in row] for i, row in enumerate(table.rows)]
    rows = [[cell.replace("|", r"\|") for cell in row] for row in (table.header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    sides = zip(widths, table.align, strict=True)
    rule = "|".join("-" * (width + 1) + (":" if side == "r" else "-") for width, side in sides)
    header, *body = ["| " + " | ".join(pad_cells(row, widths, table.align)) + " |" for row in rows]
    lines = [header, f"|{rule}|", *body]
    caption = [f"**{table.caption}**", ""] if table.caption else []
    return "\n".join([*caption, *lines, *(line for note in table.notes for line in ("", note)), ""])


def to_latex(table: Table) -> str:
    """Return a table as a LaTeX ``table`` environment. The text ends with a newline.

    The document must load the packages booktabs and graphicx. A wide table is shrunk to the line width.
    """
    names = [escape_latex(name) for _, name in table.grouped_columns]
    groups = list(_find_groups(table.grouped_columns))
    lines = [r"% needs \usepackage{booktabs, graphicx}", r"\begin{table}", r"\centering"]
    lines.append(rf"\caption{{{escape_latex(table.caption)}}}")
    lines.append(r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%")
    lines += [rf"\begin{{tabular}}{{{table.align}}}", r"\toprule"]
    if any(group for group, _, _ in groups):
        lines.append(_latex_row(rf"\multicolumn{{{size}}}{{c}}{{{escape_latex(group)}}}" for group, _, size in groups))
        lines += [rf"\cmidrule(lr){{{start}-{start + size - 1}}}" for group, start, size in groups if group]
    lines += [_latex_row(names), r"\midrule"]
    for i, row in enumerate(table.rows):
        cells = map(escape_latex, row)
        lines.append(_latex_row(rf"\textit{{{cell}}}" if i in table.quoted else cell for cell in cells))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape_latex(' '.join(table.notes))}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def escape_latex(text: str) -> str:
    """Return LaTeX source that prints ``text``."""
    return "".join(LATEX_LETTERS.get(letter, letter) for letter in text)


def _find_groups(columns: Sequence[tuple[str, str]]) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each group, the number of its first column (from 1) and its size; "" is a column alone."""
    numbered = enumerate(columns, start=1)
    for (group, _), adjacent in groupby(numbered, key=lambda column: (column[1][0], column[1][0] or column[0])):
        members = list(adjacent)
        yield group, members[0][0], len(members)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
