"""What a study shows, in a few sentences: a side is called ahead only where the corrected test says so."""

from fuxictr_me.reports.study.comparisons import compare, questions
from fuxictr_me.reports.study.format import DIGITS, by_model, count, number, said, signed
from fuxictr_me.reports.study.metric_values import IA_RATIO, metrics
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS, NO_DIFFERENCE
from fuxictr_me.reports.study.tuning import grid_of, is_tuned, kinds_of, same_grid, tries_a_cell
from fuxictr_me.study.results import BASE, MULTI, SINGLE

DIGITS_OF_RATIO = 3


def findings(results):
    """The sentences for the head of a report.

    Args:
        results (StudyResults)

    Returns:
        list of str: 3 to 7: ME against SE; whether SE and ME scale; the same in IA; the controls; what was tuned; what
        was equal. ``fuxictr_me.reports.study.cautions.cautions`` belongs beside them.
    """
    named = metrics(results)
    found = _answers(results, named, questions(results)) if named else ["No run has finished: nothing to compare."]
    return [*found, _tuned(results), _equal(results)]


def tally(compared, digits=DIGITS):
    """Comparisons that answer one question, in words.

    Args:
        compared (list of Comparison): of ``compare``.
        digits (int): of the differences.

    Returns:
        str: e.g. ``ME ahead in 2 of 3 cells, by 0.00020 to 0.00046 (DCNv2_ME 2x, 10x), no difference that these seeds
        can show in 1 of 3 cells (0.00031 or more would show)``.
    """
    if not compared:
        return "no cell to compare"
    parts = []
    for side in (compared[0].first, compared[0].second):
        if won := [c for c in compared if c.ahead == side]:
            by = _range((abs(c.mean) for c in won), digits, number)
            which = f" ({by_model(won)})" if len(won) < len(compared) else ""
            parts.append(f"{side} ahead in {_share(won, compared)}, by {by}{which}")
    if even := [c for c in compared if c.verdict == NO_DIFFERENCE]:
        shown = max((c.detectable for c in even if c.detectable is not None), default=None)
        power = f" ({number(shown, digits)} or more would show)" if shown is not None else ""
        parts.append(f"{NO_DIFFERENCE} in {_share(even, compared)}{power}")
    if unclear := [c for c in compared if c.ahead is None and c.verdict != NO_DIFFERENCE]:
        where = "any cell" if len(unclear) == len(compared) else _share(unclear, compared)
        parts.append(f"nothing can be concluded in {where} ({_why(unclear, digits)})")
    return ", ".join(parts)


def _answers(results, named, asked):
    controls = [kind for kind, other in asked if other == MULTI]
    scaling = [(kind, BASE) for kind in (SINGLE, MULTI) if (kind, BASE) in asked]
    found = []
    if (MULTI, SINGLE) in asked:
        found.append(f"ME against SE at equal size: {_of_metrics(results, MULTI, SINGLE, named)}.")
    for kind, base in scaling:
        found.append(f"Does {kind} scale? Against base: {_of_metrics(results, kind, base, named)}.")
    if any(run.abundance for cell in results.cells for run in cell.runs):
        told = [
            f"{first} against {second}, {tally(compare(results, first, second, IA_RATIO), DIGITS_OF_RATIO)}"
            for first, second in [(MULTI, SINGLE), *scaling]
            if (first, second) in asked
        ]
        found += [f"{IA_RATIO}, mean over the fields: {'; '.join(told)}."] if told else []
    if controls:
        told = (f"Control {kind} against ME: {_of_metrics(results, kind, MULTI, named)}." for kind in controls)
        found.append(" ".join(told))
    return found


def _of_metrics(results, first, second, named):
    """The first metric in full, and the others where they say something else."""
    compared = {metric: compare(results, first, second, metric) for metric in named}
    told, verdicts = [], []
    for metric, of_metric in compared.items():
        same = verdicts == [c.verdict for c in of_metric]
        told.append(f"in test {metric} {'the same' if same else tally(of_metric)}")
        verdicts = verdicts or [c.verdict for c in of_metric]
    return "; ".join(told)


def _share(part, whole):
    all_of_them = len(part) == len(whole) > 1
    return f"all {len(whole)} cells" if all_of_them else f"{len(part)} of {count(len(whole), 'cell')}"


def _range(numbers, digits, form):
    numbers = sorted(numbers)
    return " to ".join(dict.fromkeys(form(n, digits) for n in (numbers[0], numbers[-1])))


def _why(compared, digits):
    fewest, most = min(c.pair.n for c in compared), max(c.pair.n for c in compared)
    seeds = f"{fewest} to {most}" if fewest < most else f"{fewest}"
    why = f"{seeds} of the {FEWEST_SEEDS} seeds it takes" if fewest < FEWEST_SEEDS else "the seed changed nothing"
    means = [c.mean for c in compared if c.mean is not None]
    return f"{why}; mean differences {_range(means, digits, signed)}" if means else why


def _tuned(results):
    if not is_tuned(results):
        return "Nothing was tuned: each kind ran with the settings it was given."
    kinds = kinds_of(results)
    if same_grid(results):
        grid = f"the same grid for all kinds, {said(grid_of(results, kinds[0]))}"
    else:
        grid = f"a grid for each kind, {'; '.join(f'{kind}: {said(grid_of(results, kind))}' for kind in kinds)}"
    tries = {kind: tries_a_cell(results, kind) for kind in kinds}
    spent = ", ".join(f"{kind} {sum(n)} for {count(len(n), 'cell')}" for kind, n in tries.items())
    return f"Tuned for each cell by the first seed's validation {results.monitor}: {grid}. Runs it took: {spent}."


def _equal(results):
    shared = f"; {said(results.shared)}" if results.shared else ""
    return f"In all runs: early stopping and choice by {results.monitor} ({results.monitor_mode}){shared}."
