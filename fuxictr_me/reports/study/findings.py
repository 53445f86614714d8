"""The findings of a study in a few sentences: a kind is called ahead only if the corrected test says so."""

from collections.abc import Callable, Iterable, Sequence

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.format import DIGITS, format_number, format_settings, format_signed
from fuxictr_me.reports.study.comparisons import Comparison, compare_kinds, list_questions
from fuxictr_me.reports.study.curve_findings import describe_curves
from fuxictr_me.reports.study.metric_values import IA_RATIO, has_abundance, list_test_metrics
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS, NO_DIFFERENCE
from fuxictr_me.reports.study.tuning import (
    count_tuning_runs,
    grid_of,
    has_same_grids,
    is_tuned,
    list_kinds,
    name_tuning_seeds,
)
from fuxictr_me.reports.study.winner import describe_winners
from fuxictr_me.study.results import BASE, MULTI, SINGLE, StudyResults

RATIO_DIGITS = 3


def list_findings(results: StudyResults) -> list[str]:
    """Return the findings of a study, the most important first.

    They are 3 sentences or more: which of SE, ME and the ensemble wins at the largest size; ME against SE; whether SE
    and ME scale, and where each kind of a model stops gaining; the same of IA; the controls; what was tuned; what all
    runs share. Show ``fuxictr_me.reports.study.cautions.list_cautions`` beside them.
    """
    metrics = list_test_metrics(results)
    answers = _answer_questions(results, metrics) if metrics else ["No run has finished: there is nothing to compare."]
    return [*answers, _describe_tuning(results), _describe_shared_settings(results)]


def summarise_comparisons(compared: Sequence[Comparison], digits: int = DIGITS) -> str:
    """Return the conclusions of the comparisons that answer one question, as text.

    For example ``ME ahead in 2 of 3 cells, by 0.00020 to 0.00046 (DCNv2_ME 2x, 10x), no significant difference in 1 of
    3 cells (0.00031 or more would be detected)``. Differences have ``digits`` decimals.
    """
    if not compared:
        return "no cell to compare"
    parts = []
    for kind in (compared[0].first, compared[0].second):
        if won := [c for c in compared if c.ahead == kind]:
            by = _format_range((abs(c.test.mean) for c in won if c.test.mean is not None), digits, format_number)
            which = f" ({_list_by_model(won)})" if len(won) < len(compared) else ""
            parts.append(f"{kind} ahead in {_format_share(won, compared)}, by {by}{which}")
    if even := [c for c in compared if c.conclusion == NO_DIFFERENCE]:
        least = max((c.detectable for c in even if c.detectable is not None), default=None)
        power = f" ({format_number(least, digits)} or more would be detected)" if least is not None else ""
        parts.append(f"{NO_DIFFERENCE} in {_format_share(even, compared)}{power}")
    if unclear := [c for c in compared if c.ahead is None and c.conclusion != NO_DIFFERENCE]:
        where = "any cell" if len(unclear) == len(compared) else _format_share(unclear, compared)
        parts.append(f"nothing can be concluded in {where} ({_explain_unclear(unclear, digits)})")
    return ", ".join(parts)


def _answer_questions(results: StudyResults, metrics: Sequence[str]) -> list[str]:
    questions = list_questions(results)
    controls = [kind for kind, other in questions if other == MULTI]
    scaling = [(kind, BASE) for kind in (SINGLE, MULTI) if (kind, BASE) in questions]
    answers = [answer] if metrics and (answer := describe_winners(results, metrics[0])) else []
    if (MULTI, SINGLE) in questions:
        answers.append(f"ME against SE at equal size, {_compare_metrics(results, MULTI, SINGLE, metrics)}.")
    for kind, base in scaling:
        answers.append(f"Does {kind} scale? {kind} against base, {_compare_metrics(results, kind, base, metrics)}.")
    if scaling:
        answers += describe_curves(results, metrics[0])
    if has_abundance(results):
        of_abundance = "; ".join(
            f"{first} against {second}: "
            + summarise_comparisons(compare_kinds(results, first, second, IA_RATIO), RATIO_DIGITS)
            for first, second in [(MULTI, SINGLE), *scaling]
            if (first, second) in questions
        )
        answers += [f"{IA_RATIO}, mean over the fields. {of_abundance}."] if of_abundance else []
    if controls:
        sentences = (
            f"Control {kind} against ME, {_compare_metrics(results, kind, MULTI, metrics)}." for kind in controls
        )
        answers.append(" ".join(sentences))
    return answers


