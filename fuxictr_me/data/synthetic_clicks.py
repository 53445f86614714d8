"""Click data with Criteo's shape and with planted interactions of a known rank."""

import itertools
from collections.abc import Iterator

import numpy as np

from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.formatting import format_bytes
from fuxictr_me.io.free_memory import free_memory

CRITEO_SIZES = (  # ids of I1..I13 and C1..C26 in Criteo's rows: a few very large fields, many small ones
    *(49, 101, 126, 45, 223, 118, 84, 76, 95, 9, 30, 40, 75),
    *(1458, 555, 193949, 138801, 306, 19, 11970, 634, 4, 42646, 5178, 192773, 3175),
    *(27, 11422, 181075, 11, 4654, 2032, 5, 189657, 18, 16, 59697, 86, 45571),
)
CRITEO_NAMES = (*(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27)))
CLICK_RATE = 0.256  # Criteo's
FIRST_ORDER = 0.3  # standard deviation of the first-order part of the score; that of the interactions is 1
BLOCK_ROWS = 16_384  # rows of one random stream, which are always generated together
CALIBRATION_BLOCKS = 4
TRUTH, ROWS, CALIBRATION, AUC = range(4)  # purposes of the random streams

Columns = dict[str, np.ndarray]  # name -> (n,)


class SyntheticClicks:
    """Generator of rows of ids and a click label, whose logit is known.

    Field f has V_f ids; id k occurs with probability k^-exponent / Σ_l l^-exponent, so 1 is the most frequent.
    P pairs of fields (i, j) interact through factors U (V_i, r) and V (V_j, r), entries N(0, 1) / √r:

        score = √(r/P) Σ_pairs U[x_i]·V[x_j] + (0.3/√F) Σ_f w_f[x_f]
        logit = scale · score / sd(score) + bias
        label ~ Bernoulli(sigmoid(logit + noise · N(0, 1)))

    with w ~ N(0, 1), and ``sd(score)`` and ``bias`` measured on a sample so that 0.256 of the rows are clicks.
    The same settings and seed give the same truth and the same rows.

    Args:
        num_fields: F; with 39 the fields are Criteo's I1..I13, C1..C26, otherwise F1..Fn, largest first.
        num_ids: Σ V_f, divided in Criteo's proportions; at least 2 per field.
        exponent: of the power law over the ids of a field, 0.01 to 5.
        rank: r; only fields with r ids or more interact, so that each U Vᵀ has rank r exactly.
        num_interactions: P; None plants as many as there are fields, or all pairs if they are fewer.
        scale: standard deviation of the logit, 0.01 to 100.
        noise: standard deviation of the part of the logit that no model can predict, 0 to 100.
        seed: of the truth and the rows.

    Attributes:
        field_names: F names.
        vocab_sizes: V_f of each field: ids that occur, without padding and OOV.
        pairs: positions i < j of the P pairs of fields that interact.
        factors: for each pair U (V_i, r) and V (V_j, r), float32; row k - 1 belongs to id k.
        first_order: w_f of each field, (V_f,), float32.
        gain: scale / sd(score).
        bias: added to the scaled score.

    Raises:
        UsageError: a setting is outside its range.
    """

    def __init__(
        self,
        num_fields: int = 39,
        num_ids: int = 1_000_000,
        exponent: float = 1.05,
        rank: int = 4,
        num_interactions: int | None = None,
        scale: float = 1.5,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        _check_integer("num_fields", num_fields, 2)
        _check_integer("num_ids", num_ids, 2 * num_fields, f" (2 for each of {num_fields} fields)")
        self.rank = check_positive_int("rank", rank)
        self.noise = _check_number("noise", noise, 0, 100)
        self.seed = _check_integer("seed", seed, 0)
        _check_number("exponent", exponent, 0.01, 5)
        _check_number("scale", scale, 0.01, 100)
        _refuse_beyond_memory(f"num_ids {num_ids:,} in {num_fields:,} fields", 12 * num_ids + 32 * num_fields**2)
        self.field_names = list(CRITEO_NAMES) if num_fields == 39 else [f"F{n}" for n in range(1, num_fields + 1)]
        self.vocab_sizes = spread_ids(num_fields, num_ids)
        rng = self._rng(TRUTH)
        self.pairs = _choose_pairs(self.vocab_sizes, rank, num_interactions, rng)
        sizes = self.vocab_sizes
        _refuse_beyond_memory(f"rank {rank:,}", sum(4 * rank * (sizes[i] + sizes[j]) for i, j in self.pairs))
        self.factors = [
            (_normal(rng, sizes[i], rank) / rank**0.5, _normal(rng, sizes[j], rank) / rank**0.5) for i, j in self.pairs
        ]
        self.first_order = [_normal(rng, size) for size in self.vocab_sizes]
        self._cumulative = [_cumulative_probability(size, exponent) for size in self.vocab_sizes]
        self._calibrate(scale)

    def chunks(self, rows: int, chunk_rows: int = 100_000, part: int = 0) -> Iterator[Columns]:
        """Return rows in pieces, in memory that does not grow with ``rows``.

        Row n depends only on the settings, ``part`` and n, not on ``chunk_rows`` or ``rows``.

        Args:
            rows: number of all rows.
            chunk_rows: rows of a piece; the last piece may have fewer.
            part: selects different rows of the same truth, e.g. 0 to train, 1 to validate, 2 to test.

        Returns:
            Iterator of ``label`` -> uint8 (n,), and each field's name -> int64 (n,), ids from 1 to V_f.

        Raises:
            UsageError: an argument is not an integer, or too small.
        """
        check_positive_int("rows", rows)
        check_positive_int("chunk_rows", chunk_rows)
        return self._chunks(rows, chunk_rows, _check_integer("part", part, 0))

    def logits(self, ids: Columns) -> np.ndarray:
        """Return the true logits of given ids without the noise, (n,), float64.

        Args:
            ids: each field's name -> int (n,), 1 to V_f, as ``chunks`` yields them; other keys are ignored.

        Raises:
            UsageError: a field is missing, or ids are outside its vocabulary.
        """
        columns = []
        for name, size in zip(self.field_names, self.vocab_sizes, strict=True):
            if name not in ids:
                raise UsageError(f"ids of field {name!r} are missing: needed are {', '.join(self.field_names)}")
            column = np.asarray(ids[name])
            if column.dtype.kind not in "iu" or (column.size and not 1 <= column.min() <= column.max() <= size):
                values = f"{column.min()} to {column.max()} ({column.dtype})"
                raise UsageError(f"ids of field {name!r} must be integers from 1 to {size}, got {values}")
            columns.append(column.astype(np.int64) - 1)
        return self.gain * self._score(columns) + self.bias

    def bayes_auc(self, rows: int = 200_000) -> float:
        """Return the AUC of the true logits on a separate sample of rows, which is the best that a model can reach.

        Raises:
            UsageError: ``rows`` is not a positive integer, or so small that only one label occurs.
        """
        from sklearn.metrics import roc_auc_score  # slow to import

        blocks = range(-(-check_positive_int("rows", rows) // BLOCK_ROWS))
        sample = [self._labelled(AUC, 0, block)[1:] for block in blocks]
        logits, labels = (np.concatenate(column)[:rows] for column in zip(*sample, strict=True))
        if labels.min() == labels.max():
            raise UsageError(f"the {rows} rows of the sample all have label {labels[0]}: take more rows")
        return float(roc_auc_score(labels, logits))

    def feature_map(self, dataset_id: str) -> dict:
        """Return the content of FuxiCTR's ``feature_map.json``; ids 0 (padding) and V_f + 1 (OOV) never occur."""
        features = [
            {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size + 2}}
            for name, size in zip(self.field_names, self.vocab_sizes, strict=True)
        ]
        return {
            "dataset_id": dataset_id,
            "num_fields": len(features),
            "total_features": sum(self.vocab_sizes) + 2 * len(features),
            "input_length": len(features),
            "labels": ["label"],
            "features": features,
        }

    def _chunks(self, rows: int, chunk_rows: int, part: int) -> Iterator[Columns]:
        at = -1
        block: Columns = {}
        for start in range(0, rows, chunk_rows):
            stop = min(start + chunk_rows, rows)
            pieces = []
            for wanted in range(start // BLOCK_ROWS, (stop - 1) // BLOCK_ROWS + 1):
                if wanted != at:
                    at, (ids, _, label) = wanted, self._labelled(ROWS, part, wanted)
                    block = {"label": label} | {name: k + 1 for name, k in zip(self.field_names, ids, strict=True)}
                first = at * BLOCK_ROWS
                pieces.append({name: column[max(start - first, 0) : stop - first] for name, column in block.items()})
            yield {name: np.concatenate([piece[name] for piece in pieces]) for name in block}

    def _labelled(self, use: int, part: int, block: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Return ids from 0 (F arrays int64), logits (float64) and labels (uint8) of a block, (n,) each."""
        ids, score, noise, uniform = self._sample(use, part, block)
        logits = self.gain * score + self.bias
        return ids, logits, (uniform < _sigmoid(logits + noise)).astype(np.uint8)

    def _sample(self, use: int, part: int, block: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """Return ids from 0, scores, noise and uniform random numbers of a block, (n,) each."""
        rng = self._rng(use, part, block)
        ids = [np.searchsorted(cumulative, rng.random(BLOCK_ROWS), side="right") for cumulative in self._cumulative]
        return ids, self._score(ids), self.noise * rng.standard_normal(BLOCK_ROWS), rng.random(BLOCK_ROWS)

    def _rng(self, use: int, part: int = 0, block: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(use, part, block)))

    def _score(self, ids: list[np.ndarray]) -> np.ndarray:
        """Return the score (n,), float64, of ids from 0, F arrays int64 (n,)."""
        interactions, first_order = np.zeros((2, len(ids[0])))
        for (i, j), (U, V) in zip(self.pairs, self.factors, strict=True):
            interactions += np.einsum("nr,nr->n", U.take(ids[i], axis=0), V.take(ids[j], axis=0))
        for weights, column in zip(self.first_order, ids, strict=True):
            first_order += weights.take(column)
        return (self.rank / len(self.pairs)) ** 0.5 * interactions + FIRST_ORDER / len(ids) ** 0.5 * first_order

    def _calibrate(self, scale: float) -> None:
        """Set ``gain`` and ``bias`` so that logits have deviation ``scale`` and the click rate is ``CLICK_RATE``."""
        blocks = [self._sample(CALIBRATION, 0, block)[1:3] for block in range(CALIBRATION_BLOCKS)]
        score, noise = np.concatenate(blocks, axis=1)
        self.gain = float(scale / score.std())
        logits = self.gain * score + noise
        low, high = -logits.max() - 10, -logits.min() + 10  # click rates near 0 and near 1
        for _ in range(60):
            self.bias = float(low + high) / 2
            if _sigmoid(logits + self.bias).mean() < CLICK_RATE:
                low = self.bias
            else:
                high = self.bias


def spread_ids(num_fields: int, num_ids: int) -> list[int]:
    """Return vocabulary sizes in Criteo's proportions, each at least 2, that add up to ``num_ids``.

    Args:
        num_fields: 39 gives Criteo's order; otherwise quantiles of Criteo's sizes are taken, largest first.
        num_ids: at least 2 · num_fields.
    """
    shares = np.array(CRITEO_SIZES, dtype=np.float64)
    if num_fields != len(shares):
        middles = (np.arange(len(shares)) + 0.5) / len(shares)
        shares = np.exp(np.interp((np.arange(num_fields) + 0.5) / num_fields, middles, np.log(np.sort(shares)[::-1])))
    sizes = 2 + np.floor(shares / shares.sum() * (num_ids - 2 * num_fields)).astype(np.int64)
    sizes[shares.argmax()] += num_ids - sizes.sum()
    return sizes.tolist()


def _choose_pairs(sizes: list[int], rank: int, wanted: int | None, rng: np.random.Generator) -> list[tuple[int, int]]:
    large = [field for field, size in enumerate(sizes) if size >= rank]
    pairs = list(itertools.combinations(large, 2))
    if not pairs:
        raise UsageError(f"rank must be at most {sorted(sizes)[-2]} (ids of the second largest field), got {rank}")
    wanted = min(len(sizes), len(pairs)) if wanted is None else check_positive_int("num_interactions", wanted)
    if wanted > len(pairs):
        raise UsageError(
            f"num_interactions must be 1 to {len(pairs)} (pairs of fields with {rank} ids or more), got {wanted}"
        )
    return [pairs[n] for n in sorted(rng.choice(len(pairs), wanted, replace=False))]


def _cumulative_probability(size: int, exponent: float) -> np.ndarray:
    """Return P(id ≤ k) for k = 1..size, (size,), float64."""
    weights = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)
    return weights / weights[-1]


def _refuse_beyond_memory(what: str, needed: int) -> None:
    """Raise a UsageError if the truth of the data needs more bytes than are free."""
    if needed > (free := free_memory()):
        raise UsageError(f"{what} takes at least {format_bytes(needed)} of RAM, and {format_bytes(free)} are free")


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _check_integer(name: str, value: object, least: int, why: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be an integer of {least} or more{why}, got {value!r}")
    return value


def _check_number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(f"{name} must be a number from {least} to {most}, got {value!r}")
    return value
