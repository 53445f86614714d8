"""The report of a study as one page that opens from disk: pictures and styles inside, no script, no network."""

import base64

from jinja2 import Environment, PackageLoader

from fuxictr_me.reports.study.format import said
from fuxictr_me.reports.study.side_tables import tuning_table
from fuxictr_me.reports.study.tuning import grid_of, is_tuned, kinds_of


def render(results, findings, cautions, tables, figures):
    """The page of a study; what was tuned, the settings and the failed runs are of ``results``.

    Args:
        results (StudyResults)
        findings, cautions (list of str): sentences; the first of the findings is the headline.
        tables (list of dict): of ``page_table``; at least ``title``, ``caption``, ``header`` (list of str) and ``rows``
            (lists of str, the first of which names the row).
        figures (list of dict): of ``fuxictr_me.reports.study.pictures.draw_all``.

    Returns:
        str: HTML.
    """
    environment = Environment(loader=PackageLoader("fuxictr_me.reports", "templates"), autoescape=True)
    environment.filters["said"] = said
    encoded = [{**figure, "png": base64.b64encode(figure["png"]).decode()} for figure in figures]
    return environment.get_template("study.html.j2").render(
        results=results,
        findings=findings,
        cautions=cautions,
        above=[table for table in tables if not table.get("below")],
        below=[table for table in tables if table.get("below")],
        figures=encoded,
        grids={kind: grid_of(results, kind) for kind in kinds_of(results)} if is_tuned(results) else {},
        tuned=page_table("Chosen settings", tuning_table(results)),
        finished=sum(len(cell.runs) for cell in results.cells),
        expected=len(results.cells) * len(results.seeds),
    )


def page_table(title, table, below=False):
    """A table as ``render`` takes it.

    Args:
        title (str): its heading.
        table (fuxictr_me.reports.table_layout.Table)
        below (bool): after the figures, not before.

    Returns:
        dict: ``title``, ``caption``, ``header``, ``rows``, ``align`` (a letter a column, l or r), ``notes`` (list of
        str), ``quoted`` (rows to stand in italics), ``below``.
    """
    return {
        "title": title,
        "caption": table.caption,
        "header": [f"{group} {name}".strip() for group, name in table.columns],
        "rows": [list(row) for row in table.rows],
        "align": table.align,
        "notes": list(table.notes),
        "quoted": table.quoted,
        "below": below,
    }
