"""``fuxictr-me analyze``: the collapse report of a trained FuxiCTR model, ours or not."""

import csv
import json
from pathlib import Path

from fuxictr_me import __version__
from fuxictr_me.config.training_settings import check_gpu
from fuxictr_me.errors import UsageError, require_extra
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.reports.collapse.measure import ALL, measure
from fuxictr_me.reports.collapse.verdict import verdict
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.zoo.find_model import get_class_name

MADE_BY = "fuxictr_me"
PART_COLUMNS = ("set", "dim", "ceiling", "ia", "ia_ratio", "ia_random", "ia_of_random", "weighted_ia", "effective_rank")
PART_COLUMNS += ("stable_rank", "participation_ratio", "alpha_req", "rms", "rms_initial")
COLUMNS = ("expid", "layer", "field", "shared_with", "num_ids", "pretrained", "unseen_ids", *PART_COLUMNS)


def run(expid, config=None, out=None, checkpoint=None, compare=(), gpu=-1, data=False):
    """Write the collapse report of a run: page, numbers, tables, figures.

    Args:
        expid (str): experiment id.
        config (str): its config folder, of FuxiCTR's form; the bundled entry that has ``expid`` if None.
        out (str): folder to write; ``<model_root>/<dataset_id>/<expid>.collapse`` if None. A report that is there
            is replaced, anything else is not.
        checkpoint (str): in place of the run's own.
        compare (list of str): expids of the same config folder, SE beside ME.
        gpu (int): CUDA device for the linear algebra, -1 for the CPU.
        data (bool): also count how often the training data have each id.

    Returns:
        str: the verdict, and where the files are.

    Raises:
        UsageError: a missing package, no such run, a checkpoint that is damaged or does not fit.
        OSError: no space, no permission.
    """
    require_extra("analyze", ("matplotlib", "jinja2"), "report")
    check_gpu(gpu)
    others = [other for other in dict.fromkeys(compare) if other != expid]
    runs = [find_run(expid, config, checkpoint), *(find_run(other, config) for other in others)]
    folder = Path(out) if out else runs[0].model_dir / f"{expid}.collapse"
    if folder.exists() and not is_report(folder):
        raise UsageError(f"{folder} exists and is no collapse report: name another folder, or delete it")
    reports = [report_of(one, gpu, data) for one in runs]
    curves = read_curves(runs[0].model_dir / f"{expid}.ia.csv", reports[0]["layers"][0]["layer"])
    with atomic_folder(folder, replace=True) as built:
        write_report(built, reports, curves)
    return text_of(reports, folder)


def report_of(run, gpu=-1, data=False):
    """The numbers and the verdict of one run.

    Args:
        run (Run): of ``find_run``.
        gpu (int), data (bool): as ``run`` takes them.

    Returns:
        dict: as ``report.json`` holds it.
    """
    device = "cpu" if gpu < 0 else f"cuda:{gpu}"
    model = get_class_name(run.params.get("model"))
    count = run.id_counts if data else None
    numbers = measure(run.state_dict(), run.feature_map, run.initializer(), model, count, device)
    if not numbers["layers"]:
        raise UsageError(f"{run.checkpoint} has no embedding table of dimension 2 or more: there is nothing to measure")
    about = {
        "made_by": f"{MADE_BY} {__version__}",
        "expid": run.expid,
        "model": model,
        "dataset_id": run.feature_map.dataset_id,
        "checkpoint": str(run.checkpoint),
        "initializer": str(run.initializer_name),
    }
    return {**about, "verdict": verdict(numbers), **numbers}


def write_report(folder, reports, curves=()):
    """Fill a folder that does not exist yet with the report of the first, compared with the others.

    Args:
        folder (Path)
        reports (list of dict): of ``report_of``.
        curves (list of dict): rows of ``read_curves``.
    """
    from fuxictr_me.reports.collapse.page import render, summary
    from fuxictr_me.reports.collapse.pictures import draw_all  # matplotlib and jinja2 are an extra

    (folder / "figures").mkdir(parents=True)
    figures = draw_all(reports, curves, folder / "figures")
    compared = [summary(report) for report in reports] if len(reports) > 1 else []
    (folder / "report.html").write_text(render(reports[0], figures, compared), encoding="utf-8")
    content = {**reports[0], "compared": reports[1:]}
    (folder / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with (folder / "tables.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for report in reports:
            writer.writerows(table_rows(report))


def table_rows(report):
    """A dict a field and set, in the words of ``COLUMNS``."""
    for layer in report["layers"]:
        for field in layer["fields"]:
            of_field = {**field, "shared_with": " ".join(field["shared_with"])}
            for part in field["parts"]:
                yield {"expid": report["expid"], "layer": layer["layer"], **of_field, **part}


def read_curves(path, layer):
    """The rows of the callback's csv that make the curves of a layer; none where there is no csv.

    Raises:
        UsageError: a file of that name that is no such csv.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [r for r in rows if (r["event"], r["set"], r["layer"]) == ("evaluation", ALL, layer)]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a csv of the callback InformationAbundance: {error}") from error


def is_report(folder):
    """Whether a folder is a collapse report, which a new one may replace."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return folder.is_dir() and not any(folder.iterdir())
    return isinstance(content, dict) and str(content.get("made_by")).startswith(MADE_BY)


def text_of(reports, folder):
    """The verdict as plain text, and where the files are."""
    judged = reports[0]["verdict"]
    lines = [f"{reports[0]['expid']}: {judged['headline']}", *(f"- {text}" for text in judged["findings"])]
    lines += ["Weak:", *(f"- {text}" for text in judged["cautions"])]
    lines += [f"{report['expid']}: {report['verdict']['headline']}" for report in reports[1:]]
    return "\n".join([*lines, f"Report: {folder / 'report.html'} (report.json, tables.csv, figures/ beside it)"])
