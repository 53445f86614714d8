"""A study's numbers as rows for csv files: unrounded, one fact a column."""

from fuxictr_me.reports.study.comparisons import compare, questions
from fuxictr_me.reports.study.format import said
from fuxictr_me.reports.study.metric_values import ABUNDANCE, IA_RATIO, metrics, values
from fuxictr_me.reports.study.published import published
from fuxictr_me.reports.study.side_tables import cost
from fuxictr_me.reports.study.statistics import mean_and_sd


def csv_rows(results):
    """The means: a row a cell and metric, of the test set and of the embeddings.

    Args:
        results (StudyResults)

    Returns:
        list of dict: the same keys in each; ``seed_<seed>`` for each seed that was asked for. None is no value.
    """
    return [_mean_row(results, cell, metric) for cell in results.cells for metric in (*metrics(results), *ABUNDANCE)]


def run_rows(results):
    """A row a finished run: what it is, what it took, what came out.

    Args:
        results (StudyResults)

    Returns:
        list of dict: the same keys in each; ``test_<metric>``, ``valid_<metric>``, and means over the fields of IA.
    """
    named = metrics(results)
    taken = ("parameters", "embedding_parameters", "steps", "seconds", "peak_memory")
    return [
        {
            **_named(results, cell),
            "expid": run.expid,
            "seed": run.seed,
            "chosen": said(cell.chosen) if cell.chosen else "",
            **{key: getattr(run, key) for key in taken},
            **{f"test_{metric}": run.test.get(metric) for metric in named},
            **{f"valid_{metric}": run.valid.get(metric) for metric in named},
            **{f"mean_{key}": values(cell, metric).get(run.seed) for metric, key in ABUNDANCE.items()},
        }
        for cell in results.cells
        for run in cell.runs
    ]


def cost_rows(results):
    """A row a cell with a finished run: see ``fuxictr_me.reports.study.side_tables.cost``."""
    return [{**_named(results, cell), **cost(cell)} for cell in results.cells if cell.runs]


def difference_rows(results):
    """A row a comparison, of every question, of the metrics of the test set and of IA / min(K, D).

    Args:
        results (StudyResults)

    Returns:
        list of dict: the same keys in each. p_holm is corrected over the rows of one first, second and metric.
    """
    return [
        {
            "dataset_id": results.dataset_id,
            "model": comparison.model,
            "scale": comparison.scale,
            "first": first,
            "second": second,
            "metric": metric,
            "n": comparison.pair.n,
            "mean_difference": comparison.pair.mean,
            "sd": comparison.pair.sd,
            "low": comparison.pair.low,
            "high": comparison.pair.high,
            "p_t": comparison.pair.p,
            "p_holm": comparison.p,
            "p_wilcoxon": comparison.pair.p_wilcoxon,
            "detectable": comparison.detectable,
            "conclusion": comparison.verdict,
        }
        for first, second in questions(results)
        for metric in (*metrics(results), IA_RATIO)
        for comparison in compare(results, first, second, metric)
    ]


def _mean_row(results, cell, metric):
    found = values(cell, metric)
    mean, sd = mean_and_sd(list(found.values()))
    return {
        **_named(results, cell),
        "metric": metric,
        "mean": mean,
        "sd": sd,
        "n": len(found),
        "n_asked": len(results.seeds),
        "published": published(results.paper_data, cell.model, cell.title) if metric == "AUC" else None,
        **{f"seed_{seed}": found.get(seed) for seed in results.seeds},
    }


def _named(results, cell):
    return {
        "dataset_id": results.dataset_id,
        "model": cell.model,
        "title": cell.title,
        "kind": cell.kind,
        "scale": cell.scale,
        "num_sets": cell.num_sets,
        "embedding_dim": cell.embedding_dim,
    }
