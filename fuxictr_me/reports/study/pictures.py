"""Which pictures the report of a study has, with what they say to those who read and those who hear them."""

from fuxictr_me.reports.study.cost_figure import draw_pareto, of_cost
from fuxictr_me.reports.study.difference_figure import draw_differences
from fuxictr_me.reports.study.field_figure import draw_fields, largest_measured
from fuxictr_me.reports.study.figures import draw_abundance, draw_metric
from fuxictr_me.reports.study.metric_values import IA_RATIO
from fuxictr_me.reports.study.panels import of_metric
from fuxictr_me.reports.style import save

METRICS = ("AUC", "logloss")
BARS = "Error bars: ± one standard deviation over the seeds; none where one run has finished."
PARETO = {
    "bytes": "bytes of weights (all trained parameters, 4 bytes each)",
    "seconds": "seconds for 1,000 optimizer steps (the whole run's time, evaluations included, over its steps; runs "
    "that share a machine slow one another)",
}


def draw_all(results, differences, folder, published=None):
    """Draw the pictures of a study, and write each as PNG and SVG.

    Args:
        results (StudyResults)
        differences (list): as ``draw_differences`` takes it, of test AUC; may be empty.
        folder (Path): to write to.
        published (dict): (model, kind, scale) -> published test AUC.

    Returns:
        list of dict: ``name``, ``caption``, ``alt``, ``png`` (bytes), ``width`` (CSS pixels).
    """
    return [
        {"caption": caption, "alt": alt, **save(figure, folder, name)}
        for name, figure, caption, alt in _pictures(results, differences, published)
    ]


def _pictures(results, differences, published):
    """(file name, Figure, caption, alternative text) of each that has something to show."""
    measured = [metric for metric in METRICS if _any(results, of_metric(metric))]
    panels = f"{len(results.models)} panel(s), one a model"
    for metric in measured:
        of_paper = published if metric == "AUC" else None
        hollow = " Hollow markers: what the paper publishes." if of_paper else ""
        yield (
            f"{metric.lower()}_by_size",
            draw_metric(results, metric, of_paper),
            f"Test {metric} against size (the paper's figure 1a), each panel on a scale of its own. Lines: means over "
            f"seeds, from the base that SE and ME share; dots: single seeds. {BARS}{hollow}",
            f"{panels}, with {metric} of SE and ME over the size. Numbers: in the table.",
        )
    if differences:
        yield (
            "differences",
            draw_differences(differences),
            "Test AUC of ME less that of SE at equal embedding parameters, paired by seed: mean and 95 % confidence "
            "interval, by itself (not corrected for the number of rows), and what is concluded.",
            f"{len(differences)} rows, one a model and size, about a line at 0. Numbers: in the table.",
        )
    if _any(results, of_metric(IA_RATIO)):
        yield (
            "abundance_by_size",
            draw_abundance(results),
            "Information abundance as a share of min(K, D), sets side by side, mean over fields, against size. "
            f"Where a line falls, a smaller share of the dimensions is in use. {BARS}",
            f"{panels}, with the share for SE, ME and random initialisation over the size.",
        )
    for model in results.models:
        figure = draw_fields(results, model)
        if figure is not None:
            titles = " and ".join(cell.title for cell in largest_measured(results, model))
            yield (
                f"fields_{model}",
                figure,
                f"Information abundance of each field of {model}: {titles}, sets side by side, means over seeds (the "
                f"paper's figure 8a). {BARS}",
                f"A point for each field and each of {titles}, beside what random tables have.",
            )
    for cost, text in PARETO.items():
        if measured and _any(results, of_cost(cost)):
            yield (
                f"pareto_{cost}",
                draw_pareto(results, measured[0], cost),
                f"Test {measured[0]} against {text}, means over seeds. On the line, the Pareto front: the cells that "
                "no other beats in both.",
                f"{panels}, with a point for each cell, marked with its size, and the Pareto front as steps.",
            )


def _any(results, quantity):
    return any(quantity(cell) for cell in results.cells)
