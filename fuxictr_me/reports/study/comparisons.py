"""The questions of a study, each answered for every model and scale by a paired comparison over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from fuxictr_me.reports.study.metric_values import is_lower_better, values_by_seed
from fuxictr_me.reports.study.statistics import (
    FEWEST_SEEDS,
    LEVEL,
    PairedTest,
    adjust_by_holm,
    compare_pairs,
    conclude,
    detectable_difference,
)
from fuxictr_me.study.results import BASE, MULTI, SINGLE, CellResult, StudyResults


@dataclass(frozen=True)
class Comparison:
    """Comparison of two cells of one model, first − second.

    Attributes:
        model, scale, metric: what is compared.
        first, second: kinds of the two cells.
        test: paired over the seeds that both cells have.
        p: of the t test, corrected by Holm's method for all comparisons that answer the same question.
        detectable: true difference that would be found with 80 % power; None with fewer than ``FEWEST_SEEDS`` pairs.
        conclusion: see ``fuxictr_me.reports.study.statistics.conclude``.
    """

    model: str
    scale: int
    metric: str
    first: str
    second: str
    test: PairedTest
    p: float | None
    detectable: float | None
    conclusion: str

    @property
    def ahead(self) -> str | None:
        """The kind that is significantly better, or None."""
        return next((kind for kind in (self.first, self.second) if self.conclusion == f"{kind} ahead"), None)


def list_questions(results: StudyResults) -> list[tuple[str, str]]:
    """Return the pairs of kinds that a study can compare: ME − SE, each control − ME, then ME and SE − base."""
    kinds = list(dict.fromkeys(cell.kind for cell in results.cells))
    pairs = [(MULTI, SINGLE), *((kind, MULTI) for kind in kinds if kind not in (BASE, SINGLE, MULTI))]
    pairs += [(MULTI, BASE), (SINGLE, BASE)]
    return [(first, second) for first, second in pairs if first in kinds and second in kinds]


def compare_kinds(results: StudyResults, first: str, second: str, metric: str) -> list[Comparison]:
    """Compare two kinds at each scale of each model, or one kind at each scale with base.

    Args:
        results: of the study.
        first: a kind.
        second: a kind, or ``base``.
        metric: see ``values_by_seed``.

    Returns:
        one comparison for each model and scale that has both cells, in the study's order. Holm's correction covers all
        of them together.
    """
    pairs = [
        (cell, other)
        for cell in results.cells
        if cell.kind == first and (other := results.cell(cell.model, second, 1 if second == BASE else cell.scale))
    ]
    return compare_pairs_of_cells(pairs, metric)


def compare_pairs_of_cells(pairs: Sequence[tuple[CellResult, CellResult]], metric: str) -> list[Comparison]:
    """Compare the cells of each pair, first − second. Holm's correction covers all pairs together.

    Args:
        pairs: each of two cells of one model; the first says the scale.
        metric: see ``values_by_seed``.
    """
    tests = [_compare_cells(cell, other, metric) for cell, other in pairs]
    adjusted = adjust_by_holm([test.p for test in tests])
    level = LEVEL / max(1, sum(p is not None for p in adjusted))
    return [
        Comparison(
            model=cell.model,
            scale=cell.scale,
            metric=metric,
            first=cell.kind,
            second=other.kind,
            test=test,
            p=p,
            detectable=detectable_difference(test.sd, test.n, level) if test.n >= FEWEST_SEEDS else None,
            conclusion=conclude(test, p, cell.kind, other.kind, is_lower_better(metric)),
        )
        for (cell, other), test, p in zip(pairs, tests, adjusted, strict=True)
    ]


def _compare_cells(first: CellResult, second: CellResult, metric: str) -> PairedTest:
    a, b = values_by_seed(first, metric), values_by_seed(second, metric)
    seeds = [seed for seed in a if seed in b]
    return compare_pairs([a[seed] for seed in seeds], [b[seed] for seed in seeds])
