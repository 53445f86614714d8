"""Synthetic clicks follow their definition."""

import itertools
import json
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor

from fuxictr_me import UsageError
from fuxictr_me.data.synthetic_clicks import BLOCK_ROWS, CRITEO_SIZES, SyntheticClicks, spread_ids

SMALL = {"num_fields": 6, "num_ids": 20_000, "rank": 3, "num_interactions": 5, "seed": 7}


@pytest.fixture(scope="module")
def clicks():
    return SyntheticClicks(**SMALL)


@pytest.fixture(scope="module")
def rows(clicks):
    return collect(clicks, 12 * BLOCK_ROWS)


def collect(clicks, rows, **options):
    chunks = list(clicks.chunks(rows, **options))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_fields_have_the_names_and_proportions_of_criteo():
    default = SyntheticClicks(num_ids=100_000)
    assert default.field_names[:2] == ["I1", "I2"] and default.field_names[12:14] == ["I13", "C1"]
    assert default.field_names[-1] == "C26" and len(default.field_names) == 39
    assert len(default.pairs) == len(set(default.pairs)) == 39
    sizes = spread_ids(39, 1_000_000)
    assert sum(sizes) == 1_000_000 and min(sizes) == 2 + 3
    assert np.corrcoef(sizes, CRITEO_SIZES)[0, 1] > 0.99999
    for num_fields, num_ids in itertools.product((2, 3, 10, 39, 60), (120, 1234, 10**6)):
        sizes = spread_ids(num_fields, num_ids)
        assert len(sizes) == num_fields and sum(sizes) == num_ids and min(sizes) >= 2
        assert num_fields == 39 or sizes == sorted(sizes, reverse=True)


