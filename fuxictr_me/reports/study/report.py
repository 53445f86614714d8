"""Write the report of a study: page, Markdown, csv, LaTeX, figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuxictr_me.errors import UsageError, require_extra
from fuxictr_me.reports.report_folder import check_report_folder, new_report_folder, write_csv, write_report_json
from fuxictr_me.reports.study.cautions import list_cautions
from fuxictr_me.reports.study.comparisons import compare_kinds, list_questions
from fuxictr_me.reports.study.cost_table import cost_table
from fuxictr_me.reports.study.csv_rows import cost_rows, difference_rows, mean_rows, run_rows
from fuxictr_me.reports.study.curve_findings import curve_rows
from fuxictr_me.reports.study.findings import list_findings
from fuxictr_me.reports.study.metric_tables import abundance_table, difference_table, headline_table
from fuxictr_me.reports.study.metric_values import IA_RATIO, has_abundance, list_test_metrics, main_metric
from fuxictr_me.reports.study.tuning import grid_of, is_tuned, list_kinds, name_tuning_seeds, tuning_table
from fuxictr_me.reports.tables import Table, to_latex, to_markdown
from fuxictr_me.study.folder_checks import check_folder
from fuxictr_me.study.gather_results import gather_results
from fuxictr_me.study.plan_file import read_plan
from fuxictr_me.study.results import MULTI, SINGLE, StudyResults

CSVS = {
    "means": mean_rows,
    "runs": run_rows,
    "cost": cost_rows,
    "differences": difference_rows,
    "scaling": curve_rows,
}
UNLISTED = ("report.*", *(f"{name}.csv" for name in CSVS), "test_*.tex", "figures/*")


class TitledTable(NamedTuple):
    """A table with its heading."""

    title: str
    table: Table


def write_study_report(folder: str | Path, out: str | Path | None = None) -> str:
    """Write the report of what a study has so far.

    Args:
        folder: of the study.
        out: folder to write, ``<folder>/report`` if None. An earlier report in it is replaced.

    Returns:
        the findings, and where the files are.

    Raises:
        UsageError: a package is missing, ``folder`` is not a study or has no finished run, or ``out`` is not a report.
        OSError: no space, no permission.
    """
    check_folder(Path(folder))
    require_extra("study report", ("matplotlib", "jinja2"), "report")
    plan = read_plan(folder)
    target = Path(out) if out else Path(folder) / "report"
    check_report_folder(target, "study", "study")
    results = gather_results(plan, folder)
    if not any(cell.runs for cell in results.cells):
        raise UsageError(f"{folder} has no finished run to report: see fuxictr-me study status {folder}")
    findings, cautions = list_findings(results), list_cautions(results)
    with new_report_folder(target, UNLISTED) as built:
        _fill_folder(built, results, findings, cautions)
    lines = [*findings, *(f"Limitation: {text}" for text in cautions)]
    where = f"Report: {target / 'report.html'} (beside it: report.md, csv, LaTeX and figures/)"
    return "\n".join([*(f"- {line}" for line in lines), where])


def list_main_tables(results: StudyResults) -> Iterator[TitledTable]:
    """Yield the tables that stand above the figures: each test metric, and ME against SE."""
    for metric in list_test_metrics(results):
        yield TitledTable(f"Test {metric}", headline_table(results, metric))
    if (MULTI, SINGLE) in list_questions(results):
        yield from _list_difference_tables(results, MULTI, SINGLE)


def list_more_tables(results: StudyResults) -> Iterator[TitledTable]:
    """Yield the tables that stand below the figures: the other questions, information abundance, cost."""
    questions = list_questions(results)
    for first, second in questions:
        if (first, second) != (MULTI, SINGLE):
            yield from _list_difference_tables(results, first, second)
    if has_abundance(results):
        yield TitledTable("Information abundance", abundance_table(results))
        for first, second in questions:
            table = difference_table(results, first, second, IA_RATIO)
            yield TitledTable(f"{first} − {second}, {IA_RATIO}", table)
    yield TitledTable("Cost", cost_table(results))


def _list_difference_tables(results: StudyResults, first: str, second: str) -> Iterator[TitledTable]:
    for metric in list_test_metrics(results):
        table = difference_table(results, first, second, metric)
        yield TitledTable(f"{first} − {second}, test {metric}", table)


def _fill_folder(folder: Path, results: StudyResults, findings: list[str], cautions: list[str]) -> None:
    # matplotlib and jinja2 belong to an extra, and are slow to import
    from fuxictr_me.reports.study.captioned_figures import draw_figures
    from fuxictr_me.reports.style import save_figures

    (folder / "figures").mkdir()
    differences = compare_kinds(results, MULTI, SINGLE, main_metric(results))
    figures = save_figures(draw_figures(results, differences), folder / "figures")
    main, more = list(list_main_tables(results)), list(list_more_tables(results))
    page = render_study_page(results, findings, cautions, main, more, figures)
    (folder / "report.html").write_text(page, encoding="utf-8")
    markdown = _render_markdown(results, findings, cautions, [*main, *more], figures)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    for metric in list_test_metrics(results):
        (folder / f"test_{metric}.tex").write_text(to_latex(headline_table(results, metric)), encoding="utf-8")
    for name, make_rows in CSVS.items():
        write_csv(folder / f"{name}.csv", make_rows(results))
    write_report_json(folder, {"study": results.name, "findings": findings, "cautions": cautions})


def render_study_page(
    results: StudyResults,
    findings: Sequence[str],
    cautions: Sequence[str],
    main_tables: Sequence[TitledTable],
    more_tables: Sequence[TitledTable],
    figures: Sequence,
) -> str:
    """Return the HTML page of a study; the first of the findings is its headline.

    Args:
        results: settings, tuning and failed runs are read from it.
        findings, cautions: sentences.
        main_tables: above the figures.
        more_tables: below the figures.
        figures: ``SavedFigure`` of ``save_figures``.
    """
    from fuxictr_me.reports.page import render_page  # jinja2 belongs to an extra

    return render_page(
        "study.html.j2",
        figures,
        results=results,
        findings=findings,
        cautions=cautions,
        main_tables=main_tables,
        more_tables=more_tables,
        grids={kind: grid_of(results, kind) for kind in list_kinds(results)} if is_tuned(results) else {},
        tuning=tuning_table(results),
        tuning_seeds=name_tuning_seeds(results),
        finished=sum(len(cell.runs) for cell in results.cells),
        expected=len(results.cells) * len(results.seeds),
    )


def _render_markdown(
    results: StudyResults,
    findings: Sequence[str],
    cautions: Sequence[str],
    tables: Sequence[TitledTable],
    figures: Sequence,
) -> str:
    lines = [f"# {results.name}: does multi-embedding scale on {results.dataset_id}?", ""]
    lines += [f"- {line}" for line in findings]
    lines += ["", "Limitations:", "", *(f"- {line}" for line in cautions)] if cautions else []
    if any(cell.tried for cell in results.cells):
        tables = [*tables, TitledTable("Tuning", tuning_table(results))]
    for title, table in tables:
        lines += ["", f"## {title}", "", to_markdown(table).rstrip()]
    for figure in figures:
        lines += ["", f"![{figure.alt}](figures/{figure.name}.png)", "", f"*{figure.caption}*"]
    if results.failed:
        lines += ["", "## Failed runs", "", *(f"- {expid}: {error}" for expid, error in results.failed)]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return "\n".join([*lines, "", f"Made with {versions}.", ""])
