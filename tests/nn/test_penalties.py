"""Penalties on the training loss, against plain loops over sets, layers, fields and pairs."""

import logging

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import categorical, make_feature_map
from helpers.models import gradients

from fuxictr_me import DNN_ME, DCNv2_ME, Mixed_ME, NFwFM_ME, UsageError
from fuxictr_me.nn.penalties import norm_alignment, set_covariance, singular_value_variance, space_similarity

PENALTIES = ("norm_alignment", "space_similarity", "singular_value", "restricted_interaction", "set_covariance")


def block(W, j, i, dim=4):
    """W_{i→j}: row block j, column block i."""
    return W[dim * j : dim * (j + 1), dim * i : dim * (i + 1)]


def plain_norm_alignment(cross_weights):
    """cross_weights: a list over layers of a list over sets of (F K, F K)."""
    variances = []
    for layer in cross_weights:
        for j in range(3):
            for i in range(3):
                norms = [(block(W, j, i) ** 2).sum() for W in layer]
                variances.append(np.mean([(n - np.mean(norms)) ** 2 for n in norms]))
    return np.mean(variances)


def plain_restriction(cross_weights):
    total = 0
    for layer in cross_weights:
        for W in layer:
            for j in range(3):
                for i in range(3):
                    total += ((np.eye(4) - block(W, j, i) @ block(W, j, i).T) ** 2).sum()
    return total


def plain_space_similarity(e):
    """e: (B, M, F, K). As in the authors' code, fields are averaged before the square."""
    pair_values = []
    for i in range(e.shape[1]):
        for j in range(i):
            field_values = [np.linalg.svd(e[:, i, k].T @ e[:, j, k])[1] for k in range(e.shape[2])]
            pair_values.append(np.mean(field_values, axis=0))
    return np.mean(np.concatenate(pair_values) ** 2)


def plain_singular_value(e):
    spreads = []
    for m in range(e.shape[1]):
        for f in range(e.shape[2]):
            S = np.linalg.svd(e[:, m, f], compute_uv=False)
            spreads.append(np.var(S / S.mean(), ddof=1))
    return np.mean(spreads)


def plain_set_covariance(h):
    values = []
    for i in range(h.shape[1]):
        for j in range(i):
            cross = [
                np.mean((h[:, i, a] - h[:, i, a].mean()) * (h[:, j, b] - h[:, j, b].mean())) * len(h) / (len(h) - 1)
                for a in range(h.shape[2])
                for b in range(h.shape[2])
            ]
            values.append(np.mean(np.square(cross)))
    return np.mean(values)


def expected_penalties(model, batch, names):
    X = model.get_inputs(batch)
    e = model.embed(X)
    h = model.represent(e, X).detach().double().numpy()
    e = torch.cat(e, dim=1).unflatten(-1, (3, 4)).detach().double().numpy()
    if isinstance(model, DCNv2_ME):
        layers = model.interaction[0].crossnet.cross_layers
        cross = [[W.double().numpy() for W in layer.weight.detach()] for layer in layers]
    values = {}
    for name in names:
        if name == "norm_alignment":
            values[name] = plain_norm_alignment(cross)
        elif name == "restricted_interaction":
            values[name] = plain_restriction(cross)
        elif name == "set_covariance":
            values[name] = plain_set_covariance(h)
        else:
            values[name] = {"space_similarity": plain_space_similarity, "singular_value": plain_singular_value}[name](e)
    return values


def test_each_penalty_follows_its_formula_and_is_added_to_the_training_loss(plain_map):
    batch = make_batch(plain_map)
    plain = build(DCNv2_ME, plain_map)
    for name in PENALTIES:
        model = build(DCNv2_ME, plain_map, **{f"{name}_regularizer": 0.3})
        model.load_state_dict(plain.state_dict())
        expected = 0.3 * expected_penalties(model, batch, [name])[name]
        assert expected > 1e-6, name
        model.train(), plain.train()
        result, without = model(batch), plain(batch)
        assert torch.equal(result["y_pred"], without["y_pred"]) and list(result["penalties"]) == [name]
        assert result["penalties"][name].item() == pytest.approx(expected, rel=1e-4), name
        y = model.get_labels(batch)
        added = model.compute_loss(result, y) - plain.compute_loss(without, y)
        assert added.item() == pytest.approx(expected, rel=1e-3, abs=1e-6), name
        assert "penalties" not in model.eval()(batch)
    assert "penalties" not in plain.train()(batch)


def test_all_penalties_can_be_combined(plain_map):
    batch = make_batch(plain_map)
    weights = dict(zip(PENALTIES, (1.0, 1e-3, 0.5, 1e-2, 0.1), strict=True))
    model = build(DCNv2_ME, plain_map, field_weights=True, **{f"{k}_regularizer": w for k, w in weights.items()})
    expected = expected_penalties(model, batch, PENALTIES)  # N = 1 here, so the norms are those of W
    got = model.train()(batch)["penalties"]
    for name, weight in weights.items():
        assert got[name].item() == pytest.approx(weight * expected[name], rel=1e-4), name


