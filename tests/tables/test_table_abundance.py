"""Information abundance of the tables that are found in a model, against numpy's SVD."""

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence

from fuxictr_me import DNN_ME
from fuxictr_me.tables import FieldTables, abundance_of_fields, abundance_of_sets, find_tables


def svd_abundance(matrix):
    sigma = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return sigma.sum() / sigma.max()


def build_model(feature_map, **more):
    return DNN_ME(feature_map, num_sets=3, embedding_dim=4, hidden_units=[8, 4], model_root="unused", **MODEL, **more)


def test_find_tables_of_a_multi_embedding_model():
    features = {
        "user": categorical(30),
        "item": categorical(20),
        "last": categorical(20, share_embedding="item"),
        "bucket": {"source": "", "type": "categorical", "vocab_size": 10},
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(25, 3),
    }
    model = build_model(make_feature_map(features))
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


def test_find_tables_of_fuxictr_layers(plain_map):
    model = torch.nn.ModuleDict({"deep": FeatureEmbedding(plain_map, 6), "wide": LogisticRegression(plain_map)})
    assert [(t.layer, t.field, t.dims) for t in find_tables(model)] == [
        ("deep", "user", [6]),
        ("deep", "item", [6]),
        ("deep", "place", [6]),
    ]


def make_tables(kind, num_ids, dims):
    """Make tables of a field; return them, and in float64 side by side without the padding row 1."""
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
def test_abundance_by_gram_matrices_is_exact_to_1e_7_per_column(kind, num_ids, dims, monkeypatch):
    """As on a GPU. The condition number is squared, but IA is a sum relative to the largest σ."""
    monkeypatch.setattr("fuxictr_me.collapse.spectrum.GRAM_ROWS", 25_000)

    def ia(E):
        sigma = np.linalg.svd(E, compute_uv=False)
        return sigma.sum() / sigma[0] if sigma[0] else 0.0

    tables, E = make_tables(kind, num_ids, dims)
    broken, _ = make_tables("random", 20, dims)
    broken.sets[-1][4:6] = float("nan")
    (per_set, side_by_side), error = abundance_of_fields([tables, broken], by_gram=True)
    assert side_by_side == pytest.approx(ia(E), abs=1e-7 * sum(dims))
    for mine, block, dim in zip(per_set, np.split(E, np.cumsum(dims)[:-1], axis=1), dims, strict=True):
        assert mine == pytest.approx(ia(block), abs=1e-7 * dim)
    assert isinstance(error, ValueError) and "2 rows of the table hold NaN" in str(error)
    exact = abundance_of_fields([tables])[0]
    assert exact[1] == pytest.approx(ia(E), rel=1e-9) and exact == abundance_of_sets(tables)
