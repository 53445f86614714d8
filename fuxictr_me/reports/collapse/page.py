"""The report as one page that opens from disk: pictures and styles inside, no script, no network."""

import base64
from statistics import fmean

from jinja2 import Environment, PackageLoader

from fuxictr_me.reports.collapse.verdict import is_collapsed


def render(report, figures, compared=()):
    """The page of a report.

    Args:
        report (dict): of ``measure``, with ``expid``, ``model`` and so on and its ``verdict``.
        figures (list of dict): ``caption``, ``alt``, ``png`` (bytes), ``width`` (CSS pixels).
        compared (list of dict): a row a model of ``summary``.

    Returns:
        str: HTML.
    """
    environment = Environment(loader=PackageLoader("fuxictr_me.reports", "templates"), autoescape=True)
    environment.filters.update(number=_number, percent=_percent, degrees=_degrees, mean=_mean)
    environment.tests["collapsed"] = is_collapsed
    encoded = [{**figure, "png": base64.b64encode(figure["png"]).decode()} for figure in figures]
    weighted = any("unseen_ids" in field for layer in report["layers"] for field in layer["fields"])
    template = environment.get_template("collapse.html.j2")
    return template.render(report=report, figures=encoded, compared=compared, weighted=weighted) + "\n"


def summary(report):
    """One row of the table of models: means over the fields of the first layer, sets side by side."""
    layer = report["layers"][0]
    wholes = [field["parts"][-1] for field in layer["fields"]]
    means = {key: _mean(part[key] for part in wholes) for key in ("ia", "ia_ratio", "ia_of_random", "effective_rank")}
    dims = sorted({part["dim"] for part in wholes})
    return {
        "expid": report["expid"],
        "model": report["model"],
        "num_sets": layer["num_sets"],
        "dim": " to ".join(map(str, dict.fromkeys([dims[0], dims[-1]]))) if dims else "",
        "collapsed": len(report["verdict"]["collapsed"]),
        "num_fields": len(wholes),
        **means,
    }


def _mean(values):
    values = [value for value in values if value is not None]
    return fmean(values) if values else None


def _number(value):
    return "–" if value is None else f"{value:.2f}"


def _percent(value):
    return "–" if value is None else f"{value:.0%}"


def _degrees(value):
    return "–" if value is None else f"{value:.0f}°"
