"""The folder of a study's report: page, Markdown, csv, LaTeX, figures."""

import csv
import json
from pathlib import Path

from fuxictr_me import __version__
from fuxictr_me.errors import UsageError, require_extra
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.reports.study import csv_rows as rows
from fuxictr_me.reports.study.cautions import cautions
from fuxictr_me.reports.study.comparisons import compare, questions
from fuxictr_me.reports.study.findings import findings
from fuxictr_me.reports.study.metric_values import IA_RATIO, metrics
from fuxictr_me.reports.study.published import published_of
from fuxictr_me.reports.study.side_tables import abundance_table, cost_table, tuning_table
from fuxictr_me.reports.study.table import difference_table, headline_table
from fuxictr_me.reports.table_layout import latex, markdown
from fuxictr_me.study.folder_checks import check_folder
from fuxictr_me.study.gather import gather
from fuxictr_me.study.plan import read_plan
from fuxictr_me.study.results import MULTI, SINGLE

MADE_BY = "fuxictr_me"
MARK = "report.json"  # tells a report from a folder of somebody else's
CSVS = ("means.csv", "runs.csv", "cost.csv", "differences.csv")
WRITTEN_BEFORE = ("report.html", "report.md", MARK, *CSVS)  # by versions that did not list it


def write_report(folder, out=None):
    """Report what a study has so far.

    Args:
        folder (str): of the study.
        out (str): folder to write; ``<folder>/report`` if None. A report that is there is replaced, anything else is
            not.

    Returns:
        str: the findings, and where the files are.

    Raises:
        UsageError: a missing package, no study there, no finished run, a folder of another kind.
        OSError: no space, no permission.
    """
    check_folder(Path(folder))
    require_extra("study report", ("matplotlib", "jinja2"), "report")
    plan = read_plan(folder)
    target = Path(out) if out else Path(folder) / "report"
    if target.exists() and not _is_report(target):
        raise UsageError(f"{target} exists and is no report of a study: name another folder by --out, or delete it")
    results = gather(plan, folder)
    if not any(cell.runs for cell in results.cells):
        raise UsageError(f"{folder} has no finished run to report: fuxictr-me study status {folder}")
    earlier = _files_of_earlier_report(target)
    with atomic_folder(target, replace=True) as built:
        _fill(built, results)
    written = _mark(target)["files"]
    for path in earlier:
        if path.relative_to(target).as_posix() not in written:
            path.unlink()
    lines = [*findings(results), *(f"Caution: {text}" for text in cautions(results))]
    where = f"Report: {target / 'report.html'} (report.md, csv, LaTeX and figures/ beside it)"
    return "\n".join(["\n".join(f"- {line}" for line in lines), where])


def tables_of(results):
    """All tables of a report: (title, Table, whether it stands below the figures)."""
    named = metrics(results)
    for metric in named:
        yield f"Test {metric}", headline_table(results, metric), False
    for first, second in questions(results):
        for metric in named:
            table = difference_table(results, first, second, metric)
            yield f"{first} − {second}, test {metric}", table, (first, second) != (MULTI, SINGLE)
    if any(run.abundance for cell in results.cells for run in cell.runs):
        yield "Information abundance", abundance_table(results), True
        for first, second in questions(results):
            table = difference_table(results, first, second, IA_RATIO)
            yield f"{first} − {second}, IA / min(K, D)", table, True
    yield "Cost", cost_table(results), True


def _fill(folder, results):
    from fuxictr_me.reports.study.page import page_table, render
    from fuxictr_me.reports.study.pictures import draw_all  # matplotlib and jinja2 are an extra

    (folder / "figures").mkdir()
    found, weak, tables = findings(results), cautions(results), list(tables_of(results))
    first = next(iter(metrics(results)), results.monitor)
    figures = draw_all(results, compare(results, MULTI, SINGLE, first), folder / "figures", published_of(results))
    page = render(results, found, weak, [page_table(*table) for table in tables], figures)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(_markdown(results, found, weak, tables, figures), encoding="utf-8")
    for metric in metrics(results):
        (folder / f"test_{metric}.tex").write_text(latex(headline_table(results, metric)), encoding="utf-8")
    for name, made in (("means", rows.csv_rows), ("runs", rows.run_rows), ("cost", rows.cost_rows)):
        _csv(folder / f"{name}.csv", made(results))
    _csv(folder / "differences.csv", rows.difference_rows(results))
    written = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    mark = {"made_by": f"{MADE_BY} {__version__}", "study": results.name, "findings": found, "cautions": weak}
    mark["files"] = [*written, MARK]
    (folder / MARK).write_text(json.dumps(mark, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _markdown(results, found, weak, tables, figures):
    lines = [f"# {results.name}: does multi-embedding scale on {results.dataset_id}?", ""]
    lines += [f"- {line}" for line in found]
    lines += ["", "Cautions:", "", *(f"- {line}" for line in weak)] if weak else []
    if any(cell.tried for cell in results.cells):
        tables = [*tables, ("Tuning", tuning_table(results), True)]
    for title, table, _ in tables:
        lines += ["", f"## {title}", "", markdown(table).rstrip()]
    for figure in figures:
        lines += ["", f"![{figure['alt']}](figures/{figure['name']}.png)", "", f"*{figure['caption']}*"]
    if results.failed:
        lines += ["", "## Failed runs", "", *(f"- {expid}: {error}" for expid, error in results.failed)]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return "\n".join([*lines, "", f"Made with {versions}.", ""])


def _files_of_earlier_report(folder: Path) -> list[Path]:
    """Return the files in a report's folder that an earlier report wrote; all others, such as notes, are the user's."""
    written, found = _mark(folder).get("files"), []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if isinstance(written, list):
            known = name.as_posix() in written
        else:
            known = name.as_posix() in WRITTEN_BEFORE or name.match("test_*.tex") or name.parts[0] == "figures"
        if known and path.is_file() and not path.is_symlink():
            found.append(path)
    return found


def _mark(folder: Path) -> dict:
    try:
        content = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _csv(path, made):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(made[0]) if made else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)


def _is_report(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    content = _mark(folder)
    return not any(folder.iterdir()) or (str(content.get("made_by")).startswith(MADE_BY) and "study" in content)
