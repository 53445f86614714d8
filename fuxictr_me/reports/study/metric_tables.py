"""The paper's main table for a study, the differences between its cells, and their information abundance."""

from fuxictr_me.formatting import MISSING, pluralize
from fuxictr_me.reports.format import (
    DIGITS,
    format_interval,
    format_number,
    format_p_value,
    format_signed,
    format_spread,
)
from fuxictr_me.reports.study.comparisons import Comparison, compare_kinds
from fuxictr_me.reports.study.metric_values import ABUNDANCE, IA_RATIO, is_lower_better, values_by_seed
from fuxictr_me.reports.study.published import IPNN_NOTE, NOTES, published_auc
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS, LEVEL, POWER, mean_and_sd, smallest_signed_rank_p
from fuxictr_me.reports.study.tuning import list_kinds
from fuxictr_me.reports.tables import Table
from fuxictr_me.study.results import BASE, MULTI, SINGLE, CellResult, StudyResults


def headline_table(results: StudyResults, metric: str) -> Table:
    """Return a test metric in the paper's layout: one row per model; base, then each kind by scale; mean ± sd.

    If the paper has the data set, its AUC stands below each model's row. A cell with too few finished seeds says so,
    and one without a finished run is ``–``.
    """
    sizes = _list_sizes(results)
    rows: list[tuple[str, ...]] = []
    quoted = set()
    for model in results.models:
        cells = [results.cell(model, kind, scale) for kind, scale in sizes]
        rows.append((model, *(_format_mean(results, cell, metric) for cell in cells)))
        published = [_published(results, cell, metric) for cell in cells]
        if any(published):
            quoted.add(len(rows))
            rows.append(("published", *map(format_number, published)))
    notes = []
    if any(0 < len(values_by_seed(cell, metric)) < len(results.seeds) for cell in results.cells):
        notes.append("(n of N): only n of N seeds have finished.")
    if quoted:
        notes += [NOTES[results.paper_data], *([IPNN_NOTE] if "PNN_ME" in results.models else [])]
    columns = ["model", *(BASE if kind == BASE else (kind, f"{scale}x") for kind, scale in sizes)]
    caption = f"Test {metric} on {results.dataset_id}, mean ± sd over {pluralize(len(results.seeds), 'seed')}"
    if is_lower_better(metric):
        caption += ", lower is better"
    return Table(caption, columns, "l" + "r" * len(sizes), rows, notes, frozenset(quoted))


def difference_table(results: StudyResults, first: str, second: str, metric: str) -> Table:
    """Return the result of ``compare_kinds``: differences paired by seed, their intervals, tests and conclusions.

    The paper's difference stands beside, if it has the data set. See ``compare_kinds`` for the arguments.
    """
    comparisons = compare_kinds(results, first, second, metric)
    published = [_published_difference(results, comparison) for comparison in comparisons]
    names = ["model", "size", "seeds", "difference", "95 % interval", "p (t)", "p (Holm)", "p (Wilcoxon)", "detectable"]
    rows = [
        [
            comparison.model,
            f"{comparison.scale}x",
            str(comparison.test.n),
            format_signed(comparison.test.mean),
            format_interval(comparison.test.low, comparison.test.high),
            format_p_value(comparison.test.p),
            format_p_value(comparison.p),
            format_p_value(comparison.test.p_wilcoxon),
            format_number(comparison.detectable),
        ]
        for comparison in comparisons
    ]
    align = "ll" + "r" * 7
    if any(difference is not None for difference in published):
        names, align = [*names, "published"], align + "r"
        rows = [[*row, format_signed(difference)] for row, difference in zip(rows, published, strict=True)]
    rows = [[*row, comparison.conclusion] for row, comparison in zip(rows, comparisons, strict=True)]
    caption = f"{first} − {second}, {metric if metric in ABUNDANCE else f'test {metric}'}, paired by seed"
    return Table(caption, [*names, "conclusion"], align + "l", rows, _explain_tests(comparisons, metric))


def abundance_table(results: StudyResults) -> Table:
    """Return information abundance of each measured cell: mean over the fields, sets side by side, ± sd over seeds."""
    rows = []
    for cell in results.cells:
        values = {metric: list(values_by_seed(cell, metric).values()) for metric in ABUNDANCE}
        if any(values.values()):
            spreads = (format_spread(*mean_and_sd(v), 3 if metric == IA_RATIO else 2) for metric, v in values.items())
            rows.append((cell.model, cell.title, *spreads))
    initializer = results.shared.get("embedding_initializer")
    note = "IA grows with min(K, D): compare sizes by the ratio, or with a random table of the same shape"
    notes = (f"{note} (initialised by {initializer})." if initializer else f"{note}.",)
    return Table("Information abundance, mean over the fields", ("model", "size", *ABUNDANCE), "llrrr", rows, notes)


def _explain_tests(comparisons: list[Comparison], metric: str) -> list[str]:
    num_tests = sum(comparison.p is not None for comparison in comparisons)
    notes = [
        f"p (Holm): p of the paired t test, corrected for the {pluralize(num_tests, 'cell')} tested in this table. A "
        f"kind is called ahead if p (Holm) ≤ {LEVEL} with {FEWEST_SEEDS} seeds or more. detectable: the true "
        f"difference that this test would find with {100 * POWER:.0f} % power."
    ]
    if is_lower_better(metric) and comparisons:
        notes.append(f"Lower is better: a negative difference is in favour of {comparisons[0].first}.")
    pairs = sorted({comparison.test.n for comparison in comparisons if comparison.test.n})
    if weak := [n for n in pairs if smallest_signed_rank_p(n) > LEVEL]:
        least = " and ".join(f"{smallest_signed_rank_p(n):.4g} with {pluralize(n, 'seed')}" for n in weak)
        notes.append(f"Wilcoxon's test cannot reach {LEVEL} here: its smallest possible p is {least}.")
    return notes


def _published(results: StudyResults, cell: CellResult | None, metric: str) -> float | None:
    return published_auc(results.paper_data, cell.model, cell.title) if cell and metric == "AUC" else None


def _published_difference(results: StudyResults, comparison: Comparison) -> float | None:
    if comparison.metric != "AUC":
        return None
    kinds = (comparison.first, comparison.second)
    titles = [kind if kind == BASE else f"{kind} {comparison.scale}x" for kind in kinds]
    first, second = (published_auc(results.paper_data, comparison.model, title) for title in titles)
    return None if first is None or second is None else round(first - second, DIGITS)


def _list_sizes(results: StudyResults) -> list[tuple[str, int]]:
    """Return (kind, scale) of all columns: base, SE, ME, then the controls; each by scale."""
    kinds = [BASE, SINGLE, MULTI, *list_kinds(results)]
    sizes = {(cell.kind, cell.scale) for cell in results.cells}
    return sorted(sizes, key=lambda size: (kinds.index(size[0]), size[1]))


def _format_mean(results: StudyResults, cell: CellResult | None, metric: str) -> str:
    values = list(values_by_seed(cell, metric).values()) if cell else []
    if not values:
        return MISSING
    missing = "" if len(values) == len(results.seeds) else f" ({len(values)} of {len(results.seeds)})"
    return format_spread(*mean_and_sd(values)) + missing
