"""Rank along the depth, against numpy's singular values of representations that plain formulas compute."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.families import build
from helpers.feature_maps import categorical, make_feature_map
from torch import nn

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME, Mixed_ME, MultiEmbeddingOf, UsageError, xDeepFM_ME
from fuxictr_me.representations import rank_along_depth
from fuxictr_me.representations.rank_along_depth import ALL, measure_rank_along_depth

ROWS = 70  # of three batches of 32: the third is cut


@pytest.fixture
def feature_map():
    return make_feature_map({"user": categorical(11), "item": categorical(7), "place": categorical(5)})


@pytest.fixture
def batches(feature_map):
    return [make_batch(feature_map, seed=seed) for seed in range(3)]


def numbers_of(x):
    """Return information abundance and effective rank of the rows of x, by numpy."""
    sigma = np.linalg.svd(np.asarray(x, dtype=np.float64), compute_uv=False)
    p = sigma[sigma > 0] / sigma.sum()
    return sigma.sum() / sigma[0], np.exp(-(p * np.log(p)).sum())


def assert_measured(measured, name, sets):
    """Compare a representation with its sets (rows, width); the key ALL is what all sets have in common."""
    (found,) = (one for one in measured["representations"] if one["name"] == name)
    expected = {m: x for m, x in sets.items() if x.shape[1] > 1}
    if ALL not in sets:
        expected[ALL] = np.hstack(list(sets.values()))
    assert [part["set"] for part in found["parts"]] == list(expected)
    for part in found["parts"]:
        x = expected[part["set"]]
        assert (part["width"], part["ceiling"]) == (x.shape[1], min(x.shape))
        ia, rank = numbers_of(x)
        assert part["ia"] == pytest.approx(ia, rel=1e-4) and part["ia_ratio"] == pytest.approx(ia / min(x.shape), 1e-4)
        assert part["effective_rank"] == pytest.approx(rank, rel=1e-4)
        assert part["effective_rank_ratio"] == pytest.approx(rank / min(x.shape), rel=1e-4)


def embeddings_of(model, batches):
    """Return set -> (ROWS, ΣK), looked up in the tables."""
    tables = model.embedding_layer.tables()
    ids = {field: torch.cat([batch[field] for batch in batches])[:ROWS] for field in tables}
    return {
        m: np.hstack([sets[m].detach().numpy()[ids[field]] for field, sets in tables.items()])
        for m in range(model.num_sets)
    }


def weights_of(model, name):
    """Return weight and bias of a ``SetLinear`` for all sets."""
    layer = model.get_submodule(name)
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def linear(model, name, sets):
    W, b = weights_of(model, name)
    return {m: x @ W[i].T + b[i] for i, (m, x) in enumerate(sets.items())}


def relu(sets):
    return {m: np.maximum(x, 0) for m, x in sets.items()}


def mean(sets):
    return {ALL: sum(sets.values()) / len(sets)}


def names_of(measured):
    return [one["name"] for one in measured["representations"]]


SETS = pytest.mark.parametrize("num_sets", [1, 3])


@SETS
def test_dcnv2(feature_map, batches, num_sets):
    model = build(DCNv2_ME, feature_map, num_sets, dropout=0.5, batch_norm=False)
    measured = measure_rank_along_depth(model, batches, ROWS)
    x = x0 = embeddings_of(model, batches)
    assert_measured(measured, "embeddings", x0)
    for layer in (1, 2):
        y = linear(model, f"interaction.0.crossnet.cross_layers.{layer - 1}", x)
        x = {m: x0[m] * y[m] + x[m] for m in x}
        assert_measured(measured, f"interaction layer {layer}", x)
    h = relu(linear(model, "projection.0.branches.0.0", x))
    assert_measured(measured, "projection layer 1", h)
    assert_measured(measured, "aggregated", mean(h))
    assert_measured(measured, "head layer 1", relu(linear(model, "head.towers.0.0", mean(h))))
    order = ["embeddings", *(f"interaction layer {n}" for n in (1, 2)), "projection layer 1"]
    order += ["aggregated", "head layer 1"]  # the logit has a width of 1
    assert names_of(measured) == order and measured["rows"] == ROWS and measured["skipped"] == []
    assert [(one["after"], one["name"]) for one in measured["representations"][1:]] == list(pairwise(order))


@SETS
def test_dnn_with_a_projection_of_rank_two(feature_map, batches, num_sets):
    model = build(DNN_ME, feature_map, num_sets, batch_norm=False, hidden_activations=None)
    W = model.projection[0].branches[0][0]
    with torch.no_grad():
        W.weight.copy_(torch.randn(num_sets, 6, 2) @ torch.randn(num_sets, 2, 12))
        W.bias.zero_()
    measured = measure_rank_along_depth(model, batches, ROWS)
    e = embeddings_of(model, batches)
    h = linear(model, "projection.0.branches.0.0", e)
    assert_measured(measured, "embeddings", e)
    assert_measured(measured, "projection layer 1", h)
    projection = measured["representations"][1]
    assert all(part["effective_rank"] <= 2.001 for part in projection["parts"] if part["set"] != ALL)
    assert projection["parts"][-1]["effective_rank"] <= 2 * num_sets + 0.001
    assert_measured(measured, "head layer 1", linear(model, "head.towers.0.0", mean(h)))


@SETS
def test_finalmlp_has_two_branches(feature_map, batches, num_sets):
    model = build(FinalMLP_ME, feature_map, num_sets, batch_norm=False)
    measured = measure_rank_along_depth(model, batches, ROWS)
    e = embeddings_of(model, batches)
    ends = []
    for b in (0, 1):
        h, after = e, "embeddings"
        for layer in (1, 2):
            h = relu(linear(model, f"projection.0.branches.{b}.{2 * layer - 2}", h))
            name = f"projection layer {layer} (branch {b + 1})"
            assert_measured(measured, name, h)
            assert next(one["after"] for one in measured["representations"] if one["name"] == name) == after
            after = name
        ends.append(h)
    joined = {m: np.hstack([of_branch[m] for of_branch in ends]) for m in e}
    assert_measured(measured, "aggregated", mean(joined))


def test_an_ensemble_has_logits_of_each_set(feature_map, batches):
    model = build(DNN_ME, feature_map, 3, batch_norm=False, aggregation="ensemble")
    measured = measure_rank_along_depth(model, batches, ROWS)
    h = relu(linear(model, "projection.0.branches.0.0", embeddings_of(model, batches)))
    head = relu(linear(model, "head.towers.0.0", h))
    assert_measured(measured, "head layer 1", head)
    assert_measured(measured, "logits", linear(model, "head.join.fc", head))


def test_sets_that_share_their_interaction_and_sets_of_unequal_dimension(feature_map, batches):
    model = build(DCNv2_ME, feature_map, 3, batch_norm=False, shared_interaction=True)
    measured = measure_rank_along_depth(model, batches, ROWS)
    x = x0 = embeddings_of(model, batches)
    for layer in (0, 1):
        W, b = weights_of(model, f"interaction.0.network.crossnet.cross_layers.{layer}")
        x = {m: x0[m] * (x[m] @ W[0].T + b[0]) + x[m] for m in x}
    assert_measured(measured, "interaction layer 2", x)
    unequal = build(DNN_ME, feature_map, None, batch_norm=False, embedding_dim=[4, 2, 2])
    measured = measure_rank_along_depth(unequal, batches, ROWS)
    assert_measured(measured, "embeddings", embeddings_of(unequal, batches))
    assert [part["width"] for part in measured["representations"][1]["parts"]] == [6, 6, 6, 18]


@pytest.mark.parametrize(
    ("model_class", "options", "name"),
    [
        (xDeepFM_ME, {}, "interaction (branch 1)"),
        (DCNv2_ME, {"use_low_rank_mixture": True, "low_rank": 3}, "interaction layer 2"),
        (
            DCNv2_ME,
            {"model_structure": "parallel", "parallel_dnn_hidden_units": [6, 5]},
            "projection layer 1 (branch 2)",
        ),
        (DNN_ME, {"nonlinear_projection": False}, "head layer 1"),
        (Mixed_ME, {"interactions": ["DCNv2", "DNN", "FinalMLP"], "hidden_units": [6, 5]}, "interaction"),
    ],
)
def test_other_models_and_options_have_representations(feature_map, batches, model_class, options, name):
    measured = measure_rank_along_depth(build(model_class, feature_map, 3, **options), batches, ROWS)
    assert measured["skipped"] == [] and measured["rows"] == ROWS
    assert names_of(measured)[0] == "embeddings" and name in names_of(measured) and "aggregated" in names_of(measured)


# ------------------------------------------------------------------------------------------ models of FuxiCTR


class Theirs(BaseModel):
    """A model as FuxiCTR's users write them."""

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, model_id="Theirs", model_root="unused", metrics=["AUC"], verbose=0, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 4, "partial(nn.init.normal_, std=0.5)")
        self.lr = LogisticRegression(feature_map)
        self.mlp = MLP_Block(12, hidden_units=[6, 5], hidden_activations="ReLU", dropout_rates=0.3)
        self.fc = nn.Linear(5, 1)
        self.compile("adam", "binary_crossentropy", 1e-2)
        self.reset_parameters()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        h = self.mlp(self.embedding_layer(X).flatten(1))
        return {"y_pred": (self.fc(h) + self.lr(X)).sigmoid()}


