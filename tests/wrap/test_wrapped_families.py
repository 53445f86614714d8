"""The six families, wrapped by ``MultiEmbeddingOf``, equal the hand-written models, weight for weight."""

import os
from dataclasses import dataclass, field

import pytest
import torch
from helpers import family_backbones
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.fuxictr_zoo import zoo_class
from helpers.models import gradients

import fuxictr_me
from fuxictr_me import MultiEmbeddingOf

COMMON = {"embedding_dim": 4, "learning_rate": 0.05, "embedding_regularizer": 0.001, "net_regularizer": 0.002}
COMMON |= {**MODEL, "model_root": "unused", "metrics": ["AUC"]}
LAYERS = {"net_dropout": 0.2, "batch_norm": True}
HIDDEN = {"hidden_units": [8, 6], **LAYERS}
CROSS = {"num_cross_layers": 3, "stacked_dnn_hidden_units": [8, 6], "parallel_dnn_hidden_units": [7, 5], **LAYERS}
STREAMS = {f"mlp{i}_{key}": value for i in (1, 2) for key, value in (("dropout", 0.2), ("batch_norm", True))}
STREAMS |= {"mlp1_hidden_units": [9, 6], "mlp2_hidden_units": [8, 6], "num_heads": 3}


@dataclass
class Family:
    """A family: names of its parts in the wrapped and in the hand-written model, and where its sets are merged.

    Attributes:
        name: of the backbone, and of FuxiCTR's entry.
        options: of both models.
        set_parts, head: modules or parameters of the wrapped model -> of the hand-written one, without embeddings.
        points: the merge points.
        other_points: points with the same parts before and behind them, but before the activation.
        own_options: options of the hand-written model only.
    """

    name: str
    options: dict
    set_parts: dict
    head: dict
    points: list
    other_points: list = ()
    own_options: dict = field(default_factory=dict)

    def find_counterpart(self, name):
        """Return for a name in the wrapped model's state dict its set and its name in the hand-written model."""
        m = 0
        if name.startswith("sets."):
            _, m, name = name.split(".", 2)
        parts = {"embedding_layer": f"embedding_layer.sets.{m}", **self.set_parts} | (self.head if m == 0 else {})
        [part] = (part for part in parts if f"{name}.".startswith(f"{part}."))
        return int(m), parts[part] + name.removeprefix(part)


def name_hidden_layer(mlp, layer, handwritten, at=0):
    """Return the names of Linear and BatchNorm1d of a hidden layer, the first two of its four modules."""
    return {f"{mlp}.mlp.{layer}": f"{handwritten}.{at}", f"{mlp}.mlp.{layer + 1}": f"{handwritten}.{at + 1}.module"}


def name_first_layer(mlp, branch=0):
    return name_hidden_layer(mlp, 0, f"projection.0.branches.{branch}")


def name_second_layer(mlp, branch=0):
    return name_hidden_layer(mlp, 4, f"head.towers.{branch}")


def name_stream(mlp, branch):
    return name_first_layer(mlp, branch) | name_hidden_layer(mlp, 4, f"projection.0.branches.{branch}", at=4)


def make_dcnv2(structure, points, other_points=()):
    set_parts, head = {"crossnet": "interaction.0.crossnet"}, {"fc": "head.join.fc"}
    for branch, name in enumerate(("stacked", "parallel")):
        if name in structure:
            set_parts |= name_first_layer(f"{name}_dnn", branch)
            head |= name_second_layer(f"{name}_dnn", branch)
    return Family("DCNv2", {"model_structure": structure, **CROSS}, set_parts, head, points, other_points)


FIELD_WEIGHTS = {"field_weights": "interaction.0.products.weight", "norm": "interaction.0.norm.module"}
CIN = {f"cin.cin_layer.layer_{i + 1}": f"interaction.0.cin.layers.{i}" for i in range(2)}
LOGITS = {"lr_layer": "lr_layer", "cin.fc": "head.join.fc.0", "dnn.mlp.8": "head.join.fc.1"}
FUSION = {"w_x": "w_x", "w_y": "w_y", "w_xy": "bilinear.weight"}
FUSION = {f"fusion_module.{wrapped}": f"head.join.{handwritten}" for wrapped, handwritten in FUSION.items()}
DNN_HEAD = name_second_layer("dnn") | {"dnn.mlp.8": "head.join.fc"}