def test_norms_include_field_weights_and_the_restriction_does_not(plain_map):
    weights = {"norm_alignment_regularizer": 1.0, "restricted_interaction_regularizer": 1.0}
    model = build(DCNv2_ME, plain_map, field_weights=True, **weights).train()
    batch = make_batch(plain_map)
    before = model(batch)["penalties"]
    with torch.no_grad():
        for N in model.interaction[0].crossnet.field_weights:
            N[0] *= 2
    after = model(batch)["penalties"]
    assert after["restricted_interaction"].item() == pytest.approx(before["restricted_interaction"].item())
    layers = model.interaction[0].crossnet.cross_layers
    cross = [[W.double().numpy() * (2 if m == 0 else 1) for m, W in enumerate(L.weight.detach())] for L in layers]
    assert after["norm_alignment"].item() == pytest.approx(plain_norm_alignment(cross), rel=1e-4)


def test_norms_of_nfwfm_equal_those_of_multiples_of_the_identity(plain_map):
    model = build(NFwFM_ME, plain_map, norm_alignment_regularizer=0.5).train()
    w = model.interaction[0].products.weight.detach().double().numpy()
    as_cross = [[np.kron(one_set.T, np.eye(4)) for one_set in w]]  # W_{i→j} = w_ij I
    expected = 0.5 * plain_norm_alignment(as_cross)
    assert model(make_batch(plain_map))["penalties"]["norm_alignment"].item() == pytest.approx(expected, rel=1e-4)


@EVERY_FAMILY
def test_every_model_can_have_penalties_on_embeddings_and_representations(plain_map, model_class):
    names = ("space_similarity", "singular_value", "set_covariance")
    model = build(model_class, plain_map, **{f"{name}_regularizer": 1.0 for name in names}).train()
    batch = make_batch(plain_map)
    X = model.get_inputs(batch)
    e = model.embed(X)
    h = model.represent(e, X).detach().double().numpy()
    apart = e[0].unflatten(-1, (3, 4)).detach().double().numpy()
    got = model(batch)["penalties"]
    assert got["space_similarity"].item() == pytest.approx(plain_space_similarity(apart), rel=1e-4)
    assert got["singular_value"].item() == pytest.approx(plain_singular_value(apart), rel=1e-4)
    assert got["set_covariance"].item() == pytest.approx(plain_set_covariance(h), rel=1e-3)
    sum(got.values()).backward()
    for m in range(3):
        grad = gradients(model)[f"embedding_layer.sets.{m}.embedding_layer.embedding_layers.user.weight"]
        assert grad.isfinite().all() and grad.abs().sum() > 0


def test_the_singular_value_penalty_of_one_set_and_of_unequal_sets(plain_map):
    batch = make_batch(plain_map)
    single = build(DNN_ME, plain_map, 1, singular_value_regularizer=1.0).train()
    e = single.embed(single.get_inputs(batch))[0].unflatten(-1, (3, 4)).detach().double().numpy()
    assert single(batch)["penalties"]["singular_value"].item() == pytest.approx(plain_singular_value(e), rel=1e-4)
    unequal = build(DNN_ME, plain_map, None, embedding_dim=[4, 4, 6], singular_value_regularizer=1.0).train()
    e = [z.unflatten(-1, (3, -1)).detach().double().numpy() for z in unequal.embed(unequal.get_inputs(batch))]
    expected = (2 * plain_singular_value(e[0]) + plain_singular_value(e[1])) / 3
    assert unequal(batch)["penalties"]["singular_value"].item() == pytest.approx(expected, rel=1e-4)


def test_the_singular_value_penalty_skips_numeric_fields(plain_map):
    features = {"user": categorical(11), "price": {"source": "", "type": "numeric"}, "item": categorical(7)}
    model = build(DNN_ME, make_feature_map(features), 2, singular_value_regularizer=1.0).train()
    batch = make_batch(model.feature_map)
    e = model.embed(model.get_inputs(batch))[0].unflatten(-1, (3, 4))[:, :, [0, 2]].detach().double().numpy()
    assert model(batch)["penalties"]["singular_value"].item() == pytest.approx(plain_singular_value(e), rel=1e-4)


def test_penalties_are_small_for_the_embeddings_they_favour():
    torch.manual_seed(1)
    e = torch.randn(64, 2, 3, 4)
    orthogonal = e.clone()
    for f in range(3):  # set 1 orthogonal to set 0 over the batch
        basis = torch.linalg.qr(e[:, 0, f]).Q
        orthogonal[:, 1, f] -= basis @ (basis.T @ e[:, 1, f])
    assert space_similarity(orthogonal) < 1e-8 < space_similarity(e)
    even = torch.linalg.qr(torch.randn(64, 4)).Q.view(64, 1, 1, 4)
    assert singular_value_variance(even) < 1e-8 < singular_value_variance(even * torch.tensor([8.0, 4, 2, 1]))
    h = torch.randn(4096, 2, 3)
    assert set_covariance(h) < 0.01 < set_covariance(torch.cat([h[:, :1], h[:, :1]], dim=1))
    assert norm_alignment(torch.ones(3, 2, 4, 4)) == 0 < norm_alignment(torch.rand(3, 2, 4, 4))


