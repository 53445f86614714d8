"""The penalty on the spectrum of whole tables: its formula, and its gradient in training steps."""

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.families import build
from helpers.feature_maps import categorical, make_feature_map, sequence
from torch.nn.utils import clip_grad_norm_

from fuxictr_me import DNN_ME, UsageError
from fuxictr_me.collapse import participation_ratio
from fuxictr_me.nn.spectral_balance import spectral_balance, spectral_imbalance, trained_tables
from fuxictr_me.training.step import Step
from fuxictr_me.training.table_updates import DenseRows


def test_it_follows_its_formula():
    E = torch.randn(2, 3, 9, 4, dtype=torch.float64).exp()
    values = spectral_imbalance(E)
    for i in range(2):
        for j in range(3):
            G = E[i, j].numpy().T @ E[i, j].numpy()
            assert values[i, j].item() == pytest.approx(((G / np.trace(G) - np.eye(4) / 4) ** 2).sum(), rel=1e-12)
            ratio = participation_ratio(torch.linalg.svdvals(E[i, j]))
            assert values[i, j].item() == pytest.approx(1 / ratio - 1 / 4, rel=1e-12)
    assert torch.autograd.gradcheck(spectral_imbalance, E.requires_grad_())
    even = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64)).Q
    assert spectral_imbalance(even) < 1e-25
    assert spectral_imbalance(torch.ones(9, 4)).item() == pytest.approx(0.75)
    zero = torch.zeros(9, 4, requires_grad=True)
    spectral_imbalance(zero).backward()
    assert zero.grad.eq(0).all()


def test_descent_makes_the_spectrum_of_every_table_even():
    model = build(DNN_ME, make_feature_map({"user": categorical(30), "item": categorical(9)}), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with torch.no_grad():
        model.embedding_layer.table.weight[:, ::2] *= 5
    for _ in range(300):
        optimizer.zero_grad()
        spectral_balance(model.embedding_layer).backward()
        optimizer.step()
    for E in (E for sets in model.embedding_layer.tables().values() for E in sets):
        S = torch.linalg.svdvals(E)
        assert S.min() > 0.9 * S.max()
    for sets in model.embedding_layer.tables().values():
        assert all(E[0].eq(0).all() for E in sets)  # padding


@pytest.mark.parametrize("dims", [[4, 4], [4, 6]])
def test_it_covers_the_tables_of_ids_fused_or_not(tmp_path, dims):
    features = {
        "user": categorical(11),
        "price": {"source": "", "type": "numeric"},
        "place": categorical(5, embedding_dim=3),
        "item": categorical(7),
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(8, 2),
    }
    feature_map = make_feature_map(features, tmp_path, embedding_dim=4)
    fused, apart = (build(DNN_ME, feature_map, None, embedding_dim=dims, fused_embedding=f) for f in (True, False))
    apart.load_state_dict(fused.state_dict())
    assert fused.embedding_layer.table.fields == ["user"]
    expected = []
    for E in (E for sets in fused.embedding_layer.tables().values() for E in sets):
        S = np.linalg.svd(E.double().numpy(), compute_uv=False)
        expected.append((S**4).sum() / (S**2).sum() ** 2 - 1 / E.shape[1])
    assert len(expected) == 2 * 4  # the clicks share the table of the items
    for model in (fused, apart):
        assert spectral_balance(model.embedding_layer).item() == pytest.approx(np.mean(expected), rel=1e-5)


def plain_step(model, optimizer, batches, weight, regularizer, max_norm):
    """One step of autograd on unfused tables: mean loss of the rows, penalty, L2 of embeddings, clipping."""
    optimizer.zero_grad()
    y = torch.cat([model.get_labels(batch) for batch in batches])
    y_pred = torch.cat([model(batch)["y_pred"] for batch in batches])
    tables = trained_tables(model.embedding_layer)
    penalty = sum(((E.T @ E).square().sum() / (E.T @ E).trace() ** 2 - 1 / E.shape[1]) for E in tables) / len(tables)
    loss = model.loss_fn(y_pred, y, reduction="mean") + weight * penalty
    loss = loss + regularizer / 2 * sum(E.square().sum() for E in tables)
    loss.backward()
    clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("regularizer", [0, 0.01])
@pytest.mark.parametrize("more", [{}, {"optimizer": "SGD"}, {"embedding_dim": [4, 3]}, {"accumulate_steps": 2}])
def test_steps_with_it_equal_plain_autograd(double, plain_map, on_cpu, regularizer, more):
    settings = {"num_sets": None, "embedding_dim": [4, 4], "batch_norm": False, **more}
    plain = build(DNN_ME, plain_map, fused_embedding=False, **{**settings, "accumulate_steps": 1}).double().train()
    weights = {"spectral_balance_regularizer": 0.3, "embedding_regularizer": regularizer}
    model = build(DNN_ME, plain_map, **settings, **weights).double().train()
    model.load_state_dict(plain.state_dict())
    model._max_gradient_norm, model._batch_index, model._steps_per_epoch = 0.2, 0, 1_000
    model._step = Step(model, on_cpu=on_cpu)
    assert [type(rows) for rows in model._step.rows] == [DenseRows]
    optimizer = type(plain.optimizer)(plain.parameters(), lr=1e-3)
    for step in range(8):
        batches = [make_batch(plain_map, rows=16, seed=10 * step + i) for i in range(model.accumulate_steps)]
        for i, batch in enumerate(batches):
            model._batch_index = step * len(batches) + i
            loss = model.train_step(batch).item()
        expected = plain_step(plain, optimizer, batches, 0.3, regularizer, 0.2)
        if len(batches) == 1:
            assert loss == pytest.approx(expected, abs=1e-10), step
    mine, theirs = model.state_dict(), plain.state_dict()
    assert max((mine[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-10


def test_without_its_weight_training_is_the_same_bit_for_bit(plain_map):
    zero, left_out = (
        build(DNN_ME, plain_map, spectral_balance_regularizer=0, set_hsic_regularizer=0),
        build(DNN_ME, plain_map),
    )
    zero.load_state_dict(left_out.state_dict())
    for model in (zero, left_out):
        model._max_gradient_norm = 10.0
        for seed in range(3):
            model.train().train_step(make_batch(plain_map, seed=seed))
    assert all(
        torch.equal(x, y) for x, y in zip(zero.state_dict().values(), left_out.state_dict().values(), strict=True)
    )


def test_a_model_without_tables_is_refused():
    feature_map = make_feature_map(
        {"price": {"source": "", "type": "numeric"}, "age": {"source": "", "type": "numeric"}}
    )
    with pytest.raises(UsageError, match="spectral_balance_regularizer needs embedding tables that are trained"):
        build(DNN_ME, feature_map, 2, spectral_balance_regularizer=0.1)
