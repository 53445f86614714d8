"""Rank along the depth of the network: measured from the validation data, as a table, csv rows and a sentence."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from fuxictr_me.errors import UsageError
from fuxictr_me.reports.format import format_number, format_percent
from fuxictr_me.reports.tables import Table
from fuxictr_me.representations import ALL, measure_rank_along_depth
from fuxictr_me.runs.finished_run import FinishedRun
from fuxictr_me.runs.load_model import load_model

DEPTH_COLUMNS = (
    *("expid", "depth", "representation", "after", "set", "rows", "width", "ceiling"),
    *("ia", "ia_ratio", "effective_rank", "effective_rank_ratio"),
)


def measure_depth(run: FinishedRun, gpu: int = -1) -> dict:
    """Measure the representations of a run's model on its validation data.

    Args:
        run: the finished run.
        gpu: CUDA device, -1 for the CPU.

    Returns:
        ``depth``: of ``measure_rank_along_depth``, or None if the model's code is not found or fails. In that case
        ``depth_note`` says why.
    """
    try:
        return {"depth": measure_rank_along_depth(load_model(run, gpu), run.batches("valid")), "depth_note": ""}
    except UsageError as error:
        return {"depth": None, "depth_note": str(error)}
    except Exception as error:  # noqa: BLE001 - a stranger's constructor and forward may raise anything
        reason = " ".join(str(error).split())[:200]
        return {"depth": None, "depth_note": f"the model's code fails ({type(error).__name__}: {reason})"}


def list_wholes(depth: dict) -> list[tuple[str, dict]]:
    """Return name and numbers of each representation, with the sets side by side, in call order."""
    parts = ((one["name"], part) for one in depth["representations"] for part in one["parts"])
    return [(name, part) for name, part in parts if part["set"] == ALL]


def find_mean_of_sets(representation: dict, key: str) -> float | None:
    """Return the mean of a number over single sets; None if there is at most one."""
    values = [part[key] for part in representation["parts"] if part["set"] != ALL]
    return fmean(values) if len(values) > 1 else None


def list_kept(depth: dict) -> list[tuple[str, float]]:
    """Return the share of directions that each representation but the first keeps.

    It is the effective rank, divided by the smaller of the effective rank before it and its own min(rows, width).
    """
    wholes = dict(list_wholes(depth))
    kept = []
    for one in depth["representations"]:
        name, before = one["name"], wholes.get(one["after"])
        if name in wholes and before is not None:
            possible = min(before["effective_rank"], wholes[name]["ceiling"])
            kept.append((name, wholes[name]["effective_rank"] / possible if possible else 1.0))
    return kept


def describe_depth(depth: dict) -> str:
    """Return a sentence or two for the verdict: the ranks at both ends, and where most directions are lost."""
    wholes = list_wholes(depth)
    if not wholes:
        return "Rank along the depth: the model has no representation that could be measured."
    (first, start), (last, end) = wholes[0], wholes[-1]
    has_sets = any(find_mean_of_sets(one, "width") for one in depth["representations"])
    rows = f"{depth['rows']:,} rows of the validation data{', sets side by side' if has_sets else ''}"
    ends = f"effective rank {_add_width(start)} in {first}, {_add_width(end)} in {last}"
    text = f"Rank along the depth ({rows}): {ends}"
    kept = list_kept(depth)
    worst = min(range(len(kept)), key=lambda i: kept[i][1], default=0)
    if not kept or kept[worst][1] >= 1:
        return f"{text}. No representation has lost directions."
    up_to = ""
    if before := kept[:worst]:
        least = _percent(min(share for _, share in before))
        up_to = f"Up to {before[-1][0]}, representations keep {least} or more of the directions that they could keep. "
    return f"{text}. {up_to}Most are lost in {kept[worst][0]}, which keeps {_percent(kept[worst][1])}."


def depth_table(report: dict) -> Table:
    """Return one row per representation of a report with ``depth``, the sets side by side."""
    depth = report["depth"]
    sources, kept = {one["name"]: one for one in depth["representations"]}, dict(list_kept(depth))
    has_sets = any(find_mean_of_sets(one, "width") for one in sources.values())
    names = ["representation", "width", "effective rank", "/ min(rows, width)", "kept", "IA", "IA / min(rows, width)"]
    names += ["effective rank of one set, mean"] if has_sets else []
    rows = []
    for name, part in list_wholes(depth):
        row = [name, str(part["width"]), format_number(part["effective_rank"], 2)]
        row += [format_percent(part["effective_rank_ratio"]), format_percent(kept.get(name))]
        row += [format_number(part["ia"], 2), format_percent(part["ia_ratio"])]
        row += [format_number(find_mean_of_sets(sources[name], "effective_rank"), 2)] if has_sets else []
        rows.append(row)
    notes = [f"Not measured: {one['name']}, {one['why']}." for one in depth["skipped"]]
    beside = ", with the sets side by side" if has_sets else ""
    caption = f"{report['expid']}: representations of {depth['rows']:,} rows of the validation data{beside}."
    return Table(caption, names, "l" + "r" * (len(names) - 1), rows, notes)


def depth_rows(reports: Sequence[dict]) -> Iterator[dict]:
    """Yield one row per report, representation and set, with the columns ``DEPTH_COLUMNS``."""
    for report in reports:
        if depth := report.get("depth"):
            for number, one in enumerate(depth["representations"]):
                about = {"expid": report["expid"], "depth": number, "representation": one["name"]}
                for part in one["parts"]:
                    yield {**about, "after": one["after"] or "", "rows": depth["rows"], **part}


def _add_width(part: dict) -> str:
    return f"{part['effective_rank']:.1f} of {part['width']} ({format_percent(part['effective_rank_ratio'])})"


def _percent(share: float) -> str:
    return format_percent(min(share, 1.0))
