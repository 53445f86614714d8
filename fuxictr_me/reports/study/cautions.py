"""Where the results of a study are weak, in words."""

from fuxictr_me.reports.study.comparisons import compare, questions
from fuxictr_me.reports.study.format import count, some
from fuxictr_me.reports.study.statistics import FEWEST_SEEDS
from fuxictr_me.reports.study.tuning import at_the_edge, is_tuned, kinds_of, same_grid, tries_a_cell
from fuxictr_me.study.results import MULTI, SINGLE

SAME_IN_BARS = 1e-3  # of AUC: within it BARS calls two results the same
SAME_SIZE = 0.01  # embedding parameters of SE and ME that differ by less are called equal


def cautions(results):
    """What to be careful about.

    Args:
        results (StudyResults)

    Returns:
        list of str: sentences.
    """
    kinds = (_few, _missing, _budgets, _edges, _sizes, _small)
    return [f"{sentence}." for kind in kinds for sentence in kind(results)]


def _few(results):
    if len(results.seeds) < FEWEST_SEEDS:
        yield f"{count(len(results.seeds), 'seed')} only, and with fewer than {FEWEST_SEEDS} nothing is concluded"


def _missing(results):
    total = len(results.seeds) * len(results.cells)
    done = sum(len(cell.runs) for cell in results.cells)
    if done < total:
        yield f"{done} of {count(total, 'run')} have finished, and what is concluded may change"
    if results.failed:
        expid, why = results.failed[0]
        yield f"{count(len(results.failed), 'run')} failed, the first {expid}: {why}"


def _budgets(results):
    if not is_tuned(results):
        return
    if not same_grid(results):
        yield "The grids of the kinds are not the same"
    spent = {kind: sorted(set(tries_a_cell(results, kind))) for kind in kinds_of(results)}
    if len({tuple(tries) for tries in spent.values()}) > 1:
        told = ", ".join(f"{kind} {' or '.join(map(str, tries))}" for kind, tries in spent.items())
        yield f"The tuning budgets are not equal: {told} runs a cell"


def _edges(results):
    for name, cells in at_the_edge(results).items():
        where = some(f"{cell.model} {cell.title}" for cell in cells)
        yield f"The chosen {name} is at the edge of its grid in {count(len(cells), 'cell')}: {where}"


def _sizes(results):
    for single in results.cells:
        multi = results.cell(single.model, MULTI, single.scale)
        if single.kind == SINGLE and single.runs and multi and multi.runs:
            of_se, of_me = (cell.runs[0].embedding_parameters for cell in (single, multi))
            if abs(of_me - of_se) > SAME_SIZE * max(of_se, of_me):
                yield f"{single.model} {single.scale}x: SE has {of_se:,} embedding parameters, ME {of_me:,}"


def _small(results):
    compared = compare(results, MULTI, SINGLE, "AUC") if (MULTI, SINGLE) in questions(results) else []
    coarse = [c for c in compared if c.detectable is not None and c.detectable > SAME_IN_BARS]
    if coarse:
        cells = f"{len(coarse)} of {count(len(compared), 'cell')}"
        yield (
            f"In {cells} ME and SE must differ by over {SAME_IN_BARS} AUC to be told apart, and most of the paper's "
            "differences are smaller"
        )
    shown = [c for c in compared if c.ahead]
    if shown and all(abs(c.mean) < SAME_IN_BARS for c in shown):
        yield (
            f"All differences in AUC shown between ME and SE are below {SAME_IN_BARS}, within which BARS calls two "
            "results the same"
        )