def test_a_batch_of_one_row_has_no_penalty():
    assert singular_value_variance(torch.randn(1, 2, 3, 4)) == 0 and set_covariance(torch.randn(1, 2, 3)) == 0


def test_penalties_are_logged_beside_the_loss(plain_map, caplog):
    class Loader(list):
        pass

    batches = Loader(make_batch(plain_map, seed=s) for s in range(3))
    model = build(DCNv2_ME, plain_map, restricted_interaction_regularizer=1e-3, verbose=0, epochs=2)
    model.save_weights = model.load_weights = lambda path: None
    with caplog.at_level(logging.INFO):
        model.fit(batches, epochs=2, validation_data=batches)
    lines = [record.message for record in caplog.records]
    at = [i for i, line in enumerate(lines) if line.startswith("Penalties in it: restricted_interaction: ")]
    assert len(at) == 2 and all(lines[i - 1].startswith("Train loss: ") for i in at)
    value = float(lines[at[0]].split(": ")[-1])
    assert 0 < value < float(lines[at[0] - 1].split(": ")[-1])
    restricted = 1e-3 * expected_penalties(model, batches[0], ["restricted_interaction"])["restricted_interaction"]
    assert value == pytest.approx(restricted, rel=0.1)


@pytest.mark.parametrize(
    ("model_class", "settings", "message"),
    [
        (DCNv2_ME, {"num_sets": 1, "norm_alignment_regularizer": 1.0}, "norm_alignment_regularizer compares sets"),
        (DCNv2_ME, {"num_sets": 1, "space_similarity_regularizer": 1.0}, "space_similarity_regularizer compares sets"),
        (DCNv2_ME, {"num_sets": 1, "set_covariance_regularizer": 1.0}, "set_covariance_regularizer compares sets"),
        (DCNv2_ME, {"shared_interaction": True, "norm_alignment_regularizer": 1.0}, "which share one"),
        (DNN_ME, {"norm_alignment_regularizer": 1.0}, "needs a weight for each pair of fields, which"),
        (
            DNN_ME,
            {"restricted_interaction_regularizer": 1e-5},
            "needs full-matrix cross layers, which FlatEmbeddings does not have",
        ),
        (
            DCNv2_ME,
            {"restricted_interaction_regularizer": 1e-5, "use_low_rank_mixture": True},
            "needs full-matrix cross layers, which CrossNetworkMix does not have",
        ),
        (
            Mixed_ME,
            {"interactions": ["DCNv2", "PNN"], "num_sets": 2, "restricted_interaction_regularizer": 1e-5},
            "needs full-matrix cross layers, which CrossNetwork or FieldProducts does not have",
        ),
        (
            DNN_ME,
            {"num_sets": None, "embedding_dim": [4, 8], "space_similarity_regularizer": 1.0},
            "space_similarity_regularizer needs sets of one dimension, got [4, 8]",
        ),
        (DNN_ME, {"embedding_dim": 1, "singular_value_regularizer": 1.0}, "compares the directions of an embedding"),
        (DNN_ME, {"singular_value_regularizer": -1}, "singular_value_regularizer must be a number of 0 or more"),
        (DNN_ME, {"space_similarity_regularizer": "1e-4"}, "must be a number, got the text '1e-4'"),
        (DNN_ME, {"space_similarity_regulariser": 1.0}, "did you mean 'space_similarity_regularizer'"),
    ],
)
def test_meaningless_penalties_are_refused_with_a_reason(plain_map, model_class, settings, message):
    with pytest.raises(UsageError) as caught:
        build(model_class, plain_map, **{"num_sets": 3, **settings})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_fields_of_unequal_dimension_are_refused():
    feature_map = make_feature_map({"user": categorical(11, embedding_dim=6), "item": categorical(7)})
    with pytest.raises(UsageError, match=r"space_similarity_regularizer needs fields of one dimension, got \[4, 6\]"):
        build(DNN_ME, feature_map, 2, space_similarity_regularizer=1.0)


def test_a_shared_interaction_can_be_restricted(plain_map):
    model = build(DCNv2_ME, plain_map, shared_interaction=True, restricted_interaction_regularizer=1.0).train()
    layers = model.interaction[0].network.crossnet.cross_layers
    cross = [[W.double().numpy() for W in layer.weight.detach()] for layer in layers]
    got = model(make_batch(plain_map))["penalties"]["restricted_interaction"]
    assert got.item() == pytest.approx(plain_restriction(cross), rel=1e-4)