def _compare_metrics(results: StudyResults, first: str, second: str, metrics: Sequence[str]) -> str:
    """Return the conclusions by the first metric, and by each further metric if they differ."""
    parts: list[str] = []
    conclusions: list[str] = []
    for metric in metrics:
        compared = compare_kinds(results, first, second, metric)
        is_same = conclusions == [c.conclusion for c in compared]
        parts.append(f"test {metric}: {'the same conclusions' if is_same else summarise_comparisons(compared)}")
        conclusions = conclusions or [c.conclusion for c in compared]
    return "; ".join(parts)


def _list_by_model(compared: Iterable[Comparison]) -> str:
    """Return ``DCNv2_ME 2x, 10x; DNN_ME 10x``."""
    scales: dict[str, list[str]] = {}
    for comparison in compared:
        scales.setdefault(comparison.model, []).append(f"{comparison.scale}x")
    return "; ".join(f"{model} {', '.join(of_model)}" for model, of_model in scales.items())


def _format_share(part: Sequence, whole: Sequence) -> str:
    if len(part) == len(whole) > 1:
        return "both cells" if len(whole) == 2 else f"all {len(whole)} cells"
    return f"{len(part)} of {pluralize(len(whole), 'cell')}"


def _format_range(numbers: Iterable[float], digits: int, format_one: Callable[[float, int], str]) -> str:
    ordered = sorted(numbers)
    return " to ".join(dict.fromkeys(format_one(number, digits) for number in (ordered[0], ordered[-1])))


def _explain_unclear(compared: Sequence[Comparison], digits: int) -> str:
    fewest, most = min(c.test.n for c in compared), max(c.test.n for c in compared)
    seeds = f"{fewest} to {most}" if fewest < most else f"{fewest}"
    why = f"{seeds} of the {FEWEST_SEEDS} required seeds" if fewest < FEWEST_SEEDS else "the seed had no influence"
    means = [c.test.mean for c in compared if c.test.mean is not None]
    return f"{why}; mean differences {_format_range(means, digits, format_signed)}" if means else why


def _describe_tuning(results: StudyResults) -> str:
    if not is_tuned(results):
        return "Nothing was tuned: each kind ran with the settings it was given."
    kinds = list_kinds(results)
    if has_same_grids(results):
        grid = f"the same grid for all kinds, {format_settings(grid_of(results, kinds[0]))}"
    else:
        grids = (f"{kind}: {format_settings(grid_of(results, kind))}" for kind in kinds)
        grid = f"a grid for each kind, {'; '.join(grids)}"
    runs = {kind: count_tuning_runs(results, kind) for kind in kinds}
    spent = ", ".join(f"{kind} {sum(counts)} for {pluralize(len(counts), 'cell')}" for kind, counts in runs.items())
    mean = "mean " if results.tuning_seeds > 1 else ""
    by = f"{mean}validation {results.monitor} of {name_tuning_seeds(results)}"
    return f"Each cell was tuned by the {by}: {grid}. Tuning runs: {spent}."


def _describe_shared_settings(results: StudyResults) -> str:
    shared = f"; {format_settings(results.shared)}" if results.shared else ""
    return f"All runs: early stopping and selection by {results.monitor} ({results.monitor_mode}){shared}."