def test_the_same_settings_give_the_same_truth_and_rows(clicks):
    again, other = SyntheticClicks(**SMALL), SyntheticClicks(**{**SMALL, "seed": 8})
    assert again.pairs == clicks.pairs and (again.gain, again.bias) == (clicks.gain, clicks.bias)
    assert all(
        np.array_equal(a, b)
        for x, y in zip(again.factors, clicks.factors, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert same(collect(again, 1000), collect(clicks, 1000))
    assert not np.array_equal(other.first_order[0], clicks.first_order[0])
    assert not np.array_equal(collect(other, 1000)["F1"], collect(clicks, 1000)["F1"])


@pytest.mark.parametrize("chunk_rows", [777, BLOCK_ROWS, 30_000, 10**9])
def test_rows_do_not_depend_on_chunk_rows_or_on_the_number_of_rows(clicks, chunk_rows):
    whole = collect(clicks, 40_000)
    sizes = [len(chunk["label"]) for chunk in clicks.chunks(40_000, chunk_rows=chunk_rows)]
    assert sum(sizes) == 40_000 and set(sizes[:-1]) <= {chunk_rows}
    assert same(collect(clicks, 40_000, chunk_rows=chunk_rows), whole)
    assert same(collect(clicks, 20_001, chunk_rows=chunk_rows), {name: c[:20_001] for name, c in whole.items()})


def test_blocks_and_parts_hold_different_rows_of_one_truth(clicks, rows):
    def as_matrix(columns, start=0):
        return np.stack([columns[name][start : start + BLOCK_ROWS] for name in clicks.field_names])

    valid = collect(clicks, 12 * BLOCK_ROWS, part=1)
    agree = (as_matrix(rows) == as_matrix(valid)).all(axis=0).mean()
    assert agree < 0.02 and (as_matrix(rows) == as_matrix(rows, BLOCK_ROWS)).all(axis=0).mean() < 0.02
    for columns in (rows, valid):  # the label follows the same logits
        slope, shift = fit_logistic(clicks.logits(columns), columns["label"])
        assert abs(slope - 1) < 0.04 and abs(shift) < 0.04


def test_columns_hold_ids_from_1_and_a_binary_label(clicks, rows):
    assert list(rows) == ["label", *clicks.field_names] and rows["label"].dtype == np.uint8
    assert set(np.unique(rows["label"])) == {0, 1}
    for name, size in zip(clicks.field_names, clicks.vocab_sizes, strict=True):
        assert rows[name].dtype == np.int64 and rows[name].min() == 1 and rows[name].max() <= size


@pytest.mark.parametrize("exponent", [0.5, 1.05, 2.0])
def test_ids_follow_the_power_law(exponent):
    clicks = SyntheticClicks(**{**SMALL, "exponent": exponent})
    n = 8 * BLOCK_ROWS
    columns = collect(clicks, n)
    for name, size in zip(clicks.field_names, clicks.vocab_sizes, strict=True):
        weights = [rank**-exponent for rank in range(1, size + 1)]
        expected = n * np.array(weights) / math.fsum(weights)
        found = np.bincount(columns[name], minlength=size + 1)[1:]
        head = expected > 20
        chi2 = ((found - expected)[head] ** 2 / expected[head]).sum()
        assert abs(chi2 - head.sum()) < 5 * math.sqrt(2 * head.sum()) + 5
        assert abs(found[~head].sum() - expected[~head].sum()) < 5 * math.sqrt(expected[~head].sum() + 1)


@pytest.mark.parametrize("settings", [{}, {"noise": 2.0}, {"scale": 4.0}, {"exponent": 1.6}, {"num_fields": 39}])
def test_the_click_rate_equals_criteos(settings):
    clicks = SyntheticClicks(**{**SMALL, **settings})
    labels = collect(clicks, 12 * BLOCK_ROWS)["label"]
    assert abs(labels.mean() - 0.256) < 0.008


def test_logits_have_the_standard_deviation_scale():
    for scale in (0.5, 3.0):
        clicks = SyntheticClicks(**SMALL, scale=scale)
        assert clicks.logits(collect(clicks, 12 * BLOCK_ROWS)).std() == pytest.approx(scale, rel=0.02)


def test_logits_follow_the_formula(clicks, rows):
    logits = clicks.logits(rows)
    for n in (0, 1, 17, 5000):
        x = [int(rows[name][n]) for name in clicks.field_names]
        interactions = 0.0
        for (i, j), (U, V) in zip(clicks.pairs, clicks.factors, strict=True):
            interactions += sum(float(U[x[i] - 1][k]) * float(V[x[j] - 1][k]) for k in range(3))
        first_order = sum(float(w[k - 1]) for w, k in zip(clicks.first_order, x, strict=True))
        score = math.sqrt(3 / 5) * interactions + 0.3 / math.sqrt(6) * first_order
        assert logits[n] == pytest.approx(clicks.gain * score + clicks.bias, abs=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_planted_interaction_has_the_given_rank(rank):
    clicks = SyntheticClicks(**{**SMALL, "num_ids": 2000, "rank": rank, "num_interactions": None})
    for (i, j), (U, V) in zip(clicks.pairs, clicks.factors, strict=True):
        assert i < j and U.shape == (clicks.vocab_sizes[i], rank) and V.shape == (clicks.vocab_sizes[j], rank)
        planted = U.astype(np.float64) @ V.astype(np.float64).T
        assert np.linalg.matrix_rank(planted) == rank
    entries = np.concatenate([table.ravel() for pair in clicks.factors for table in pair])
    assert entries.var() == pytest.approx(1 / rank, rel=0.3)


def fit_logistic(x, y):
    """Return slope and intercept of a logistic regression of labels on logits, by Newton's method."""
    X, beta = np.stack([x, np.ones_like(x)], axis=1), np.zeros(2)
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ beta))
        beta += np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X, X.T @ (y - p))
    return beta


def test_labels_follow_the_logits_in_every_range(clicks, rows):
    p = 1 / (1 + np.exp(-clicks.logits(rows)))
    for of_bin in np.array_split(np.argsort(p), 20):
        expected, sd = p[of_bin].sum(), math.sqrt((p * (1 - p))[of_bin].sum())
        assert abs(rows["label"][of_bin].sum() - expected) < 4.5 * sd


def test_bayes_auc_equals_the_auc_of_the_probabilities(clicks, rows):
    # expected AUC of logits sorted by p: Σ_{a<b} p_b (1 - p_a) over Σ p Σ (1 - p), ties half; near enough pairwise
    p = np.sort(1 / (1 + np.exp(-clicks.logits(rows))))
    values, counts = np.unique(p, return_counts=True)
    clicked, not_clicked = values * counts, (1 - values) * counts
    below = np.cumsum(not_clicked) - not_clicked
    expected = (clicked * (below + not_clicked / 2)).sum() / (clicked.sum() * not_clicked.sum())
    assert clicks.bayes_auc(rows=200_000) == pytest.approx(expected, abs=0.006)
    assert clicks.bayes_auc(rows=30_000) == clicks.bayes_auc(rows=30_000)


