"""Tables of a collapse report: the fields of a layer, the comparison of models, and the rows of ``tables.csv``."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from fuxictr_me.reports.collapse.verdict import is_collapsed
from fuxictr_me.reports.format import format_degrees, format_number, format_percent
from fuxictr_me.reports.tables import Table

PART_COLUMNS = (
    *("set", "dim", "ceiling", "ia", "ia_ratio", "ia_random", "ia_of_random", "weighted_ia", "effective_rank"),
    *("stable_rank", "participation_ratio", "alpha_req", "rms", "rms_initial"),
)
CSV_COLUMNS = ("expid", "layer", "field", "shared_with", "num_ids", "pretrained", "unseen_ids", *PART_COLUMNS)
RANKS = {
    "effective rank": "effective_rank",
    "stable rank": "stable_rank",
    "participation ratio": "participation_ratio",
    "α-ReQ": "alpha_req",
}


def layer_table(layer: dict) -> Table:
    """Return one row per field of a layer of ``measure_collapse``, the sets side by side."""
    has_counts = any("unseen_ids" in field for field in layer["fields"])
    names = ["field", "ids D", "K", "IA", "IA / min(K, D)", "random IA"]
    names += ["IA by frequency", "ids never seen"] if has_counts else []
    names += [*RANKS, *(["mean IA of one set", "mean angle of sets"] if layer["between_sets"] else [])]
    rows = [_layer_row(field, has_counts, layer["between_sets"]) for field in layer["fields"]]
    beside = f", with the {layer['num_sets']} sets side by side" if layer["num_sets"] > 1 else ""
    notes = []
    if layer["apart"]:
        apart = ", ".join(layer["apart"])
        notes.append(f"Not shown, because their IA is always 1 (numeric fields and tables of dimension 1): {apart}.")
    flagged = frozenset(n for n, field in enumerate(layer["fields"]) if is_collapsed(field["parts"][-1]))
    caption = f"The table of each field{beside}. Collapsed fields are marked ▼."
    return Table(caption, names, "l" + "r" * (len(names) - 1), rows, notes, flagged=flagged)


def comparison_table(reports: Sequence[dict]) -> Table:
    """Return one row per model: means over the fields of its first layer, the sets side by side."""
    names = ["expid", "model", "sets", "K of all sets", "mean IA", "IA / min(K, D)", "IA / random"]
    names += ["effective rank", "collapsed"]
    caption = "Means over fields, with the sets of a model side by side. A single run per model decides nothing."
    return Table(caption, names, "ll" + "r" * 7, [_comparison_row(report) for report in reports])


def csv_rows(report: dict) -> Iterator[dict]:
    """Yield one row per field and set, with the columns ``CSV_COLUMNS``."""
    for layer in report["layers"]:
        for field in layer["fields"]:
            of_field = {**field, "shared_with": " ".join(field["shared_with"])}
            for part in field["parts"]:
                yield {"expid": report["expid"], "layer": layer["layer"], **of_field, **part}


def _layer_row(field: dict, has_counts: bool, between_sets: dict | None) -> list[str]:
    part = field["parts"][-1]
    name = ", ".join([field["field"], *field["shared_with"]])
    row = [f"▼ {name}" if is_collapsed(part) else name, f"{field['num_ids']:,}", str(part["dim"])]
    row += [_format(part["ia"]), format_percent(part["ia_ratio"]), _format(part["ia_random"])]
    if has_counts:
        row += [_format(part.get("weighted_ia")), format_percent(field.get("unseen_ids"))]
    row += [_format(part[key]) for key in RANKS.values()]
    if between_sets:
        row.append(_format(fmean(one["ia"] for one in field["parts"][:-1])))
        row.append(format_degrees(between_sets["fields"][field["field"]]["mean_angle"]))
    return row


def _comparison_row(report: dict) -> list[str]:
    layer = report["layers"][0]
    wholes = [field["parts"][-1] for field in layer["fields"]]
    dims = sorted({part["dim"] for part in wholes})
    K = " to ".join(map(str, dict.fromkeys([dims[0], dims[-1]]))) if dims else ""
    collapsed = f"{len(report['verdict']['collapsed'])} of {len(wholes)}"
    means = _format(_mean(wholes, "ia")), *(format_percent(_mean(wholes, key)) for key in ("ia_ratio", "ia_of_random"))
    rank = _format(_mean(wholes, "effective_rank"))
    return [report["expid"], report["model"], str(layer["num_sets"]), K, *means, rank, collapsed]


def _mean(parts: Sequence[dict], key: str) -> float | None:
    values = [part[key] for part in parts if part[key] is not None]
    return fmean(values) if values else None


def _format(value: float | None) -> str:
    return format_number(value, 2)
