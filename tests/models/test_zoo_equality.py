"""With one set and equal weights, models equal those of FuxiCTR's zoo (needs a checkout, FUXICTR_SRC)."""

import os

import pytest
import torch
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.fuxictr_zoo import zoo_class
from helpers.models import gradients

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, xDeepFM_ME

pytestmark = pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")


def copy_linear(ours, theirs):
    ours.weight.data[0], ours.bias.data[0] = theirs.weight.data, theirs.bias.data


def copy_dnn(model, branch, mlp):
    """mlp: Linear, BatchNorm1d, ReLU, Linear, BatchNorm1d, ReLU (, Linear)."""
    for first, half in ((0, model.projection[0].branches[branch]), (3, model.head.towers[branch])):
        copy_linear(half[0], mlp[first])
        half[1].module.load_state_dict(mlp[first + 1].state_dict())


def copy_crossnet(ours, theirs):
    if hasattr(theirs, "cross_layers"):
        for mine, layer in zip(ours.cross_layers, theirs.cross_layers, strict=True):
            copy_linear(mine, layer)
        return
    for name in "UVC":
        for mine, layer in zip(getattr(ours, name), getattr(theirs, f"{name}_list"), strict=True):
            mine.data[0] = layer.data
    for mine, bias in zip(ours.bias, theirs.bias, strict=True):
        mine.data[0] = torch.randn_like(bias[:, 0])
        bias.data[:, 0] = mine.data[0]
    for expert, gate in enumerate(theirs.gating):
        ours.gating.data[0, expert] = gate.weight.data[0]


