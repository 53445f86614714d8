"""Information abundance against numpy's SVD, and on matrices whose answer is known."""

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence

from fuxictr_me import DNN_ME, information_abundance, singular_values
from fuxictr_me.collapse import random_abundance, triangular_factor
from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.tables import FieldTables, abundance_of_fields, abundance_of_sets, find_tables


def svd_abundance(matrix):
    sigma = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return sigma.sum() / sigma.max()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 4), (4, 1), (200, 40), (40, 200), (2 * CHUNK_ROWS + 7, 12)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_svd(shape, dtype):
    table = torch.randn(shape).to(dtype)
    expected = np.linalg.svd(table.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_values(table).numpy(), expected, rtol=1e-11)
    assert information_abundance(table) == pytest.approx(svd_abundance(table.double().numpy()), rel=1e-12)


def test_known_cases():
    orthogonal = np.linalg.qr(np.random.randn(5000, 16))[0]
    assert information_abundance(orthogonal) == pytest.approx(16, rel=1e-12)
    assert information_abundance(np.outer(np.random.randn(40_000), np.random.randn(300))) == pytest.approx(1, abs=1e-9)
    assert information_abundance(torch.eye(4)) == 4.0
    scaled = torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0]))
    assert information_abundance(scaled) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e30])
def test_does_not_depend_on_scale(scale):
    table = torch.randn(300, 8, dtype=torch.float64)
    assert information_abundance(table * scale) == pytest.approx(information_abundance(table), rel=1e-12)


def test_ill_conditioned_float32_table():
    left, right = (np.linalg.qr(np.random.randn(n, 20))[0] for n in (5000, 20))
    table = (left * np.logspace(0, -6, 20)) @ right.T
    expected = np.logspace(0, -6, 20).sum()
    assert information_abundance(table) == pytest.approx(expected, rel=1e-10)
    assert information_abundance(table.astype(np.float32)) == pytest.approx(expected, rel=1e-4)


def test_zero_and_empty_tables_have_rank_zero():
    assert information_abundance(torch.zeros(10, 3)) == 0.0
    assert information_abundance(torch.empty(0, 3)) == 0.0
    assert information_abundance(torch.ones(1, 3), exclude=[0]) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_rows_are_counted(bad):
    table = torch.randn(CHUNK_ROWS + 50, 3)
    table[[4, CHUNK_ROWS + 3], 1] = bad
    with pytest.raises(ValueError, match="2 rows of the table hold NaN or infinity"):
        information_abundance(table)


@pytest.mark.parametrize("bad", [torch.randn(3), torch.randn(3, 2, 2), torch.randn(3, 0), torch.randn(3, 2) * 1j])
def test_not_a_matrix(bad):
    with pytest.raises(ValueError, match="real matrix"):
        information_abundance(bad)
    with pytest.raises(ValueError, match="same number of rows"):
        information_abundance([torch.ones(3, 2), torch.ones(4, 2)])


def test_excluded_rows_do_not_count():
    table = torch.randn(2 * CHUNK_ROWS, 6)
    kept = torch.cat([table[1:CHUNK_ROWS], table[CHUNK_ROWS + 1 : -1]])
    expected = information_abundance(kept)
    assert information_abundance(table, exclude=(0, CHUNK_ROWS, -1)) == pytest.approx(expected, rel=1e-12)
    assert information_abundance(table) != pytest.approx(expected, rel=1e-6)


def test_side_by_side_without_laying_them_so():
    sets = [torch.randn(500, k) for k in (3, 5, 2)]
    assert information_abundance(sets) == pytest.approx(svd_abundance(torch.cat(sets, 1).double().numpy()), rel=1e-12)
    R = triangular_factor(sets)
    for columns, table in zip(R.split([3, 5, 2], dim=1), sets, strict=True):
        torch.testing.assert_close(torch.linalg.svdvals(columns), singular_values(table), rtol=1e-12, atol=0)


def test_extra_memory_is_bounded(monkeypatch):
    largest = []
    qr = torch.linalg.qr

    def spy(matrix, mode):
        largest.append(matrix.numel())
        return qr(matrix, mode=mode)

    monkeypatch.setattr(torch.linalg, "qr", spy)
    information_abundance(torch.randn(10 * CHUNK_ROWS, 8))
    assert len(largest) == 10 and max(largest) <= (CHUNK_ROWS + 8) * 8


def model_of(feature_map, **more):
    return DNN_ME(feature_map, num_sets=3, embedding_dim=4, hidden_units=[8, 4], model_root="unused", **MODEL, **more)


