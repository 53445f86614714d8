"""Measure how many directions the representations of a model use, from its embeddings to its last hidden layer.

The measure is the effective rank of Roy & Vetterli, exp of the entropy of σ / Σσ, without centring, as in the published
code of arXiv 2605.23191 (RankElastor). That code measures another matrix: for each row of one batch that of its tokens,
(tokens, width), and then the distribution over rows. Here a representation is one matrix with all rows of data, because
after the embeddings a row of a CTR model is a vector without tokens. The two numbers cannot be compared: the
first is at most the number of tokens. arXiv 2604.17878 (RankUp) follows the effective rank of tokens over the layers,
too; its formula, and arXiv 2604.26489, were not available for comparison.

Information abundance of a representation is that of the matrix of its rows, as the paper (arXiv 2310.04400) defines it
for tables.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fuxictr_me.collapse.measures import effective_rank
from fuxictr_me.collapse.running_gram import RunningGram
from fuxictr_me.collapse.spectrum import abundance
from fuxictr_me.errors import UsageError
from fuxictr_me.nn.preserve_state import preserve_state
from fuxictr_me.representations.recorder import Recorder, Representation
from fuxictr_me.representations.watch_modules import watch_modules
from fuxictr_me.representations.watch_parts import has_parts, watch_parts

MOST_ROWS = 16_384
WIDEST = 4_096  # columns; the singular values of one such matrix take about ten seconds on one CPU core
ALL = "all"  # the sets side by side


def measure_rank_along_depth(model: Any, batches: Iterable, most_rows: int = MOST_ROWS) -> dict:
    """Run batches through a model in evaluation mode, and measure the spectrum of each of its representations.

    A representation is a matrix with one row for each row of data. It is not centred. ``watch_parts`` says which
    representations a fuxictr-me model has, ``watch_modules`` which other models have. The model, its training mode and
    all random states are as before.

    Args:
        model: a FuxiCTR model.
        batches: of one of FuxiCTR's or fuxictr-me's loaders.
        most_rows: number of rows after which the measurement ends.

    Returns:
        ready for ``json.dump``: ``rows``, ``representations`` in call order, and ``skipped``. Each representation has a
        ``name``, the representation that it comes ``after``, and ``parts``, one for each set and one for all sets side
        by side, with ``width``, ``ceiling`` = min(rows, width), ``ia``, ``ia_ratio``, ``effective_rank`` and
        ``effective_rank_ratio`` (shares of the ceiling). A width of 1 has one direction, and is left out.

    Raises:
        UsageError: there is no row of data.
    """
    sums: dict[str, _Sums] = {}
    rows = 0
    with watch(model) as recorder:
        for batch in batches:
            recorder.clear()
            num_rows = _count_rows(model.forward(batch))
            kept = min(num_rows, most_rows - rows)
            for representation in recorder.collect():
                if all(len(x) == num_rows for x in representation.sets.values()):
                    sums.setdefault(representation.name, _Sums(representation)).add(representation, kept)
            rows += kept
            if rows >= most_rows:
                break
    if not rows:
        raise UsageError("there is no row of data to measure representations with")
    num_sets = max((len(of_name.widths) for of_name in sums.values()), default=1)
    measured, skipped = [], []
    for name, of_name in sums.items():
        try:
            if parts := of_name.measure(rows, num_sets):
                measured.append({"name": name, "after": of_name.after, "parts": parts})
        except ValueError as error:
            skipped.append({"name": name, "why": str(error)})
    return {"rows": rows, "representations": measured, "skipped": skipped}


@contextlib.contextmanager
def watch(model: Any) -> Iterator[Recorder]:
    """Record what a model computes in the context, in evaluation mode, without gradients and without a trace in it."""
    recorder = Recorder()
    is_batched = getattr(model, "batched", False) is True  # a wrapped model: hooks would see the tensors of vmap
    handles: list[RemovableHandle] = []
    with preserve_state(model), torch.no_grad():
        try:
            if is_batched:
                model.batched = False
            model.eval()
            handles += (watch_parts if has_parts(model) else watch_modules)(model, recorder)
            yield recorder
        finally:
            for handle in handles:
                handle.remove()
            if is_batched:
                model.batched = True


class _Sums:
    """Gram matrices of one representation: of its sets side by side, or of each if that is too wide.

    Attributes:
        after: name of the representation that it was computed from.
    """

    def __init__(self, first: Representation) -> None:
        self.after, self.widths = first.after, {m: first.sets[m].shape[1] for m in _sort_sets(first.sets)}
        device = next(iter(first.sets.values())).device
        is_narrow = sum(self.widths.values()) <= WIDEST
        self.problem = "" if min(self.widths.values()) <= WIDEST else f"it is wider than {WIDEST:,} columns"
        groups = [list(self.widths)] if is_narrow else [[m] for m in self.widths]
        self.grams = (
            {}
            if self.problem
            else {tuple(sets): RunningGram([self.widths[m] for m in sets], device) for sets in groups}
        )

    def add(self, representation: Representation, rows: int) -> None:
        """Add the first ``rows`` rows of the same representation in another batch."""
        if {m: x.shape[1] for m, x in representation.sets.items()} != self.widths:
            self.problem = self.problem or "its width is not the same in all batches"
        if not self.problem:
            for sets, gram in self.grams.items():
                gram.add([representation.sets[m][:rows] for m in sets])

    def measure(self, rows: int, num_sets: int) -> list[dict]:
        """Return one part for each set, and one for all ``num_sets`` sets side by side, if all have it.

        Raises:
            ValueError: it was not possible, with the reason.
        """
        if not self.problem and any(gram.num_rows != rows for gram in self.grams.values()):
            self.problem = "it does not exist in all batches"
        if self.problem:
            raise ValueError(self.problem)
        parts: list[dict] = []
        for sets, gram in self.grams.items():
            blocks, whole = gram.singular_values()
            own = zip(sets, gram.widths, blocks, strict=True)
            parts += [_measure_part(m, width, rows, sigma) for m, width, sigma in own if m is not None]
            if len(sets) == num_sets or None in sets:
                parts.append(_measure_part(ALL, sum(gram.widths), rows, whole))
        return [part for part in parts if part["width"] > 1]


def _sort_sets(sets: Iterable[int | None]) -> list[int | None]:
    return sorted(sets, key=lambda m: -1 if m is None else m)


def _measure_part(name: int | str, width: int, rows: int, sigma: Tensor) -> dict:
    ia, rank, ceiling = abundance(sigma), effective_rank(sigma), min(rows, width)
    ratios = {"ia_ratio": ia / ceiling, "effective_rank": rank, "effective_rank_ratio": rank / ceiling}
    return {"set": name, "width": width, "ceiling": ceiling, "ia": ia, **ratios}


def _count_rows(returned: Mapping[str, Any]) -> int:
    """Return B from the predictions that a model returns."""
    return next(len(value) for value in returned.values() if isinstance(value, Tensor) and value.ndim > 0)
