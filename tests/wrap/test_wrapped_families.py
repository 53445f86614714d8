"""The proof of ``MultiEmbeddingOf``: the six families wrapped are our hand-written models, weight for weight."""

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
    """A family: FuxiCTR's names of its parts beside ours, and where its sets are merged.

    Attributes:
        name (str): of the backbone, and of FuxiCTR's entry.
        options (dict): of both models.
        of_a_set, head (dict): modules or parameters of FuxiCTR's model -> of ours; embeddings go without saying.
        points (list of str): the merge points.
        elsewhere (list of str): points that part sets and head alike, but lie before the activation.
        of_ours (dict): options of our model alone.
    """

    name: str
    options: dict
    of_a_set: dict
    head: dict
    points: list
    elsewhere: list = ()
    of_ours: dict = field(default_factory=dict)

    def our_name(self, name):
        """A name in the wrapped model's state dict -> (m, the name in ours)."""
        m = 0
        if name.startswith("sets."):
            _, m, name = name.split(".", 2)
        parts = {"embedding_layer": f"embedding_layer.sets.{m}", **self.of_a_set} | (self.head if m == 0 else {})
        [part] = (part for part in parts if f"{name}.".startswith(f"{part}."))
        return int(m), parts[part] + name.removeprefix(part)


def hidden(mlp, layer, ours, at=0):
    """Linear and BatchNorm1d of a hidden layer, the first two of its four modules."""
    return {f"{mlp}.mlp.{layer}": f"{ours}.{at}", f"{mlp}.mlp.{layer + 1}": f"{ours}.{at + 1}.module"}


def first(mlp, branch=0):
    return hidden(mlp, 0, f"projection.0.branches.{branch}")


def second(mlp, branch=0):
    return hidden(mlp, 4, f"head.towers.{branch}")


def of_stream(mlp, branch):
    return first(mlp, branch) | hidden(mlp, 4, f"projection.0.branches.{branch}", at=4)


def dcnv2(structure, points, elsewhere=()):
    of_a_set, head = {"crossnet": "interaction.0.crossnet"}, {"fc": "head.join.fc"}
    for branch, name in enumerate(("stacked", "parallel")):
        if name in structure:
            of_a_set |= first(f"{name}_dnn", branch)
            head |= second(f"{name}_dnn", branch)
    return Family("DCNv2", {"model_structure": structure, **CROSS}, of_a_set, head, points, elsewhere)


FIELD_WEIGHTS = {"field_weights": "interaction.0.products.weight", "norm": "interaction.0.norm.module"}
CIN = {f"cin.cin_layer.layer_{i + 1}": f"interaction.0.cin.layers.{i}" for i in range(2)}
LOGITS = {"lr_layer": "lr_layer", "cin.fc": "head.join.fc.0", "dnn.mlp.8": "head.join.fc.1"}
FUSION = {"w_x": "w_x", "w_y": "w_y", "w_xy": "bilinear.weight"}
FUSION = {f"fusion_module.{theirs}": f"head.join.{ours}" for theirs, ours in FUSION.items()}
DNN_HEAD = second("dnn") | {"dnn.mlp.8": "head.join.fc"}