def assert_equal_steps(ours, theirs, feature_map):
    """Compare evaluation, then loss and gradients of one training step; further steps would amplify rounding."""
    batch = make_batch(feature_map)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(batch)["y_pred"], theirs(batch)["y_pred"], rtol=0, atol=1e-6)
    ours.train(), theirs.train()
    ours._max_gradient_norm = theirs._max_gradient_norm = 1e9  # their gradients are looked at after clipping
    ours.compute_loss(ours(batch), ours.get_labels(batch)).backward()
    mine = gradients(ours)
    losses = [model.train_step(batch).item() for model in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, parameter in theirs.embedding_layer.embedding_layer.named_parameters():
        own = mine[f"embedding_layer.sets.0.embedding_layer.{name}"]
        torch.testing.assert_close(own, parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.fixture
def feature_map():
    features = {"user": categorical(11), "clicks": sequence(7, 3), "price": {"source": "", "type": "numeric"}}
    return make_feature_map(features, embedding_dim=4)


COMMON = {"embedding_dim": 4, "batch_norm": True, "model_root": "unused", "metrics": ["AUC"], **MODEL}
COMMON |= {"embedding_regularizer": 0.01, "net_regularizer": 0.02}


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("structure", ["crossnet_only", "stacked", "parallel", "stacked_parallel"])
def test_dcnv2(feature_map, structure, mixture):
    options = {"model_structure": structure, "use_low_rank_mixture": mixture, "low_rank": 3, "num_experts": 2}
    options |= {"stacked_dnn_hidden_units": [6, 5], "parallel_dnn_hidden_units": [7, 3], "num_cross_layers": 3}
    theirs = zoo_class("DCNv2/src/DCNv2.py", "DCNv2")(feature_map, **COMMON, **options)
    ours = DCNv2_ME(feature_map, num_sets=1, **COMMON, **options)
    assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()
    ours.embedding_layer.load_set(0, theirs.state_dict())
    copy_crossnet(ours.interaction[0].crossnet, theirs.crossnet)
    branches = [name for name in ("stacked_dnn", "parallel_dnn") if hasattr(theirs, name)]
    for name in branches:
        copy_dnn(ours, 0 if name == "stacked_dnn" else 1, getattr(theirs, name).mlp)
    copy_linear(ours.head.join.fc, theirs.fc)
    assert_equal_steps(ours, theirs, feature_map)


def test_dnn(feature_map):
    theirs = zoo_class("DNN/DNN_torch/src/DNN.py", "DNN")(feature_map, hidden_units=[6, 5], **COMMON)
    ours = DNN_ME(feature_map, num_sets=1, hidden_units=[6, 5], **COMMON)
    ours.embedding_layer.load_set(0, theirs.state_dict())
    copy_dnn(ours, 0, theirs.mlp.mlp)
    copy_linear(ours.head.join.fc, theirs.mlp.mlp[6])
    assert_equal_steps(ours, theirs, feature_map)


def test_pnn(feature_map):
    theirs = zoo_class("PNN/src/PNN.py", "PNN")(feature_map, hidden_units=[6, 5], **COMMON)
    ours = PNN_ME(feature_map, num_sets=1, hidden_units=[6, 5], **COMMON)
    ours.embedding_layer.load_set(0, theirs.state_dict())
    copy_dnn(ours, 0, theirs.dnn.mlp)
    copy_linear(ours.head.join.fc, theirs.dnn.mlp[6])
    assert_equal_steps(ours, theirs, feature_map)


def test_xdeepfm(feature_map):
    options = {"dnn_hidden_units": [6, 5], "cin_hidden_units": [3, 2]}
    theirs = zoo_class("xDeepFM/src/xDeepFM.py", "xDeepFM")(feature_map, **COMMON, **options)
    ours = xDeepFM_ME(feature_map, num_sets=1, cin_activation=None, use_linear_term=True, **COMMON, **options)
    assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()
    ours.embedding_layer.load_set(0, theirs.state_dict())
    ours.lr_layer.load_state_dict(theirs.lr_layer.state_dict())
    for mine, conv in zip(ours.interaction[0].cin.layers, theirs.cin.cin_layer.values(), strict=True):
        mine.weight.data[0], mine.bias.data[0] = conv.weight.data.squeeze(-1), conv.bias.data
    copy_linear(ours.head.join.fc[0], theirs.cin.fc)
    copy_dnn(ours, 1, theirs.dnn.mlp)
    copy_linear(ours.head.join.fc[1], theirs.dnn.mlp[6])
    assert_equal_steps(ours, theirs, feature_map)


@pytest.mark.parametrize("num_heads", [1, 3])
@pytest.mark.parametrize(
    "selection",
    [
        {"use_fs": False},
        {"use_fs": True, "fs_hidden_units": [5]},
        {"use_fs": True, "fs_hidden_units": [5, 4], "fs1_context": ["user"]},
        {"use_fs": True, "fs1_context": ["clicks", "user"], "fs2_context": ["user"]},
    ],
)
def test_finalmlp(feature_map, num_heads, selection):
    options = {
        "mlp1_hidden_units": [7, 6],
        "mlp2_hidden_units": [5, 3],
        "mlp1_batch_norm": True,
        "num_heads": num_heads,
        **selection,
    }
    common = {key: value for key, value in COMMON.items() if key != "batch_norm"}
    theirs = zoo_class("FinalMLP/src/FinalMLP.py", "FinalMLP")(feature_map, **common, **options)
    ours = FinalMLP_ME(feature_map, num_sets=1, **common, **options)
    assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()
    weights = theirs.state_dict()
    own = ours.embedding_layer.sets[0].embedding_layer
    own.load_state_dict(
        {k.split("embedding_layer.", 2)[2]: v for k, v in weights.items() if k[:15] == "embedding_layer"}
    )
    for branch, mlp in enumerate((theirs.mlp1.mlp, theirs.mlp2.mlp)):
        copy_layers(ours.projection[0].branches[branch], mlp)
    if selection["use_fs"]:
        contexts = iter(ours.contexts)
        for i, gate in enumerate(ours.interaction[0].gates, start=1):
            copy_layers(gate.mlp, list(getattr(theirs.fs_module, f"fs{i}_gate").mlp)[:-1])
            if selection.get(f"fs{i}_context"):
                embedding = getattr(theirs.fs_module, f"fs{i}_ctx_emb")
                next(contexts).sets[0].load_state_dict(embedding.state_dict())
            else:
                theirs.fs_module.get_parameter(f"fs{i}_ctx_bias").data.normal_()
                gate.own_context.data[0] = theirs.fs_module.get_parameter(f"fs{i}_ctx_bias").data[0]
    copy_linear(ours.head.join.w_x, theirs.fusion_module.w_x)
    copy_linear(ours.head.join.w_y, theirs.fusion_module.w_y)
    bilinear = ours.head.join.bilinear.weight
    bilinear.data.copy_(theirs.fusion_module.w_xy.data.view(bilinear.shape))
    assert_equal_steps(ours, theirs, feature_map)


def copy_layers(ours, theirs):
    for mine, layer in zip(ours, theirs, strict=True):
        if isinstance(layer, torch.nn.Linear):
            copy_linear(mine, layer)
        elif isinstance(layer, torch.nn.BatchNorm1d):
            mine.module.load_state_dict(layer.state_dict())