FAMILIES = {
    "DNN": Family(
        "DNN",
        HIDDEN,
        name_first_layer("mlp"),
        name_second_layer("mlp") | {"mlp.mlp.8": "head.join.fc"},
        [">mlp.mlp.4"],
        ["mlp.mlp.1>"],
    ),
    "PNN": Family(
        "PNN", HIDDEN, name_first_layer("dnn"), DNN_HEAD, [">dnn.mlp.4"], ["dnn.mlp.1>"], {"concat_embeddings": True}
    ),
    "NFwFM": Family("NFwFM", HIDDEN, FIELD_WEIGHTS | name_first_layer("dnn"), DNN_HEAD, [">dnn.mlp.4"], ["dnn.mlp.1>"]),
    "xDeepFM": Family(
        "xDeepFM",
        {"dnn_hidden_units": [8, 6], "cin_hidden_units": [3, 2], **LAYERS},
        CIN | name_first_layer("dnn", 1),
        LOGITS | name_second_layer("dnn", 1),
        [">cin.fc", ">dnn.mlp.4"],
        [">cin.fc", "dnn.mlp.1>"],
        {"cin_activation": None, "use_linear_term": True},
    ),
    "DCNv2 stacked": make_dcnv2("stacked", [">stacked_dnn.mlp.4"], ["stacked_dnn.mlp.1>"]),
    "DCNv2 parallel": make_dcnv2(
        "parallel", ["crossnet>", ">parallel_dnn.mlp.4"], ["crossnet>", "parallel_dnn.mlp.1>"]
    ),
    "FinalMLP": Family(
        "FinalMLP",
        STREAMS,
        name_stream("mlp1", 0) | name_stream("mlp2", 1),
        FUSION,
        [">fusion_module"],
        ["mlp1.mlp.5>", "mlp2.mlp.5>"],
    ),
}
BEFORE_BATCH_NORM = Family(
    "DNN",
    HIDDEN,
    {"mlp.mlp.0": "projection.0.branches.0"},
    {
        "mlp.mlp.1": "head.towers.0.0.module",
        **name_hidden_layer("mlp", 4, "head.towers.0", at=3),
        "mlp.mlp.8": "head.join.fc",
    },
    ["mlp.mlp.0>"],
    own_options={"nonlinear_projection": False},
)
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
SETS = pytest.mark.parametrize(("num_sets", "batched"), [(2, False), (3, False), (3, True)])

ZOO_PATHS = {
    "DNN": "DNN/DNN_torch/src/DNN.py",
    "PNN": "PNN/src/PNN.py",
    "xDeepFM": "xDeepFM/src/xDeepFM.py",
    "DCNv2": "DCNv2/src/DCNv2.py",
    "FinalMLP": "FinalMLP/src/FinalMLP.py",
}
ZOO = {key: family for key, family in FAMILIES.items() if family.name in ZOO_PATHS}
ZOO["DCNv2 stacked_parallel"] = make_dcnv2("stacked_parallel", [">stacked_dnn.mlp.4", ">parallel_dnn.mlp.4"])
ZOO["DCNv2 crossnet_only"] = make_dcnv2("crossnet_only", [">fc"])
EVERY_ENTRY = pytest.mark.parametrize("family", ZOO.values(), ids=ZOO)
WITH_CHECKOUT = pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")


@pytest.fixture
def feature_map():
    features = {
        "user": categorical(11),
        "item": categorical(7),
        "clicks": sequence(7, 3, share_embedding="item"),
        "price": {"source": "", "type": "numeric"},
    }
    return make_feature_map(features, embedding_dim=4)


def build_pair(family, Backbone, feature_map, num_sets, **more):
    """Build a wrapped model with weights and statistics that are not small, and the hand-written one with the same."""
    wrapped = MultiEmbeddingOf(Backbone)(feature_map, num_sets=num_sets, **family.options, **COMMON, **more)
    fill_randomly(wrapped)
    model_class = getattr(fuxictr_me, f"{family.name}_ME")
    handwritten = model_class(feature_map, num_sets=num_sets, **family.options, **family.own_options, **COMMON)
    weights = {name: torch.full_like(value, -1000) for name, value in handwritten.state_dict().items()}
    for name, value in learned_weights(wrapped).items():
        m, own = family.find_counterpart(name)
        slice_set(weights[own], m, value.shape).copy_(value)
    assert all((value > -1000).all() for value in weights.values())
    handwritten.load_state_dict(weights)
    return wrapped, handwritten


@torch.no_grad()
def fill_randomly(model):
    for p in model.parameters():
        if p.requires_grad:
            p.normal_(std=0.4)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.2, 0.8)
        elif isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0