def test_field_tables_of_our_model():
    features = {
        "user": categorical(30),
        "item": categorical(20),
        "last": categorical(20, share_embedding="item"),
        "bucket": {"source": "", "type": "categorical", "vocab_size": 10},
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(25, 3),
    }
    model = model_of(make_feature_map(features))
    found = {tables.field: tables for tables in find_tables(model)}
    assert list(found) == ["user", "item", "bucket", "clicks"]
    assert {t.layer for t in found.values()} == {"embedding_layer"}
    assert [found[f].num_ids for f in found] == [29, 19, 10, 24] and found["user"].dims == [4, 4, 4]
    per_set, side_by_side = abundance_of_sets(found["user"])
    weights = [
        s.embedding_layer.embedding_layers["user"].weight.detach()[1:].double().numpy()
        for s in model.embedding_layer.sets
    ]
    assert per_set == pytest.approx([svd_abundance(w) for w in weights], rel=1e-10)
    assert side_by_side == pytest.approx(svd_abundance(np.hstack(weights)), rel=1e-10)


def test_field_tables_of_any_fuxictr_layers(plain_map):
    model = torch.nn.ModuleDict({"deep": FeatureEmbedding(plain_map, 6), "wide": LogisticRegression(plain_map)})
    assert [(t.layer, t.field, t.dims) for t in find_tables(model)] == [
        ("deep", "user", [6]),
        ("deep", "item", [6]),
        ("deep", "place", [6]),
    ]


def test_random_reference_is_seeded_and_leaves_the_random_state():
    initializer = torch.nn.init.normal_
    before = torch.random.get_rng_state()
    one = random_abundance(50, [4, 4], initializer)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one == random_abundance(50, [4, 4], initializer) != random_abundance(50, [4, 4], initializer, seed=1)
    many = [random_abundance(2000, [16], initializer, seed=s) for s in range(3)]
    expected = [svd_abundance(np.random.randn(2000, 16)) for _ in range(3)]
    assert np.mean(many) == pytest.approx(np.mean(expected), rel=0.02)


def tables_of(kind, num_ids, dims):
    """Tables of a field, side by side and in float64 the last thing given back, without the padding row 1."""
    rng = np.random.default_rng(3)
    E = rng.standard_normal((num_ids, sum(dims))) * 1e-3
    if kind == "one direction":
        E = np.outer(rng.standard_normal(num_ids), rng.standard_normal(sum(dims)))
    if kind == "falling":
        E = E @ (10.0 ** -np.linspace(0, 9, sum(dims))[:, None] * rng.standard_normal((sum(dims), sum(dims))))
    if kind == "zeros":
        E = E * 0
    E = E.astype(np.float32)
    E[1] = 7  # padding
    sets = [part.clone() for part in torch.from_numpy(E).split(dims, dim=1)]
    return FieldTables("layer", kind, sets, (1,), None), np.delete(E.astype(np.float64), 1, axis=0)


@pytest.mark.parametrize("kind", ["random", "one direction", "falling", "zeros"])
@pytest.mark.parametrize("num_ids, dims", [(3, [4, 4]), (30, [10] * 10), (60_000, [10] * 10), (500, [3, 8, 1])])
def test_abundance_by_gram_matrices_is_that_of_an_svd_to_1e_7_a_column(kind, num_ids, dims, monkeypatch):
    """The way of a GPU: the condition number is squared, but what IA adds up is relative to the largest σ."""
    monkeypatch.setattr("fuxictr_me.collapse.spectrum.GRAM_ROWS", 25_000)

    def ia(E):
        sigma = np.linalg.svd(E, compute_uv=False)
        return sigma.sum() / sigma[0] if sigma[0] else 0.0

    tables, E = tables_of(kind, num_ids, dims)
    broken, _ = tables_of("random", 20, dims)
    broken.sets[-1][4:6] = float("nan")
    (per_set, side_by_side), error = abundance_of_fields([tables, broken], by_gram=True)
    assert side_by_side == pytest.approx(ia(E), abs=1e-7 * sum(dims))
    for mine, block, dim in zip(per_set, np.split(E, np.cumsum(dims)[:-1], axis=1), dims, strict=True):
        assert mine == pytest.approx(ia(block), abs=1e-7 * dim)
    assert isinstance(error, ValueError) and "2 rows of the table hold NaN" in str(error)
    exact = abundance_of_fields([tables])[0]
    assert exact[1] == pytest.approx(ia(E), rel=1e-9) and exact == abundance_of_sets(tables)