FAMILIES = {
    "DNN": Family(
        "DNN", HIDDEN, first("mlp"), second("mlp") | {"mlp.mlp.8": "head.join.fc"}, [">mlp.mlp.4"], ["mlp.mlp.1>"]
    ),
    "PNN": Family("PNN", HIDDEN, first("dnn"), DNN_HEAD, [">dnn.mlp.4"], ["dnn.mlp.1>"], {"concat_embeddings": True}),
    "NFwFM": Family("NFwFM", HIDDEN, FIELD_WEIGHTS | first("dnn"), DNN_HEAD, [">dnn.mlp.4"], ["dnn.mlp.1>"]),
    "xDeepFM": Family(
        "xDeepFM",
        {"dnn_hidden_units": [8, 6], "cin_hidden_units": [3, 2], **LAYERS},
        CIN | first("dnn", 1),
        LOGITS | second("dnn", 1),
        [">cin.fc", ">dnn.mlp.4"],
        [">cin.fc", "dnn.mlp.1>"],
        {"cin_activation": None, "use_linear_term": True},
    ),
    "DCNv2 stacked": dcnv2("stacked", [">stacked_dnn.mlp.4"], ["stacked_dnn.mlp.1>"]),
    "DCNv2 parallel": dcnv2("parallel", ["crossnet>", ">parallel_dnn.mlp.4"], ["crossnet>", "parallel_dnn.mlp.1>"]),
    "FinalMLP": Family(
        "FinalMLP",
        STREAMS,
        of_stream("mlp1", 0) | of_stream("mlp2", 1),
        FUSION,
        [">fusion_module"],
        ["mlp1.mlp.5>", "mlp2.mlp.5>"],
    ),
}
BEFORE_BATCH_NORM = Family(
    "DNN",
    HIDDEN,
    {"mlp.mlp.0": "projection.0.branches.0"},
    {"mlp.mlp.1": "head.towers.0.0.module", **hidden("mlp", 4, "head.towers.0", at=3), "mlp.mlp.8": "head.join.fc"},
    ["mlp.mlp.0>"],
    of_ours={"nonlinear_projection": False},
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
ZOO["DCNv2 stacked_parallel"] = dcnv2("stacked_parallel", [">stacked_dnn.mlp.4", ">parallel_dnn.mlp.4"])
ZOO["DCNv2 crossnet_only"] = dcnv2("crossnet_only", [">fc"])
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


def two_models(family, Backbone, feature_map, num_sets, **more):
    """The wrapped model with weights and statistics large enough to see, and ours with the same."""
    theirs = MultiEmbeddingOf(Backbone)(feature_map, num_sets=num_sets, **family.options, **COMMON, **more)
    fill(theirs)
    our_class = getattr(fuxictr_me, f"{family.name}_ME")
    ours = our_class(feature_map, num_sets=num_sets, **family.options, **family.of_ours, **COMMON)
    weights = {name: torch.full_like(value, -1000) for name, value in ours.state_dict().items()}
    for name, value in learned(theirs).items():
        m, own = family.our_name(name)
        part_of(weights[own], m, value.shape).copy_(value)
    assert all((value > -1000).all() for value in weights.values())
    ours.load_state_dict(weights)
    return theirs, ours


@torch.no_grad()
def fill(model):
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


def learned(model):
    """The state dict without constants that FuxiCTR keeps as frozen parameters (PNN's mask)."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def part_of(ours, m, shape):
    """Of one of our tensors, which hold all sets one after the other, or one set's, or the head's: that of set m."""
    parts = ours.view(-1, *shape)
    return parts[m if len(parts) > 1 else 0]


def assert_same(family, ours, theirs, **tolerance):
    """Dicts by names: what is under a name of theirs is in ours."""
    for name, value in theirs.items():
        m, own = family.our_name(name)
        torch.testing.assert_close(
            part_of(ours[own], m, value.shape), value, **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_same_answers(family, theirs, ours, batch, answers, of_gradients):
    """Predictions in evaluation and in training, loss with regularisers, and every gradient."""
    for training in (False, True):
        returned = [model.train(training)(batch) for model in (theirs, ours)]
        torch.testing.assert_close(*(r["y_pred"] for r in returned), **answers)
        assert returned[0]["y_pred"].std() > 0.01
        losses = [m.compute_loss(r, m.get_labels(batch)) for m, r in zip((theirs, ours), returned, strict=True)]
        torch.testing.assert_close(*losses, **answers)
    for loss in losses:
        loss.backward()
    found = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    assert_same(family, gradients(ours), found, **of_gradients)


def assert_same_steps(family, theirs, ours, batch, **tolerance):
    """Two steps of Adam, gradients clipped by their norm over all sets; then all weights and running statistics."""
    before = {name: value.clone() for name, value in learned(theirs).items()}
    for model in (theirs, ours):
        model._max_gradient_norm = 0.1
    for _ in range(2):
        torch.testing.assert_close(theirs.train_step(batch), ours.train_step(batch), **tolerance)
    clipped = sum(p.grad.square().sum().item() for p in theirs.parameters() if p.requires_grad)
    assert clipped == pytest.approx(0.1**2, rel=1e-3)
    after = learned(theirs)
    assert not [name for name, value in after.items() if torch.equal(value, before[name])]
    assert_same(family, ours.state_dict(), after, **tolerance)


def assert_equal(family, Backbone, feature_map, num_sets, batched, **more):
    theirs, ours = two_models(family, Backbone, feature_map, num_sets, batched=batched, **more)
    assert theirs.batched == batched
    assert list(map(str, theirs.merge_points)) == family.points
    trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert trained == theirs.num_parameters() == ours.num_parameters()
    tolerance, batch = {"rtol": 0, "atol": 1e-10}, make_batch(feature_map)
    assert_same_answers(family, theirs, ours, batch, tolerance, tolerance)
    assert_same_steps(family, theirs, ours, batch, **tolerance)


@EVERY_FAMILY
@SETS
def test_wrapped_is_hand_written(exact, feature_map, family, num_sets, batched):
    assert_equal(family, getattr(family_backbones, family.name), feature_map, num_sets, batched)


@SETS
def test_merged_before_batch_norm_it_is_our_model_that_merges_there(exact, feature_map, num_sets, batched):
    family = BEFORE_BATCH_NORM
    assert_equal(family, family_backbones.DNN, feature_map, num_sets, batched, merge=family.points)


@EVERY_FAMILY
def test_merged_before_the_activation_it_is_another_model(exact, feature_map, family):
    """All weights are the same, in sets as in the head."""
    Backbone = getattr(family_backbones, family.name)
    theirs, ours = two_models(family, Backbone, feature_map, 2, merge=family.elsewhere)
    batch = make_batch(feature_map)
    for training in (False, True):
        returned = [model.train(training)(batch)["y_pred"] for model in (theirs, ours)]
        assert (returned[0] - returned[1]).abs().max() > 1e-2


def entry(family):
    """FuxiCTR's own class, and what it must be told: its FinalMLP selects features otherwise."""
    more = {"use_fs": False} if family.name == "FinalMLP" else {}
    return zoo_class(ZOO_PATHS[family.name], family.name), more


@WITH_CHECKOUT
@EVERY_ENTRY
@SETS
def test_wrapped_entry_is_hand_written(exact, feature_map, family, num_sets, batched):
    Entry, more = entry(family)
    assert_equal(family, Entry, feature_map, num_sets, batched, **more)


@WITH_CHECKOUT
@EVERY_ENTRY
@pytest.mark.parametrize("num_sets", [2, 3])
def test_wrapped_entry_is_hand_written_in_float32(fixed_dropout, feature_map, family, num_sets):
    Entry, more = entry(family)
    theirs, ours = two_models(family, Entry, feature_map, num_sets, **more)
    answers, of_gradients = {"rtol": 0, "atol": 1e-6}, {"rtol": 1e-4, "atol": 1e-6}
    assert_same_answers(family, theirs, ours, make_batch(feature_map), answers, of_gradients)