def plain_theirs(model, second, batches):
    """Return embeddings, first linear layer, first hidden layer, second linear layer."""
    tables = model.embedding_layer.embedding_layer.embedding_layers
    ids = {field: torch.cat([batch[field] for batch in batches])[:ROWS] for field in tables}
    with torch.no_grad():
        e = torch.cat([table.weight[ids[field]] for field, table in tables.items()], dim=1)
        first = model.mlp.mlp[0]
        z = e @ first.weight.T + first.bias
        return [x.numpy() for x in (e, z, z.relu(), z.relu() @ second.weight.T + second.bias)]


def test_a_model_of_fuxictr(feature_map, batches):
    model = Theirs(feature_map)
    measured = measure_rank_along_depth(model, batches, ROWS)
    assert names_of(measured) == ["embedding_layer", "mlp.mlp.0", "mlp.mlp.1", "mlp.mlp.3", "mlp.mlp.4"]
    assert [one["after"] for one in measured["representations"]] == [None, *names_of(measured)[:-1]]
    for name, x in zip(names_of(measured), plain_theirs(model, model.mlp.mlp[3], batches), strict=False):
        assert_measured(measured, name, {0: x})


def test_a_model_of_fuxictr_with_sets(feature_map, batches):
    model = MultiEmbeddingOf(Theirs, num_sets=2, merge="mlp.mlp.3")(feature_map)
    measured = measure_rank_along_depth(model, batches, ROWS)
    second = model.mlp.mlp[3]  # of the head, which the sets share
    own = [plain_theirs(one, second, batches) for one in (model, model.sets["1"])]
    assert_measured(measured, "embedding_layer", {m: x[0] for m, x in enumerate(own)})
    assert_measured(measured, "mlp.mlp.0", {m: x[1] for m, x in enumerate(own)})
    assert_measured(measured, "mlp.mlp.1", {m: x[2] for m, x in enumerate(own)})
    merged = sum(x[2] for x in own) / 2
    assert_measured(measured, "mean before mlp.mlp.3", {ALL: merged})
    assert_measured(
        measured, "mlp.mlp.3", {ALL: merged @ second.weight.detach().numpy().T + second.bias.detach().numpy()}
    )


