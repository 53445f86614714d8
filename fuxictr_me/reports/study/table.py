"""The paper's table of a study, and the differences between its cells."""

from fuxictr_me.reports.study.comparisons import compare
from fuxictr_me.reports.study.format import DIGITS, MISSING, count, interval, number, p_value, signed, spread
from fuxictr_me.reports.study.metric_values import ABUNDANCE, lower_is_better, values
from fuxictr_me.reports.study.published import IPNN_NOTE, NOTES, published
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS, LEVEL, POWER, mean_and_sd, smallest_p
from fuxictr_me.reports.table_layout import Table, latex, markdown
from fuxictr_me.study.results import BASE, MULTI, SINGLE


def markdown_table(results, metric):
    """``headline_table`` as Markdown (str)."""
    return markdown(headline_table(results, metric))


def latex_table(results, metric):
    """``headline_table`` as LaTeX (str); the document needs the packages booktabs and graphicx."""
    return latex(headline_table(results, metric))


def headline_table(results, metric):
    """The paper's layout: a row a model; base, then each kind by scale; mean ± sd over the seeds.

    Args:
        results (StudyResults)
        metric (str): of the test set, e.g. ``AUC``.

    Returns:
        Table: where the paper has the data set, its AUC stands below each model's row. A cell with fewer seeds than
        were asked for says so, one without a finished run is ``–``.
    """
    sizes = _sizes(results)
    rows, quoted = [], set()
    for model in results.models:
        cells = [results.cell(model, kind, scale) for kind, scale in sizes]
        rows.append((model, *(_mean_in(results, cell, metric) for cell in cells)))
        theirs = [_published_in(results, cell, metric) for cell in cells]
        if any(theirs):
            quoted.add(len(rows))
            rows.append(("published", *map(number, theirs)))
    notes = []
    if any(0 < len(values(cell, metric)) < len(results.seeds) for cell in results.cells):
        notes.append("(n of N): only n of N seeds have finished.")
    if quoted:
        notes += [NOTES[results.paper_data], *([IPNN_NOTE] if "PNN_ME" in results.models else [])]
    columns = [("", "model"), *(("", BASE) if kind == BASE else (kind, f"{scale}x") for kind, scale in sizes)]
    caption = f"Test {metric} on {results.dataset_id}, mean ± sd over {count(len(results.seeds), 'seed')}"
    if lower_is_better(metric):
        caption += ", lower is better"
    return Table(caption, tuple(columns), "l" + "r" * len(sizes), tuple(rows), tuple(notes), frozenset(quoted))


def difference_table(results, first, second, metric):
    """What ``compare`` finds: differences paired by seed, their interval, tests and a conclusion each.

    Args:
        results (StudyResults)
        first, second (str): kinds, see ``fuxictr_me.reports.study.comparisons.questions``.
        metric (str): of the test set, or one of ``fuxictr_me.reports.study.metric_values.ABUNDANCE``.

    Returns:
        Table: with the paper's difference beside, where it has the data set.
    """
    found = compare(results, first, second, metric)
    theirs = [_published_difference(results, comparison) for comparison in found]
    names = ["model", "size", "seeds", "difference", "95 % interval", "p (t)", "p (Holm)", "p (Wilcoxon)", "would show"]
    rows = [
        [
            comparison.model,
            f"{comparison.scale}x",
            str(comparison.pair.n),
            signed(comparison.pair.mean),
            interval(comparison.pair.low, comparison.pair.high),
            p_value(comparison.pair.p),
            p_value(comparison.p),
            p_value(comparison.pair.p_wilcoxon),
            number(comparison.detectable),
        ]
        for comparison in found
    ]
    align = "llrrrrrrr"
    if any(difference is not None for difference in theirs):
        names, align = [*names, "published"], align + "r"
        rows = [[*row, signed(difference)] for row, difference in zip(rows, theirs, strict=True)]
    rows = [(*row, comparison.verdict) for row, comparison in zip(rows, found, strict=True)]
    columns = tuple(("", name) for name in (*names, "conclusion"))
    what = metric if metric in ABUNDANCE else f"test {metric}"
    return Table(f"{first} − {second}, {what}, paired by seed", columns, align + "l", tuple(rows), _rule(found, metric))


def _rule(found, metric):
    tests = sum(comparison.p is not None for comparison in found)
    notes = [
        f"p (Holm): the paired t test, corrected for the {count(tests, 'cell')} tested in this table. A side is called "
        f"ahead at p ≤ {LEVEL} and with {FEWEST_SEEDS} seeds or more; would show: the true difference that is found so "
        f"with {100 * POWER:.0f} % power."
    ]
    if lower_is_better(metric) and found:
        notes.append(f"Lower is better: a difference below 0 speaks for {found[0].first}.")
    pairs = sorted({comparison.pair.n for comparison in found if comparison.pair.n})
    if weak := [n for n in pairs if smallest_p(n) > LEVEL]:
        least = " and ".join(f"{smallest_p(n):.4g} with {count(n, 'seed')}" for n in weak)
        notes.append(f"Wilcoxon's test cannot reach {LEVEL} here: its smallest p is {least}.")
    return tuple(notes)


def _published_in(results, cell, metric):
    return published(results.paper_data, cell.model, cell.title) if cell and metric == "AUC" else None


def _published_difference(results, comparison):
    if comparison.metric != "AUC":
        return None
    kinds = (comparison.first, comparison.second)
    titles = [kind if kind == BASE else f"{kind} {comparison.scale}x" for kind in kinds]
    first, second = (published(results.paper_data, comparison.model, title) for title in titles)
    return None if first is None or second is None else round(first - second, DIGITS)


def _sizes(results):
    """(kind, scale) of all columns: base, SE, ME, the controls; each by scale."""
    kinds = [BASE, SINGLE, MULTI, *dict.fromkeys(cell.kind for cell in results.cells)]
    found = {(cell.kind, cell.scale) for cell in results.cells}
    return sorted(found, key=lambda size: (kinds.index(size[0]), size[1]))


def _mean_in(results, cell, metric):
    found = list(values(cell, metric).values()) if cell else []
    if not found:
        return MISSING
    short = "" if len(found) == len(results.seeds) else f" ({len(found)} of {len(results.seeds)})"
    return spread(*mean_and_sd(found)) + short
