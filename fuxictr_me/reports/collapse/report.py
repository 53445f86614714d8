"""``fuxictr-me analyze``: write the collapse report of a trained FuxiCTR model, from fuxictr-me or not."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuxictr_me.config.training_settings import check_gpu
from fuxictr_me.errors import UsageError, require_extra
from fuxictr_me.reports.collapse.depth import DEPTH_COLUMNS, depth_rows, depth_table, measure_depth
from fuxictr_me.reports.collapse.field_tables import CSV_COLUMNS, comparison_table, csv_rows, layer_table
from fuxictr_me.reports.collapse.measure import ALL, measure_collapse
from fuxictr_me.reports.collapse.verdict import judge
from fuxictr_me.reports.report_folder import (
    MADE_BY,
    check_report_folder,
    new_report_folder,
    write_csv,
    write_report_json,
)
from fuxictr_me.runs.finished_run import FinishedRun, find_run
from fuxictr_me.zoo.find_model import get_class_name

UNLISTED = ("report.html", "report.json", "tables.csv", "figures/*")


def write_collapse_report(
    expid: str,
    config: str | None = None,
    out: str | None = None,
    checkpoint: str | None = None,
    compare: Sequence[str] = (),
    gpu: int = -1,
    data: bool = False,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """Write the collapse report of a run: page, numbers, tables, figures.

    Args:
        expid: experiment id.
        config: its config folder; the bundled entry that has ``expid`` if None.
        out: folder to write, ``<model_root>/<dataset_id>/<expid>.collapse`` if None. An earlier report in it is
            replaced.
        checkpoint: used in place of the run's checkpoint.
        compare: expids of the same config folder to compare with.
        gpu: CUDA device of the linear algebra, -1 for the CPU.
        data: also count how often each id occurs in the training data, and measure the representations of the
            validation data along the depth of the model, for which its code is needed.
        overrides: settings in place of those of the config, for all runs; see ``config.overrides``.

    Returns:
        the verdict, and where the files are.

    Raises:
        UsageError: a package is missing, there is no such run, ``out`` is not a report, or the checkpoint is damaged or
            does not fit.
        OSError: no space, no permission.
    """
    require_extra("analyze", ("matplotlib", "jinja2"), "report")
    check_gpu(gpu)
    others = [other for other in dict.fromkeys(compare) if other != expid]
    runs = [
        find_run(expid, config, checkpoint, overrides),
        *(find_run(other, config, overrides=overrides) for other in others),
    ]
    folder = Path(out) if out else runs[0].model_dir / f"{expid}.collapse"
    check_report_folder(folder, "collapse", "expid")
    reports = [report_run(run, gpu, data) for run in runs]
    curves = read_curves(runs[0].model_dir / f"{expid}.ia.csv", reports[0]["layers"][0]["layer"])
    with new_report_folder(folder, UNLISTED) as built:
        fill_report_folder(built, reports, curves)
    return _summarise(reports, folder)


def report_run(run: FinishedRun, gpu: int = -1, data: bool = False) -> dict:
    """Return the numbers and the verdict of one run, as ``report.json`` holds them; see ``write_collapse_report``."""
    device = "cpu" if gpu < 0 else f"cuda:{gpu}"
    model = get_class_name(run.params.get("model"))
    count = run.id_counts if data else None
    numbers = measure_collapse(run.state_dict(), run.feature_map, run.initializer(), model, count, device)
    if not numbers["layers"]:
        raise UsageError(f"{run.checkpoint} has no embedding table of dimension 2 or more: there is nothing to measure")
    if data:
        numbers |= measure_depth(run, gpu)
    about = {
        "made_by": MADE_BY,
        "expid": run.expid,
        "model": model,
        "dataset_id": run.feature_map.dataset_id,
        "checkpoint": str(run.checkpoint),
        "initializer": str(run.initializer_name),
    }
    return {**about, "verdict": judge(numbers), **numbers}


def fill_report_folder(folder: Path, reports: Sequence[dict], curves: Sequence[dict] = ()) -> None:
    """Write the report of the first model, compared with the others.

    Args:
        folder: empty.
        reports: of ``report_run``.
        curves: of ``read_curves``.
    """
    # matplotlib and jinja2 belong to an extra, and are slow to import
    from fuxictr_me.reports.collapse.captioned_figures import draw_figures
    from fuxictr_me.reports.style import save_figures

    (folder / "figures").mkdir()
    figures = save_figures(draw_figures(reports, curves), folder / "figures")
    (folder / "report.html").write_text(render_collapse_page(reports, figures), encoding="utf-8")
    write_csv(folder / "tables.csv", (row for report in reports for row in csv_rows(report)), CSV_COLUMNS)
    if any(report.get("depth") for report in reports):
        write_csv(folder / "depth.csv", depth_rows(reports), DEPTH_COLUMNS)
    write_report_json(folder, {**reports[0], "compared": reports[1:]})


def render_collapse_page(reports: Sequence[dict], figures: Sequence = ()) -> str:
    """Return the HTML page of the first report, compared with the others; ``figures`` are ``SavedFigure``."""
    from fuxictr_me.reports.page import render_page  # jinja2 belongs to an extra

    layers = [(layer["layer"] or "embedding layer", layer_table(layer)) for layer in reports[0]["layers"]]
    comparison = comparison_table(reports) if len(reports) > 1 else None
    depths = [(f"Rank along the depth: {one['expid']}", depth_table(one)) for one in reports if one.get("depth")]
    return render_page(
        "collapse.html.j2", figures, report=reports[0], layers=layers, comparison=comparison, depths=depths
    )


def read_curves(path: Path, layer: str) -> list[dict]:
    """Return the rows of the callback's csv for the curves of a layer; an empty list if there is no csv.

    Raises:
        UsageError: the file is not a csv of the callback.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [r for r in rows if (r["event"], r["set"], r["layer"]) == ("evaluation", ALL, layer)]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a csv of the callback InformationAbundance: {error}") from error


def _summarise(reports: Sequence[dict], folder: Path) -> str:
    """Return the verdict as plain text, and where the files are."""
    verdict = reports[0]["verdict"]
    lines = [f"{reports[0]['expid']}: {verdict['headline']}", *(f"- {text}" for text in verdict["findings"])]
    lines += ["Limitations:", *(f"- {text}" for text in verdict["cautions"])]
    lines += [f"{report['expid']}: {report['verdict']['headline']}" for report in reports[1:]]
    beside = "report.json, tables.csv, depth.csv" if (folder / "depth.csv").exists() else "report.json, tables.csv"
    return "\n".join([*lines, f"Report: {folder / 'report.html'} (beside it: {beside} and figures/)"])
