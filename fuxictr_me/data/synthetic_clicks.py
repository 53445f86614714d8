"""Click data of Criteo's shape, with interactions of a known rank planted in them."""

import itertools

import numpy as np

from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.formatting import format_bytes

CRITEO_SIZES = (  # ids of I1..I13 and C1..C26 in Criteo's rows: a few very large fields, many small ones
    *(49, 101, 126, 45, 223, 118, 84, 76, 95, 9, 30, 40, 75),
    *(1458, 555, 193949, 138801, 306, 19, 11970, 634, 4, 42646, 5178, 192773, 3175),
    *(27, 11422, 181075, 11, 4654, 2032, 5, 189657, 18, 16, 59697, 86, 45571),
)
CRITEO_NAMES = (*(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27)))
CLICK_RATE = 0.256  # Criteo's
FIRST_ORDER = 0.3  # standard deviation of the first-order part of the score; the interactions' is 1
BLOCK_ROWS = 16_384  # rows of one random stream; always drawn whole
CALIBRATION_BLOCKS = 4
TRUTH, ROWS, CALIBRATION, AUC = range(4)  # what a random stream is for


class SyntheticClicks:
    """Rows of ids and a click label whose logit is known.

    Field f has V_f ids; id k occurs with probability k^-exponent / Σ_l l^-exponent, so 1 is the most frequent.
    P pairs of fields (i, j) interact through factors U (V_i, r) and V (V_j, r), entries N(0, 1) / √r:

        score = √(r/P) Σ_pairs U[x_i]·V[x_j] + (0.3/√F) Σ_f w_f[x_f]
        logit = scale · score / sd(score) + bias
        label ~ Bernoulli(sigmoid(logit + noise · N(0, 1)))

    with w ~ N(0, 1), and ``sd(score)`` and ``bias`` measured on a sample so that 0.256 of the rows are clicks.
    All follows from the settings: the same settings and seed give the same truth and the same rows.

    Args:
        num_fields (int): F; with 39 the fields are Criteo's I1..I13, C1..C26, else F1..Fn, largest first.
        num_ids (int): Σ V_f, in Criteo's proportions; at least 2 a field.
        exponent (float): of the power law over the ids of a field, 0.01 to 5.
        rank (int): r; only fields with r ids or more interact, so that each U Vᵀ has rank r exactly.
        num_interactions (int): P; None plants one for each field, or as many as there are pairs.
        scale (float): standard deviation of the logit, 0.01 to 100.
        noise (float): standard deviation of what moves a row's logit and no model can see, 0 to 100.
        seed (int): of the truth and of the rows.

    Attributes:
        field_names (list of str): (F,).
        vocab_sizes (list of int): (F,), V_f: ids that occur, without padding and OOV.
        pairs (list of (int, int)): (P,), positions i < j of the fields that interact.
        factors (list of (ndarray (V_i, r), ndarray (V_j, r))): (P,), float32; row k - 1 belongs to id k.
        first_order (list of ndarray (V_f,)): (F,), float32: w_f.
        gain (float): scale / sd(score).
        bias (float)

    Raises:
        UsageError: a setting outside its range.
    """

    def __init__(
        self,
        num_fields=39,
        num_ids=1_000_000,
        exponent=1.05,
        rank=4,
        num_interactions=None,
        scale=1.5,
        noise=0.0,
        seed=0,
    ):
        _integer("num_fields", num_fields, 2)
        _integer("num_ids", num_ids, 2 * num_fields, f" (2 for each of {num_fields} fields)")
        self.rank = check_positive_int("rank", rank)
        self.noise = _number("noise", noise, 0, 100)
        self.seed = _integer("seed", seed, 0)
        _number("exponent", exponent, 0.01, 5)
        _number("scale", scale, 0.01, 100)
        _refuse_beyond_memory(f"num_ids {num_ids:,} in {num_fields:,} fields", 12 * num_ids + 32 * num_fields**2)
        self.field_names = list(CRITEO_NAMES) if num_fields == 39 else [f"F{n}" for n in range(1, num_fields + 1)]
        self.vocab_sizes = spread_ids(num_fields, num_ids)
        rng = self._rng(TRUTH)
        self.pairs = _choose_pairs(self.vocab_sizes, rank, num_interactions, rng)
        sizes = self.vocab_sizes
        _refuse_beyond_memory(f"rank {rank:,}", sum(4 * rank * (sizes[i] + sizes[j]) for i, j in self.pairs))
        self.factors = [tuple(_normal(rng, self.vocab_sizes[f], rank) / rank**0.5 for f in pair) for pair in self.pairs]
        self.first_order = [_normal(rng, size) for size in self.vocab_sizes]
        self._cumulative = [_cumulative_probability(size, exponent) for size in self.vocab_sizes]
        self._calibrate(scale)

    def chunks(self, rows, chunk_rows=100_000, part=0):
        """Rows in pieces, in memory that does not grow with ``rows``.

        Row n depends on the settings, ``part`` and n alone, not on ``chunk_rows`` or ``rows``.

        Args:
            rows (int): how many rows in all.
            chunk_rows (int): rows of a piece; the last one may have fewer.
            part (int): which rows of the same truth, e.g. 0 to train, 1 to validate, 2 to test.

        Returns:
            iterator of dict: ``label`` -> uint8 (n,), and each field's name -> int64 (n,), ids from 1 to V_f.

        Raises:
            UsageError: not integers, or too small.
        """
        return self._chunks(
            check_positive_int("rows", rows), check_positive_int("chunk_rows", chunk_rows), _integer("part", part, 0)
        )

    def logits(self, ids):
        """The true logit of given ids, before the noise.

        Args:
            ids (dict): each field's name -> int (n,), 1 to V_f, as ``chunks`` yields them; other keys do not count.

        Returns:
            ndarray: (n,), float64.

        Raises:
            UsageError: a field is missing, or ids outside its vocabulary.
        """
        columns = []
        for name, size in zip(self.field_names, self.vocab_sizes, strict=True):
            if name not in ids:
                raise UsageError(f"ids of field {name!r} are missing: needed are {', '.join(self.field_names)}")
            column = np.asarray(ids[name])
            if column.dtype.kind not in "iu" or (column.size and not 1 <= column.min() <= column.max() <= size):
                found = f"{column.min()} to {column.max()} ({column.dtype})"
                raise UsageError(f"ids of field {name!r} must be integers from 1 to {size}, got {found}")
            columns.append(column.astype(np.int64) - 1)
        return self.gain * self._score(columns) + self.bias

    def bayes_auc(self, rows=200_000):
        """AUC of the true logits on rows of their own: what the best model can reach, to the sample's error.

        Args:
            rows (int): of the sample.

        Raises:
            UsageError: ``rows`` is no positive integer, or so small that only one label occurs.
        """
        from sklearn.metrics import roc_auc_score

        blocks = range(-(-check_positive_int("rows", rows) // BLOCK_ROWS))
        sample = [self._labelled(AUC, 0, block)[1:] for block in blocks]
        logits, labels = (np.concatenate(column)[:rows] for column in zip(*sample, strict=True))
        if labels.min() == labels.max():
            raise UsageError(f"the {rows} rows of the sample all have label {labels[0]}: take more rows")
        return float(roc_auc_score(labels, logits))

    def feature_map(self, dataset_id):
        """What FuxiCTR's ``feature_map.json`` holds for these data; ids 0 (padding) and V_f + 1 (OOV) never occur.

        Args:
            dataset_id (str): name of the data set.

        Returns:
            dict: ready for ``json.dump``.
        """
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

    def _chunks(self, rows, chunk_rows, part):
        at, block = -1, {}
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

    def _labelled(self, use, part, block):
        """Ids from 0: list of F int64 (n,); logits: float64 (n,); labels: uint8 (n,), of a block of n rows."""
        ids, score, noise, uniform = self._draw(use, part, block)
        logits = self.gain * score + self.bias
        return ids, logits, (uniform < _sigmoid(logits + noise)).astype(np.uint8)

    def _draw(self, use, part, block):
        rng = self._rng(use, part, block)
        ids = [np.searchsorted(upto, rng.random(BLOCK_ROWS), side="right") for upto in self._cumulative]
        return ids, self._score(ids), self.noise * rng.standard_normal(BLOCK_ROWS), rng.random(BLOCK_ROWS)

    def _rng(self, use, part=0, block=0):
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(use, part, block)))

    def _score(self, ids):
        """Score (n,), float64, of ids from 0: list of F int64 (n,)."""
        interactions, first_order = np.zeros((2, len(ids[0])))
        for (i, j), (U, V) in zip(self.pairs, self.factors, strict=True):
            interactions += np.einsum("nr,nr->n", U.take(ids[i], axis=0), V.take(ids[j], axis=0))
        for weights, column in zip(self.first_order, ids, strict=True):
            first_order += weights.take(column)
        return (self.rank / len(self.pairs)) ** 0.5 * interactions + FIRST_ORDER / len(ids) ** 0.5 * first_order

    def _calibrate(self, scale):
        """Set ``gain`` and ``bias``: logits spread by ``scale``, and a share ``CLICK_RATE`` of labels is 1."""
        blocks = [self._draw(CALIBRATION, 0, block)[1:3] for block in range(CALIBRATION_BLOCKS)]
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


