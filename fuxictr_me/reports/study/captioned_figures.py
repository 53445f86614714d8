"""The figures of a study's report, with their captions and alternative texts."""

from collections.abc import Iterator, Sequence

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.study.comparisons import Comparison
from fuxictr_me.reports.study.cost_figure import cost_quantity, draw_pareto
from fuxictr_me.reports.study.curve_findings import list_metrics_with_curves
from fuxictr_me.reports.study.difference_figure import draw_differences
from fuxictr_me.reports.study.field_figure import draw_fields, find_largest_measured
from fuxictr_me.reports.study.metric_values import has_abundance
from fuxictr_me.reports.study.model_panels import Quantity, metric_quantity
from fuxictr_me.reports.study.published import published_aucs
from fuxictr_me.reports.study.scaling_figure import draw_scaling_curves
from fuxictr_me.reports.study.size_figures import draw_abundance, draw_metric
from fuxictr_me.reports.style import CaptionedFigure
from fuxictr_me.study.results import StudyResults

METRICS = ("AUC", "logloss")
BARS = "Error bars: ± one standard deviation over the seeds; none for a cell with one finished run."
COST_TEXTS = {
    "bytes": "bytes of weights (all trained parameters, 4 bytes each)",
    "seconds": "seconds per 1,000 optimizer steps (the run's whole time, evaluations included, divided by its steps; "
    "runs that share a machine slow each other down)",
}


def draw_figures(results: StudyResults, differences: Sequence[Comparison]) -> Iterator[CaptionedFigure]:
    """Draw the figures that have something to show; ``differences`` compare ME with SE by test AUC."""
    metrics = [metric for metric in METRICS if _has_values(results, metric_quantity(metric))]
    panels = pluralize(len(results.models), "panel") + ", one per model"
    published = published_aucs(results)
    for metric in metrics:
        hollow = " Hollow markers: the paper's published values." if metric == "AUC" and published else ""
        yield CaptionedFigure(
            f"{metric.lower()}_by_size",
            draw_metric(results, metric, published if metric == "AUC" else None),
            f"Test {metric} against size (the paper's figure 1a). Each panel has its own scale. Lines: means over "
            f"seeds; those of SE, ME and ensemble start at base, which they share. Dots: single seeds. {BARS}{hollow}",
            f"{panels}, with {metric} of each kind against size. The numbers are in the table.",
        )
    yield from _draw_curves(results)
    if differences:
        yield CaptionedFigure(
            "differences",
            draw_differences(differences),
            "Test AUC of ME minus that of SE at equal embedding parameters, paired by seed: mean, 95 % confidence "
            "interval (of each row by itself, not corrected for the number of rows) and conclusion.",
            f"{pluralize(len(differences), 'row')}, one per model and size, around a line at 0. The numbers are in the "
            "table.",
        )
    if has_abundance(results):
        yield CaptionedFigure(
            "abundance_by_size",
            draw_abundance(results),
            "Information abundance as a share of min(K, D), sets side by side, mean over fields, against size. A "
            f"falling line means that a smaller share of the dimensions is used. {BARS}",
            f"{panels}, with the share for SE, ME and random initialisation against size.",
        )
    yield from _draw_fields_of_models(results)
    for cost, text in COST_TEXTS.items():
        if metrics and _has_values(results, cost_quantity(cost)):
            yield CaptionedFigure(
                f"pareto_{cost}",
                draw_pareto(results, metrics[0], cost),
                f"Test {metrics[0]} against {text}, means over seeds. The line is the Pareto front: no other cell is "
                "better in both than a cell on it.",
                f"{panels}, with a point for each cell, marked with its size, and the Pareto front as steps.",
            )


def _draw_curves(results: StudyResults) -> Iterator[CaptionedFigure]:
    metric = next(iter(list_metrics_with_curves(results)), None)
    if metric is not None:
        yield CaptionedFigure(
            "scaling_curves",
            draw_scaling_curves(results, metric),
            f"Test {metric} against embedding parameters and against FLOPs. Lines: power laws with saturation, a − b "
            "s^(−c), fitted to the means over seeds. Bands: 95 % intervals by a bootstrap over seeds, corrected for "
            "the number of curves. Points: single seeds, beside each other at equal size. A dashed line is of a kind "
            "that is worse at its largest size, which a power law cannot follow. FLOPs are an estimate: 6 per row and "
            "weight of the network.",
            f"{pluralize(len(results.models), 'column')}, one per model, with a fitted curve and its band for each "
            "kind. The numbers are in scaling.csv.",
        )


def _draw_fields_of_models(results: StudyResults) -> Iterator[CaptionedFigure]:
    for model in results.models:
        figure = draw_fields(results, model)
        if figure is not None:
            titles = " and ".join(cell.title for cell in find_largest_measured(results, model))
            yield CaptionedFigure(
                f"fields_{model}",
                figure,
                f"Information abundance of each field of {model}: {titles}, sets side by side, means over seeds (the "
                f"paper's figure 8a). {BARS}",
                f"A point for each field and each of {titles}, beside the value of random tables.",
            )


def _has_values(results: StudyResults, quantity: Quantity) -> bool:
    return any(quantity(cell) for cell in results.cells)