def test_noise_changes_only_labels_and_lowers_the_best_auc(clicks):
    noisy = SyntheticClicks(**SMALL, noise=3.0)
    plain, moved = collect(clicks, 20_000), collect(noisy, 20_000)
    assert all(np.array_equal(plain[name], moved[name]) for name in clicks.field_names)
    assert noisy.gain == clicks.gain and noisy.bias < clicks.bias
    assert noisy.bayes_auc(50_000) < clicks.bayes_auc(50_000) - 0.05
    slope, _ = fit_logistic(noisy.logits(moved), moved["label"])
    assert slope < 0.7


def test_memory_does_not_grow_with_rows(clicks):
    assert len(next(clicks.chunks(10**12, chunk_rows=1000))["label"]) == 1000

    def peak(rows):
        tracemalloc.start()
        for _ in clicks.chunks(rows, chunk_rows=10_000):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(20 * BLOCK_ROWS) < 1.2 * peak(3 * BLOCK_ROWS)


def test_a_chunk_owns_its_memory(clicks):
    first, second = itertools.islice(clicks.chunks(2000, chunk_rows=1000), 2)
    first["F1"][:] = 0
    assert second["F1"].min() >= 1 and first["F1"].base is None


def test_the_feature_map_equals_the_one_that_fuxictr_builds(tmp_path):
    clicks = SyntheticClicks(num_fields=4, num_ids=40, rank=2)
    pd.DataFrame(collect(clicks, 5000)).to_csv(tmp_path / "train.csv", index=False)
    params = {
        "dataset_id": "made",
        "data_root": str(tmp_path),
        "feature_cols": [{"name": clicks.field_names, "active": True, "dtype": "str", "type": "categorical"}],
        "label_col": {"name": "label", "dtype": "float"},
    }
    encoder = FeatureProcessor(**params)
    encoder.fit(encoder.preprocess(encoder.read_data(str(tmp_path / "train.csv"))))
    built = json.loads((tmp_path / "made" / "feature_map.json").read_text())
    assert clicks.feature_map("made") == built
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(clicks.feature_map("made")))
    loaded = FeatureMap("made", str(tmp_path))
    loaded.load(str(path), {})
    assert loaded.num_fields == 4 and [s["vocab_size"] - 2 for s in loaded.features.values()] == clicks.vocab_sizes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_fields": 1}, "num_fields must be an integer of 2 or more, got 1"),
        ({"num_ids": 11}, r"num_ids must be an integer of 12 or more \(2 for each of 6 fields\), got 11"),
        ({"num_ids": 1e6}, "num_ids must be an integer .* got 1000000.0"),
        ({"rank": 0}, "rank must be an integer of 1 or more, got 0"),
        ({"rank": 972}, r"rank must be at most 971 \(ids of the second largest field\), got 972"),
        ({"exponent": 0}, "exponent must be a number from 0.01 to 5, got 0"),
        ({"exponent": float("nan")}, "exponent .* got nan"),
        ({"exponent": "1e0"}, "exponent .* got '1e0'"),
        ({"noise": -0.1}, "noise must be a number from 0 to 100, got -0.1"),
        ({"scale": True}, "scale must be a number from 0.01 to 100, got True"),
        ({"seed": -1}, "seed must be an integer of 0 or more, got -1"),
        ({"num_interactions": 0}, "num_interactions must be an integer of 1 or more, got 0"),
        ({"num_interactions": 16}, r"num_interactions must be 1 to 15 \(pairs of fields with 3 ids or more\), got 16"),
    ],
)
def test_errors_name_bad_settings(settings, message):
    with pytest.raises(UsageError, match=message) as error:
        SyntheticClicks(**{**SMALL, **settings})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"rows": 2.5}, {"chunk_rows": 0}, {"part": -1}])
def test_errors_name_bad_chunks_at_once(clicks, wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be an integer"):
        clicks.chunks(**{"rows": 10, **wrong})


def test_errors_name_bad_ids_and_samples(clicks):
    good = {name: np.ones(3, dtype=np.int64) for name in clicks.field_names}
    assert clicks.logits(good).shape == (3,)
    with pytest.raises(UsageError, match="ids of field 'F2' are missing"):
        clicks.logits({"F1": good["F1"]})
    for bad in (np.array([0, 1, 1]), np.array([1, 1, 10**6]), np.ones(3)):
        with pytest.raises(UsageError, match="ids of field 'F1' must be integers from 1 to"):
            clicks.logits({**good, "F1": bad})
    with pytest.raises(UsageError, match="1 rows of the sample all have label"):
        clicks.bayes_auc(rows=1)
    with pytest.raises(UsageError, match="rows must be an integer"):
        clicks.bayes_auc(rows=0)
