"""The scaling curves of a study: one for each model, kind, metric and axis, in sentences and as rows of a csv file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.format import format_interval, format_signed
from fuxictr_me.reports.study.metric_values import is_lower_better, list_test_metrics, values_by_seed
from fuxictr_me.reports.study.scaling_curves import (
    FEWEST_SEEDS,
    FEWEST_SIZES,
    LEVEL,
    SHARE,
    Curve,
    Estimate,
    measure_curve,
)
from fuxictr_me.reports.study.tuning import list_kinds
from fuxictr_me.study.results import BASE, CellResult, StudyResults

PARAMETERS, FLOPS = "embedding parameters", "FLOPs"
AXES = (PARAMETERS, FLOPS)
FLOPS_PER_WEIGHT = 6  # of training, per row: a multiplication and an addition forward, and twice that backward
UNITS = {PARAMETERS: "x", FLOPS: "x FLOPs"}


@dataclass(frozen=True)
class ScalingCurve:
    """The curve of one model and kind.

    Attributes:
        model, kind, metric: what is measured. Each kind starts from base.
        axis: of ``AXES``.
        scales: k of each point.
        base_cost: embedding parameters or FLOPs per row at base, by which sizes are divided.
        curve: of the values, those of a loss with their sign changed.
    """

    model: str
    kind: str
    metric: str
    axis: str
    scales: tuple[int, ...]
    base_cost: float
    curve: Curve


def measure_size(cell: CellResult, axis: str) -> float:
    """Return the embedding parameters of a cell, or its FLOPs of training per row.

    FLOPs are estimated from the parameters that are not embeddings, each of which is used once per row. This leaves
    out products between embeddings, such as those of PNN and of xDeepFM's interaction network.
    """
    run = cell.runs[0]
    return (
        run.embedding_parameters
        if axis == PARAMETERS
        else FLOPS_PER_WEIGHT * (run.parameters - run.embedding_parameters)
    )


def measure_curves(results: StudyResults, metric: str, axis: str) -> list[ScalingCurve]:
    """Return the curves of all models and kinds. Their intervals hold together, by Bonferroni's correction."""
    kinds = [kind for kind in list_kinds(results) if kind != BASE]
    found = [
        (model, kind, _find_points(results, model, kind, metric, axis)) for model in results.models for kind in kinds
    ]
    found = [entry for entry in found if len(entry[2]) > 1]
    level = 1 - (1 - LEVEL) / max(1, len(found))
    curves = []
    for model, kind, points in found:
        values = [values_by_seed(cell, metric) for cell in points]
        seeds = [seed for seed in results.seeds if all(seed in of_cell for of_cell in values)]
        table = np.array([[of_cell[seed] for of_cell in values] for seed in seeds]).reshape(len(seeds), len(points))
        costs = np.array([measure_size(cell, axis) for cell in points])
        curve = measure_curve(costs / costs[0], -table if is_lower_better(metric) else table, level)
        scales = tuple(cell.scale for cell in points)
        curves.append(ScalingCurve(model, kind, metric, axis, scales, float(costs[0]), curve))
    return curves


def describe_curves(results: StudyResults, metric: str) -> list[str]:
    """Return one sentence per model that says for each kind where it stops gaining, by embedding parameters."""
    curves = measure_curves(results, metric, PARAMETERS)
    if all(of_kind.curve.verdict == "too few" for of_kind in curves):
        return [_describe_too_few(curves)] if curves else []
    sentences = []
    for model in results.models:
        if parts := [describe_curve(of_kind) for of_kind in curves if of_kind.model == model]:
            sentences.append(f"Scaling curve of {model}, test {metric}: {'; '.join(parts)}.")
    return sentences


