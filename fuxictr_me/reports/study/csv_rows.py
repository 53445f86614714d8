"""A study's numbers as rows of csv files, not rounded."""

from dataclasses import asdict

from fuxictr_me.reports.format import format_settings
from fuxictr_me.reports.study.comparisons import compare_kinds, list_questions
from fuxictr_me.reports.study.cost_table import measure_cost
from fuxictr_me.reports.study.metric_values import ABUNDANCE, IA_RATIO, list_test_metrics, values_by_seed
from fuxictr_me.reports.study.published import published_auc
from fuxictr_me.reports.study.statistics import mean_and_sd
from fuxictr_me.study.results import CellResult, StudyResults

Row = dict[str, object]  # column -> value; None is an empty cell


def mean_rows(results: StudyResults) -> list[Row]:
    """Return one row of means per cell and metric, of the test split and of the embeddings."""
    metrics = (*list_test_metrics(results), *ABUNDANCE)
    return [_mean_row(results, cell, metric) for cell in results.cells for metric in metrics]


def run_rows(results: StudyResults) -> list[Row]:
    """Return one row per finished run: its settings, its cost, its metrics and its means of IA over the fields."""
    metrics = list_test_metrics(results)
    costs = ("parameters", "embedding_parameters", "steps", "seconds", "peak_memory")
    return [
        {
            **_describe_cell(results, cell),
            "expid": run.expid,
            "seed": run.seed,
            "chosen": format_settings(cell.chosen) if cell.chosen else "",
            **{key: getattr(run, key) for key in costs},
            **{f"test_{metric}": run.test.get(metric) for metric in metrics},
            **{f"valid_{metric}": run.valid.get(metric) for metric in metrics},
            **{f"mean_{key}": values_by_seed(cell, metric).get(run.seed) for metric, key in ABUNDANCE.items()},
        }
        for cell in results.cells
        for run in cell.runs
    ]


def cost_rows(results: StudyResults) -> list[Row]:
    """Return one row per cell with a finished run: see ``Cost``."""
    return [{**_describe_cell(results, cell), **asdict(measure_cost(cell))} for cell in results.cells if cell.runs]


def difference_rows(results: StudyResults) -> list[Row]:
    """Return one row per comparison, for every question, test metric, and IA / min(K, D).

    ``p_holm`` is corrected over the rows of one first kind, second kind and metric.
    """
    return [
        {
            "dataset_id": results.dataset_id,
            "model": comparison.model,
            "scale": comparison.scale,
            "first": first,
            "second": second,
            "metric": metric,
            "n": comparison.test.n,
            "mean_difference": comparison.test.mean,
            "sd": comparison.test.sd,
            "low": comparison.test.low,
            "high": comparison.test.high,
            "p_t": comparison.test.p,
            "p_holm": comparison.p,
            "p_wilcoxon": comparison.test.p_wilcoxon,
            "detectable": comparison.detectable,
            "conclusion": comparison.conclusion,
        }
        for first, second in list_questions(results)
        for metric in (*list_test_metrics(results), IA_RATIO)
        for comparison in compare_kinds(results, first, second, metric)
    ]


def _mean_row(results: StudyResults, cell: CellResult, metric: str) -> Row:
    values = values_by_seed(cell, metric)
    mean, sd = mean_and_sd(list(values.values()))
    return {
        **_describe_cell(results, cell),
        "metric": metric,
        "mean": mean,
        "sd": sd,
        "n": len(values),
        "n_asked": len(results.seeds),
        "published": published_auc(results.paper_data, cell.model, cell.title) if metric == "AUC" else None,
        **{f"seed_{seed}": values.get(seed) for seed in results.seeds},
    }


def _describe_cell(results: StudyResults, cell: CellResult) -> Row:
    return {
        "dataset_id": results.dataset_id,
        "model": cell.model,
        "title": cell.title,
        "kind": cell.kind,
        "scale": cell.scale,
        "num_sets": cell.num_sets,
        "embedding_dim": cell.embedding_dim,
    }