def learned_weights(model):
    """Return the state dict without constants that FuxiCTR keeps as frozen parameters (PNN's mask)."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def slice_set(handwritten, m, shape):
    """Return set m of a tensor of the hand-written model, which holds all sets in sequence, or only the head."""
    parts = handwritten.view(-1, *shape)
    return parts[m if len(parts) > 1 else 0]


def assert_same_tensors(family, handwritten, wrapped, **tolerance):
    """Compare every tensor of the wrapped model with its counterpart in the hand-written model."""
    for name, value in wrapped.items():
        m, own = family.find_counterpart(name)
        torch.testing.assert_close(
            slice_set(handwritten[own], m, value.shape),
            value,
            **tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def assert_same_predictions(family, wrapped, handwritten, batch, tolerance_of_predictions, gradient_tolerance):
    """Compare predictions in evaluation and in training, the loss with regularisers, and every gradient."""
    for training in (False, True):
        returned = [model.train(training)(batch) for model in (wrapped, handwritten)]
        torch.testing.assert_close(*(r["y_pred"] for r in returned), **tolerance_of_predictions)
        assert returned[0]["y_pred"].std() > 0.01
        losses = [m.compute_loss(r, m.get_labels(batch)) for m, r in zip((wrapped, handwritten), returned, strict=True)]
        torch.testing.assert_close(*losses, **tolerance_of_predictions)
    for loss in losses:
        loss.backward()
    found = {name: p.grad for name, p in wrapped.named_parameters() if p.requires_grad}
    assert_same_tensors(family, gradients(handwritten), found, **gradient_tolerance)


def assert_same_steps(family, wrapped, handwritten, batch, **tolerance):
    """Compare weights and statistics after two steps of Adam, with gradients clipped by their norm over all sets."""
    before = {name: value.clone() for name, value in learned_weights(wrapped).items()}
    for model in (wrapped, handwritten):
        model._max_gradient_norm = 0.1
    for _ in range(2):
        torch.testing.assert_close(wrapped.train_step(batch), handwritten.train_step(batch), **tolerance)
    clipped = sum(p.grad.square().sum().item() for p in wrapped.parameters() if p.requires_grad)
    assert clipped == pytest.approx(0.1**2, rel=1e-3)
    after = learned_weights(wrapped)
    assert not [name for name, value in after.items() if torch.equal(value, before[name])]
    assert_same_tensors(family, handwritten.state_dict(), after, **tolerance)


def assert_equal_models(family, Backbone, feature_map, num_sets, batched, **more):
    wrapped, handwritten = build_pair(family, Backbone, feature_map, num_sets, batched=batched, **more)
    assert wrapped.batched == batched
    assert list(map(str, wrapped.merge_points)) == family.points
    trained = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert trained == wrapped.num_parameters() == handwritten.num_parameters()
    tolerance, batch = {"rtol": 0, "atol": 1e-10}, make_batch(feature_map)
    assert_same_predictions(family, wrapped, handwritten, batch, tolerance, tolerance)
    assert_same_steps(family, wrapped, handwritten, batch, **tolerance)


@EVERY_FAMILY
@SETS
def test_a_wrapped_family_equals_the_hand_written_model(exact, feature_map, family, num_sets, batched):
    assert_equal_models(family, getattr(family_backbones, family.name), feature_map, num_sets, batched)


@SETS
def test_merging_before_batch_norm_equals_the_model_without_nonlinear_projection(exact, feature_map, num_sets, batched):
    family = BEFORE_BATCH_NORM
    assert_equal_models(family, family_backbones.DNN, feature_map, num_sets, batched, merge=family.points)


@EVERY_FAMILY
def test_merging_before_the_activation_changes_predictions(exact, feature_map, family):
    """All weights are the same, but the predictions are not."""
    Backbone = getattr(family_backbones, family.name)
    wrapped, handwritten = build_pair(family, Backbone, feature_map, 2, merge=family.other_points)
    batch = make_batch(feature_map)
    for training in (False, True):
        returned = [model.train(training)(batch)["y_pred"] for model in (wrapped, handwritten)]
        assert (returned[0] - returned[1]).abs().max() > 1e-2


def find_entry(family):
    """Return FuxiCTR's class and its options: its FinalMLP would select features by default."""
    more = {"use_fs": False} if family.name == "FinalMLP" else {}
    return zoo_class(ZOO_PATHS[family.name], family.name), more


@WITH_CHECKOUT
@EVERY_ENTRY
@SETS
def test_a_wrapped_fuxictr_model_equals_the_hand_written_model(exact, feature_map, family, num_sets, batched):
    Entry, more = find_entry(family)
    assert_equal_models(family, Entry, feature_map, num_sets, batched, **more)


@WITH_CHECKOUT
@EVERY_ENTRY
@pytest.mark.parametrize("num_sets", [2, 3])
def test_a_wrapped_fuxictr_model_equals_the_hand_written_model_in_float32(fixed_dropout, feature_map, family, num_sets):
    Entry, more = find_entry(family)
    wrapped, handwritten = build_pair(family, Entry, feature_map, num_sets, **more)
    tolerance_of_predictions, gradient_tolerance = {"rtol": 0, "atol": 1e-6}, {"rtol": 1e-4, "atol": 1e-6}
    assert_same_predictions(
        family, wrapped, handwritten, make_batch(feature_map), tolerance_of_predictions, gradient_tolerance
    )