def describe_curve(of_kind: ScalingCurve) -> str:
    """Say what a curve allows to conclude; gains are positive, also those of a loss."""
    kind, curve, unit = of_kind.kind, of_kind.curve, UNITS[of_kind.axis]
    largest, before = (f"{size:.3g}{unit}" for size in curve.sizes[[-1, -2]])
    if curve.saturation is None or curve.gain is None or curve.last_gain is None or curve.drop is None:
        return f"these sizes and seeds cannot tell about {kind} ({_count(curve)})"
    low, high = curve.saturation.low, curve.saturation.high
    best, stop = f"{curve.best:.3g}{unit}", f"{curve.saturation.value:.2g}{unit}"
    return {
        "peaks": f"{kind} peaks at about {best} and is worse at {largest} ({_format(curve.drop)})",
        "loses": f"{kind} does not gain and is worse at {largest} than at {best} ({_format(curve.drop)})",
        "stops": f"{kind} stops gaining at about {stop}, where it has {SHARE:.0%} of its gain (interval "
        f"{low:.2g}{unit} to {high:.2g}{unit})",
        "still gains": f"{kind} still gains at {largest} ({_format(curve.last_gain)} from {before})",
        "gains": f"{kind} gains from base to {largest} ({_format(curve.gain)}), and these sizes and seeds cannot tell "
        "where it stops",
        "cannot tell": f"these sizes and seeds cannot tell whether {kind} gains ({_format(curve.gain)} from base to "
        f"{largest})",
    }[curve.verdict]


def curve_rows(results: StudyResults) -> list[dict[str, object]]:
    """Return one row per curve: the power law, and each estimate with its interval. Gains are positive."""
    return [
        {
            "dataset_id": results.dataset_id,
            "model": of_kind.model,
            "kind": of_kind.kind,
            "metric": metric,
            "against": axis,
            "base": of_kind.base_cost,
            "sizes": len(of_kind.curve.sizes),
            "seeds": of_kind.curve.num_seeds,
            **{name: None if np.isnan(value := getattr(of_kind.curve, name)) else value for name in ("a", "b", "c")},
            **_estimate_columns(of_kind.curve),
            "best_below_largest": None if np.isnan(of_kind.curve.best) else of_kind.curve.best,
            "verdict": of_kind.curve.verdict,
        }
        for metric in list_test_metrics(results)
        for axis in AXES
        for of_kind in measure_curves(results, metric, axis)
    ]


def _estimate_columns(curve: Curve) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    for name in ("gain", "last_gain", "drop", "saturation"):
        estimate: Estimate | None = getattr(curve, name)
        columns[name] = estimate.value if estimate else None
        columns |= {f"{name}_{end}": getattr(estimate, end) if estimate else None for end in ("low", "high")}
    return columns


def _find_points(results: StudyResults, model: str, kind: str, metric: str, axis: str) -> list[CellResult]:
    """Return base and the cells of a kind that have values, smallest first; cells that are no larger are left out."""
    cells = [c for c in results.cells if c.model == model and c.kind in (BASE, kind) and values_by_seed(c, metric)]
    points: list[CellResult] = []
    for cell in sorted(cells, key=lambda cell: measure_size(cell, axis)):
        if measure_size(cell, axis) > (measure_size(points[-1], axis) if points else 0):
            points.append(cell)
    return points if any(cell.kind == BASE for cell in points) else []


def _describe_too_few(curves: list[ScalingCurve]) -> str:
    return (
        f"Scaling curves need {FEWEST_SIZES} sizes and {FEWEST_SEEDS} seeds; this study has {_count(curves[0].curve)}."
    )


def _count(curve: Curve) -> str:
    return f"{pluralize(len(curve.sizes), 'size')} and {pluralize(curve.num_seeds, 'seed')}"


def _format(estimate: Estimate) -> str:
    return f"{format_signed(estimate.value)}, interval {format_interval(estimate.low, estimate.high)}"


def list_metrics_with_curves(results: StudyResults) -> Iterator[str]:
    """Yield the test metrics for which at least one curve was fitted."""
    for metric in list_test_metrics(results):
        if any(of_kind.curve.band is not None for of_kind in measure_curves(results, metric, PARAMETERS)):
            yield metric
