"""The limitations of a study's results, in sentences."""

from collections.abc import Iterator

from fuxictr_me.formatting import join_names, pluralize
from fuxictr_me.reports.study.comparisons import compare_kinds
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS
from fuxictr_me.reports.study.tuning import (
    count_tuning_runs,
    find_close_choices,
    find_edge_choices,
    has_same_grids,
    is_tuned,
    list_kinds,
)
from fuxictr_me.study.results import ENSEMBLE, MULTI, SINGLE, StudyResults

SAME_IN_BARS = 1e-3  # of AUC: BARS calls results that are closer the same
SAME_SIZE = 0.01  # relative difference of embedding parameters below which SE and ME count as equally large


def list_cautions(results: StudyResults) -> list[str]:
    """Return sentences about what limits the conclusions of a study."""
    checks = (
        *(_few_seeds, _unfinished_runs, _unequal_tuning, _choices_at_edges, _close_choices, _unequal_sizes),
        *(_small_differences, _no_ensemble),
    )
    return [sentence for check in checks for sentence in check(results)]


def _few_seeds(results: StudyResults) -> Iterator[str]:
    if len(results.seeds) < FEWEST_SEEDS:
        seeds = pluralize(len(results.seeds), "seed")
        yield f"The study has only {seeds}: nothing is concluded from fewer than {FEWEST_SEEDS}."


def _unfinished_runs(results: StudyResults) -> Iterator[str]:
    total = len(results.seeds) * len(results.cells)
    finished = sum(len(cell.runs) for cell in results.cells)
    if finished < total:
        yield f"{finished} of {pluralize(total, 'run')} have finished: the conclusions may change."
    if results.failed:
        expid, reason = results.failed[0]
        yield f"{pluralize(len(results.failed), 'run')} failed, the first {expid}: {reason}."


def _no_ensemble(results: StudyResults) -> Iterator[str]:
    kinds = {model: {cell.kind for cell in results.cells if cell.model == model} for model in results.models}
    if without := [model for model, found in kinds.items() if MULTI in found and ENSEMBLE not in found]:
        yield (
            f"No ensemble control for {join_names(without)}: a gain of ME over SE may come from averaging several "
            "models."
        )


def _unequal_tuning(results: StudyResults) -> Iterator[str]:
    if not is_tuned(results):
        return
    if not has_same_grids(results):
        yield "The kinds were tuned over different grids."
    runs = {kind: sorted(set(count_tuning_runs(results, kind))) for kind in list_kinds(results)}
    if len({tuple(counts) for counts in runs.values()}) > 1:
        budgets = ", ".join(f"{kind} {' or '.join(map(str, counts))}" for kind, counts in runs.items())
        yield f"The tuning budgets are not equal: {budgets} runs per cell."


def _choices_at_edges(results: StudyResults) -> Iterator[str]:
    for name, cells in find_edge_choices(results).items():
        where = join_names(f"{cell.model} {cell.title}" for cell in cells)
        yield f"The chosen {name} is at the edge of its grid in {pluralize(len(cells), 'cell')}: {where}."


def _close_choices(results: StudyResults) -> Iterator[str]:
    if close := find_close_choices(results):
        tuned = sum(bool(cell.tried) for cell in results.cells)
        yield (
            f"In {len(close)} of {pluralize(tuned, 'tuned cell')}, the validation {results.monitor} of the chosen "
            "setting leads the next by less than one standard deviation between seeds: another seed may choose another "
            "setting. tuning_seeds tries each with several."
        )


def _unequal_sizes(results: StudyResults) -> Iterator[str]:
    for single in results.cells:
        multi = results.cell(single.model, MULTI, single.scale)
        if single.kind == SINGLE and single.runs and multi and multi.runs:
            of_se, of_me = (cell.runs[0].embedding_parameters for cell in (single, multi))
            if abs(of_me - of_se) > SAME_SIZE * max(of_se, of_me):
                yield f"{single.model} {single.scale}x: SE has {of_se:,} embedding parameters, ME {of_me:,}."


def _small_differences(results: StudyResults) -> Iterator[str]:
    compared = compare_kinds(results, MULTI, SINGLE, "AUC")
    coarse = [c for c in compared if c.detectable is not None and c.detectable > SAME_IN_BARS]
    if coarse:
        yield (
            f"In {len(coarse)} of {pluralize(len(compared), 'cell')}, a difference between ME and SE must exceed "
            f"{SAME_IN_BARS} AUC to be detected. Most of the paper's differences are smaller."
        )
    significant = [c.test.mean for c in compared if c.ahead and c.test.mean is not None]
    if significant and all(abs(mean) < SAME_IN_BARS for mean in significant):
        yield (
            f"All significant differences in AUC between ME and SE are below {SAME_IN_BARS}: BARS calls results that "
            "are so close the same."
        )