def spread_ids(num_fields, num_ids):
    """Vocabulary sizes in Criteo's proportions, each at least 2, that add up to ``num_ids``.

    Args:
        num_fields (int): with 39 in Criteo's order; else quantiles of Criteo's sizes, largest first.
        num_ids (int): at least 2 · num_fields.

    Returns:
        list of int: (num_fields,).
    """
    shares = np.array(CRITEO_SIZES, dtype=np.float64)
    if num_fields != len(shares):
        middles = (np.arange(len(shares)) + 0.5) / len(shares)
        shares = np.exp(np.interp((np.arange(num_fields) + 0.5) / num_fields, middles, np.log(np.sort(shares)[::-1])))
    sizes = 2 + np.floor(shares / shares.sum() * (num_ids - 2 * num_fields)).astype(np.int64)
    sizes[shares.argmax()] += num_ids - sizes.sum()
    return sizes.tolist()


def _choose_pairs(sizes, rank, wanted, rng):
    able = [field for field, size in enumerate(sizes) if size >= rank]
    pairs = list(itertools.combinations(able, 2))
    if not pairs:
        raise UsageError(f"rank must be at most {sorted(sizes)[-2]} (ids of the second largest field), got {rank}")
    wanted = min(len(sizes), len(pairs)) if wanted is None else check_positive_int("num_interactions", wanted)
    if wanted > len(pairs):
        raise UsageError(
            f"num_interactions must be 1 to {len(pairs)} (pairs of fields with {rank} ids or more), got {wanted}"
        )
    return [pairs[n] for n in sorted(rng.choice(len(pairs), wanted, replace=False))]


def _cumulative_probability(size, exponent):
    """P(id ≤ k), k = 1..size: (size,), float64, the last one 1."""
    weights = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -exponent)
    return weights / weights[-1]


def _refuse_beyond_memory(what: str, needed: int) -> None:
    """Raise a UsageError where the truth of the data takes more bytes than are free."""
    from fuxictr_me.data.loaders.h5_loader import free_memory  # which needs torch

    if needed > (free := free_memory()):
        raise UsageError(f"{what} takes at least {format_bytes(needed)} of RAM, and {format_bytes(free)} are free")


def _normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def _integer(name, value, least, why=""):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be an integer of {least} or more{why}, got {value!r}")
    return value


def _number(name, value, least, most):
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise UsageError(f"{name} must be a number from {least} to {most}, got {value!r}")
    return value
