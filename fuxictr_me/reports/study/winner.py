"""Which kind wins at the largest size: the first sentence of a study's findings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.format import format_number
from fuxictr_me.reports.study.comparisons import Comparison, compare_pairs_of_cells
from fuxictr_me.reports.study.metric_values import values_by_seed
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS
from fuxictr_me.study.results import ENSEMBLE, MULTI, SINGLE, CellResult, StudyResults

CONTENDERS = (MULTI, ENSEMBLE, SINGLE)  # kinds that always contend, in the order of the sentence
MOST_CONTENDERS = 6  # with more kinds, Holm's correction for all pairs would leave nothing to say


@dataclass(frozen=True)
class Contest:
    """The comparison of all contenders of one model at its largest size.

    Attributes:
        model, scale: what is compared.
        kinds: the contenders that have finished runs.
        comparisons: of each pair of them.
    """

    model: str
    scale: int
    kinds: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def winner(self) -> str | None:
        """The kind that is significantly ahead of each other kind, or None."""
        ahead = [comparison.ahead for comparison in self.comparisons]
        return next((kind for kind in self.kinds if ahead.count(kind) == len(self.kinds) - 1), None)

    @property
    def unbeaten(self) -> list[str]:
        """The kinds that no other kind is significantly ahead of."""
        beaten = {c.second if c.ahead == c.first else c.first for c in self.comparisons if c.ahead}
        return [kind for kind in self.kinds if kind not in beaten]


def hold_contests(results: StudyResults, metric: str) -> list[Contest]:
    """Compare the contenders of each model with each other, at the largest size at which two of them have runs.

    Contenders are ME, the ensemble and SE, and the study's other kinds unless there are over ``MOST_CONTENDERS``.
    Holm's correction covers all pairs of all models together, because one sentence answers for all of them.
    """
    contenders = {model: _find_contenders(results, model, metric) for model in results.models}
    pairs = [pair for cells in contenders.values() for pair in itertools.combinations(cells, 2)]
    comparisons = compare_pairs_of_cells(pairs, metric)
    return [
        Contest(
            model,
            cells[0].scale,
            tuple(cell.kind for cell in cells),
            tuple(comparison for comparison in comparisons if comparison.model == model),
        )
        for model, cells in contenders.items()
        if cells
    ]


def describe_winners(results: StudyResults, metric: str) -> str | None:
    """Say in one sentence which contender wins at the largest size, per model; None if there is nothing to compare."""
    contests = hold_contests(results, metric)
    if not contests:
        return None
    sizes = sorted({contest.scale for contest in contests})
    where = f"At the largest size ({sizes[0]}x)" if len(sizes) == 1 else "At the largest size of each model"
    groups: dict[str, list[Contest]] = {}
    for contest in contests:
        groups.setdefault(_name_outcome(contest), []).append(contest)
    parts = []
    for outcome, group in groups.items():
        names = [contest.model if len(sizes) == 1 else f"{contest.model} {contest.scale}x" for contest in group]
        count = "" if len(group) == len(contests) else f" in {len(group)} of {pluralize(len(contests), 'model')}"
        parts.append(f"{outcome}{count}{_describe_margin(group)} ({', '.join(names)})")
    return f"{where}, by test {metric}: {'; '.join(parts)}. All pairs of kinds are corrected together by Holm's method."


def _name_outcome(contest: Contest) -> str:
    """Return what a contest shows, in the same words for all models with the same outcome."""
    if contest.winner:
        return f"{contest.winner} wins"
    which = f"{_join(contest.unbeaten)} apart" if len(contest.unbeaten) > 1 else "which is best"
    cannot_tell = f"the seeds cannot tell {which}"
    seeds = min(comparison.test.n for comparison in contest.comparisons)
    if seeds < FEWEST_SEEDS:
        return f"{cannot_tell}, with {seeds} of the {FEWEST_SEEDS} required seeds"
    ahead: dict[str, list[str]] = {}  # a beaten kind -> those that are ahead of it
    for c in contest.comparisons:
        if c.ahead:
            ahead.setdefault(c.second if c.ahead == c.first else c.first, []).append(c.ahead)
    beaten = [f"{_join(kinds)} {'are' if len(kinds) > 1 else 'is'} ahead of {kind}" for kind, kinds in ahead.items()]
    return ", and ".join([*beaten, cannot_tell])


def _describe_margin(contests: Sequence[Contest]) -> str:
    """Say what the winner of some contests is ahead of, and by how much at least; nothing if there is no winner."""
    winner = contests[0].winner
    if winner is None:
        return ""
    won = [c for contest in contests for c in contest.comparisons if c.ahead == winner]
    others = dict.fromkeys(kind for contest in contests for kind in contest.kinds if kind != winner)
    return f", ahead of {_join(list(others))} by {format_number(min(abs(c.test.mean or 0) for c in won))} or more"


def _find_contenders(results: StudyResults, model: str, metric: str) -> list[CellResult]:
    """Return the cells of the contenders at the largest size at which two of them have a value; else an empty list."""
    of_model = [cell for cell in results.cells if cell.model == model and cell.scale > 1]
    kinds = list(dict.fromkeys([*CONTENDERS, *(cell.kind for cell in of_model)]))
    if len(kinds) > MOST_CONTENDERS:
        kinds = list(CONTENDERS)
    for scale in sorted({cell.scale for cell in of_model}, reverse=True):
        cells = [results.cell(model, kind, scale) for kind in kinds]
        found = [cell for cell in cells if cell and values_by_seed(cell, metric)]
        if len(found) > 1:
            return found
    return []


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
