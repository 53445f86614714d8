"""The questions of a study, each answered for every model and scale by a paired comparison over the seeds."""

from dataclasses import dataclass

from fuxictr_me.reports.study.metric_values import lower_is_better, values
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS, LEVEL, Paired, conclusion, detectable, holm, paired
from fuxictr_me.study.results import BASE, MULTI, SINGLE


@dataclass(frozen=True)
class Comparison:
    """Two cells of one model, first − second.

    Attributes:
        model (str), scale (int), metric (str)
        first, second (str): kinds.
        pair (Paired): over the seeds that both have.
        p (float or None): of the t test, corrected by Holm for all comparisons that answer the same question.
        detectable (float or None): the true difference that would have been shown with 80 % power; None with fewer
            than ``FEWEST_SEEDS`` pairs.
        verdict (str): see ``fuxictr_me.reports.study.statistics.conclusion``.
    """

    model: str
    scale: int
    metric: str
    first: str
    second: str
    pair: Paired
    p: float | None
    detectable: float | None
    verdict: str

    @property
    def ahead(self):
        """The kind that is shown to be ahead, or None."""
        return next((kind for kind in (self.first, self.second) if self.verdict == f"{kind} ahead"), None)

    @property
    def label(self):
        """``DCNv2_ME 4x``."""
        return f"{self.model} {self.scale}x"

    @property
    def mean(self):
        """Of the differences; None without pairs."""
        return self.pair.mean

    @property
    def low(self):
        """Lower end of the confidence interval, or None."""
        return self.pair.low

    @property
    def high(self):
        """Upper end of the confidence interval, or None."""
        return self.pair.high


def questions(results):
    """What a study can answer, by its cells.

    Returns:
        list of (str, str): first and second kind: ME − SE, each control − ME, and ME, SE − base.
    """
    kinds = list(dict.fromkeys(cell.kind for cell in results.cells))
    asked = [(MULTI, SINGLE), *((kind, MULTI) for kind in kinds if kind not in (BASE, SINGLE, MULTI))]
    asked += [(MULTI, BASE), (SINGLE, BASE)]
    return [(first, second) for first, second in asked if first in kinds and second in kinds]


def compare(results, first, second, metric):
    """Answer one question: kind against kind at each scale, or against base.

    Args:
        results (StudyResults)
        first, second (str): kinds; ``second`` may be ``base``.
        metric (str): see ``fuxictr_me.reports.study.metric_values.values``.

    Returns:
        list of Comparison: one a model and scale that has both cells, in the study's order. Holm corrects for all of
        them together.
    """
    couples = [
        (cell, results.cell(cell.model, second, 1 if second == BASE else cell.scale))
        for cell in results.cells
        if cell.kind == first
    ]
    couples = [(cell, other) for cell, other in couples if other is not None]
    pairs = [_pair(values(cell, metric), values(other, metric)) for cell, other in couples]
    corrected = holm([pair.p for pair in pairs])
    level = LEVEL / max(1, sum(p is not None for p in corrected))
    return [
        Comparison(
            model=cell.model,
            scale=cell.scale,
            metric=metric,
            first=first,
            second=second,
            pair=pair,
            p=p,
            detectable=detectable(pair.sd, pair.n, level) if pair.n >= FEWEST_SEEDS else None,
            verdict=conclusion(pair, p, first, second, lower_is_better(metric)),
        )
        for (cell, _), pair, p in zip(couples, pairs, corrected, strict=True)
    ]


def _pair(first, second):
    seeds = [seed for seed in first if seed in second]
    return paired([first[seed] for seed in seeds], [second[seed] for seed in seeds])