def test_sets_that_run_at_once_are_measured_one_after_the_other(feature_map, batches):
    model = MultiEmbeddingOf(Theirs, num_sets=3, merge="mlp.mlp.3", batched=True)(feature_map)
    assert model.batched
    measured = measure_rank_along_depth(model, batches, ROWS)
    assert [part["set"] for part in measured["representations"][0]["parts"]] == [0, 1, 2, ALL] and model.batched


# --------------------------------------------------------------------------------------------- nothing changes


@pytest.mark.parametrize("make", [lambda feature_map: build(DCNv2_ME, feature_map, 2, dropout=0.5), Theirs])
def test_the_model_and_all_random_states_are_as_before(feature_map, batches, make):
    model = make(feature_map)
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.Dropout)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = measure_rank_along_depth(model, shuffled(batches), ROWS)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert (
        model.training and not frozen.training and model.head_or_fc.training if hasattr(model, "head_or_fc") else True
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert measure_rank_along_depth(model.eval(), batches, ROWS) == first  # dropout and batch norm in evaluation mode


def shuffled(batches):
    """Yield the batches, and draw random numbers as a loader with workers does."""
    for batch in batches:
        torch.rand(1), random.random(), np.random.rand()
        yield batch


def test_what_cannot_be_measured_is_named(feature_map, batches, monkeypatch):
    model = build(DNN_ME, feature_map, 3, batch_norm=False)
    monkeypatch.setattr(rank_along_depth, "WIDEST", 12)
    measured = measure_rank_along_depth(model, batches, ROWS)
    embeddings, projection = measured["representations"][:2]
    assert [part["set"] for part in embeddings["parts"]] == [0, 1, 2]  # 36 columns side by side are too many
    assert [part["set"] for part in projection["parts"]] == [0, 1, 2]
    monkeypatch.setattr(rank_along_depth, "WIDEST", 6)
    measured = measure_rank_along_depth(model, batches, ROWS)
    assert measured["skipped"] == [{"name": "embeddings", "why": "it is wider than 6 columns"}]
    with torch.no_grad():
        model.head.towers[0][0].bias[:] = torch.nan
    assert {"name": "head layer 1", "why": "it holds NaN or infinity"} in measure_rank_along_depth(model, batches)[
        "skipped"
    ]
    with pytest.raises(UsageError, match="no row of data"):
        measure_rank_along_depth(model, [])


class Uneven(Theirs):
    """Its second layer is not called for every batch, and one module is called twice."""

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        e = self.embedding_layer(X, flatten_emb=True)
        e = e + self.mlp.mlp[1](e) + self.mlp.mlp[1](-e)
        self.calls = getattr(self, "calls", 0) + 1
        h = self.mlp(e) if self.calls == 1 else e[:, :5]
        return {"y_pred": self.fc(h).sigmoid()}


def test_calls_that_differ_between_batches(feature_map, batches):
    measured = measure_rank_along_depth(Uneven(feature_map), batches, ROWS)
    assert names_of(measured)[:3] == ["embedding_layer", "mlp.mlp.1", "mlp.mlp.1 (call 2)"]
    assert {"name": "mlp.mlp.0", "why": "it does not exist in all batches"} in measured["skipped"]
