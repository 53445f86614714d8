"""DNN_ME and DCNv2_ME against a plain computation of the paper's formulas, set by set.

The reference below is written from the paper's description (section 2 of its summary: flatten, four cross
layers, hidden layer = Linear, BatchNorm1d, ReLU, Dropout; mean over sets; shared rest) with tensor
arithmetic only. It reads the weights of the model under test by name and shares none of its code.
"""

import math

import pytest
import torch
from fuxictr.pytorch.layers import CrossNetMix
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.models import gradients
from helpers.plain_layers import (
    HIDDEN,
    L2_EMBEDDING,
    L2_NETWORK,
    LEARNING_RATE,
    plain_adam_step,
    plain_hidden_layer,
    read_parts,
)

from fuxictr_me import DNN_ME, DCNv2_ME, UsageError
from fuxictr_me.nn import MLP, CrossNetworkMix, SetLinear


def build(cls, feature_map, num_sets, **more):
    settings = {"hidden_units": HIDDEN} if cls is DNN_ME else {"stacked_dnn_hidden_units": HIDDEN}
    settings |= {"net_dropout": 0.2, "batch_norm": True, "embedding_dim": 4, "learning_rate": LEARNING_RATE}
    settings |= {"embedding_initializer": "partial(nn.init.normal_, std=0.5)", "network_initializer": "paper"}
    return cls(feature_map, num_sets=num_sets, model_root="unused", **{**MODEL, **settings, **more})


@pytest.fixture(params=[DNN_ME, DCNv2_ME])
def model_class(request):
    return request.param


def plain_forward(weights, X, num_sets, cross_layers, training):
    """ŷ of DNN (no cross layers) or DCNv2; ``weights`` is the model's state dict."""
    h = 0
    for m in range(num_sets):
        tables = [weights[f"embedding_layer.sets.{m}.embedding_layer.embedding_layers.{f}.weight"] for f in X]
        x0 = torch.cat([table[ids] for table, ids in zip(tables, X.values(), strict=True)], dim=1)
        x = x0
        for layer in range(cross_layers):
            W, b = (
                weights[f"interaction.0.crossnet.cross_layers.{layer}.weight"][m],
                weights[f"interaction.0.crossnet.cross_layers.{layer}.bias"][m],
            )
            x = x0 * (x @ W.T + b) + x
        first, channels = "projection.0.branches.0.", slice(m * HIDDEN[0], (m + 1) * HIDDEN[0])
        norm = [weights[first + f"1.module.{k}"][channels] for k in ("weight", "bias", "running_mean", "running_var")]
        W, b = weights[first + "0.weight"][m], weights[first + "0.bias"][m]
        h = h + plain_hidden_layer(x, W, b, norm[0], norm[1], norm[2:], training) / num_sets
    second = "head.towers.0."
    norm = [weights[second + f"1.module.{k}"] for k in ("weight", "bias", "running_mean", "running_var")]
    W, b = weights[second + "0.weight"][0], weights[second + "0.bias"][0]
    h = plain_hidden_layer(h, W, b, norm[0], norm[1], norm[2:], training)
    return 1 / (1 + torch.exp(-(h @ weights["head.join.fc.weight"][0].T + weights["head.join.fc.bias"][0])))


def plain_loss(weights, X, y, num_sets, cross_layers, trained):
    p = plain_forward(weights, X, num_sets, cross_layers, training=True)
    loss = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
    for name in trained:
        loss = loss + (L2_EMBEDDING if "embedding" in name else L2_NETWORK) / 2 * (weights[name] ** 2).sum()
    return loss


@pytest.mark.parametrize("num_sets", [1, 2, 4])
@pytest.mark.parametrize("training", [True, False])
def test_the_forward_pass_follows_the_paper(plain_map, model_class, num_sets, training, fixed_dropout):
    model = build(model_class, plain_map, num_sets)
    batch, X, _, weights, _ = read_parts(model, plain_map)
    for key in weights:  # running statistics that matter in eval mode
        if "running" in key:
            weights[key] = torch.rand_like(weights[key]) + 0.5
    model.load_state_dict(weights)
    model.train(training)
    expected = plain_forward(weights, X, num_sets, 4 if model_class is DCNv2_ME else 0, training)
    torch.testing.assert_close(model(batch)["y_pred"].detach(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_sets", [1, 2, 4])
def test_loss_gradients_and_adam_step_follow_the_paper(plain_map, model_class, num_sets, fixed_dropout):
    model = build(model_class, plain_map, num_sets, embedding_regularizer=L2_EMBEDDING, net_regularizer=L2_NETWORK)
    batch, X, y, weights, trained = read_parts(model, plain_map)
    model.train()
    model._max_gradient_norm = 10.0
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    found = gradients(model)
    loss = model.train_step(batch)

    leaves = {k: v.requires_grad_(k in trained) for k, v in weights.items()}
    expected = plain_loss(leaves, X, y, num_sets, 4 if model_class is DCNv2_ME else 0, trained)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    expected.backward()
    expected_gradients = {k: leaves[k].grad for k in trained}
    for field in plain_map.features:
        for m in range(num_sets):
            expected_gradients[f"embedding_layer.sets.{m}.embedding_layer.embedding_layers.{field}.weight"][0] = (
                0  # padding
            )
    updated = model.state_dict()
    for name in trained:
        torch.testing.assert_close(found[name], expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)
    # Adam's first step is lr · sign(g) where |g| is large against eps and rounding
    for name, value in plain_adam_step({k: v.detach() for k, v in leaves.items()}, expected_gradients).items():
        sure = expected_gradients[name].abs() > 1e-5
        torch.testing.assert_close(updated[name][sure], value[sure], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("structure", ["crossnet_only", "stacked", "parallel", "stacked_parallel"])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("num_sets", [1, 3])
def test_every_branch_is_averaged_in_every_structure(plain_map, structure, mixture, num_sets):
    model = build(
        DCNv2_ME,
        plain_map,
        num_sets,
        model_structure=structure,
        use_low_rank_mixture=mixture,
        low_rank=3,
        num_experts=2,
        parallel_dnn_hidden_units=[7, 3],
        net_dropout=0,
        batch_norm=False,
    ).eval()
    batch = make_batch(plain_map)
    w = model.state_dict()
    e = model.embed(model.get_inputs(batch))[0]
    branches = []
    for branch in model.projection[0].branches:
        branches.append({"shared": isinstance(branch, torch.nn.Identity), "mean": 0})
    for m in range(num_sets):
        x0 = e[:, m]
        crossed = plain_cross(w, x0, m, mixture)
        for i, branch in enumerate(branches):
            x = crossed if i == 0 else x0
            if not branch["shared"]:
                x = torch.relu(
                    x @ w[f"projection.0.branches.{i}.0.weight"][m].T + w[f"projection.0.branches.{i}.0.bias"][m]
                )
            branch["mean"] = branch["mean"] + x / num_sets
    out = []
    for i, branch in enumerate(branches):
        x = branch["mean"]
        if not branch["shared"]:
            x = torch.relu(x @ w[f"head.towers.{i}.0.weight"][0].T + w[f"head.towers.{i}.0.bias"][0])
        out.append(x)
    expected = torch.sigmoid(torch.cat(out, 1) @ w["head.join.fc.weight"][0].T + w["head.join.fc.bias"][0])
    torch.testing.assert_close(model(batch)["y_pred"], expected, rtol=0, atol=1e-6)
    assert len(branches) == (2 if "parallel" in structure else 1)


def plain_cross(w, x0, m, mixture):
    x, at = x0, "interaction.0.crossnet"
    if not mixture:
        for layer in range(4):
            x = x0 * (x @ w[f"{at}.cross_layers.{layer}.weight"][m].T + w[f"{at}.cross_layers.{layer}.bias"][m]) + x
        return x
    net = CrossNetMix(x0.shape[1], 4, low_rank=3, num_experts=2)  # FuxiCTR's, with the weights of set m
    for i in range(4):
        for name in "UVC":
            getattr(net, f"{name}_list")[i].data = w[f"{at}.{name}.{i}"][m]
        net.bias[i].data = w[f"{at}.bias.{i}"][m].unsqueeze(1)
    for expert, gate in enumerate(net.gating):
        gate.weight.data = w[f"{at}.gating"][m, expert : expert + 1]
    return net(x0)


@pytest.mark.parametrize("activation", ["relu", "PReLU", "dice", "softmax", "GELU", ["ReLU", "tanh"]])
def test_sets_of_an_mlp_do_not_mix(activation):
    mlp = torch.nn.Sequential(*MLP([6, 5], activation, 0, True).layers(3, 4))
    x = torch.randn(16, 3, 4)
    changed = x.clone()
    changed[:, 1] += 1
    before, after = mlp(x), mlp(changed)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]]) and not torch.equal(before[:, 1], after[:, 1])


def test_gradients_reach_every_set(plain_map, model_class):
    model = build(model_class, plain_map, 3)
    batch = make_batch(plain_map)
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    for name, gradient in gradients(model).items():
        assert gradient is not None and gradient.abs().sum() > 0, name
        if gradient.dim() == 3:  # (M, out, in)
            assert all(one_set.abs().sum() > 0 for one_set in gradient), name


def test_network_initializers_have_their_distributions(plain_map):
    features = {f"f{i}": categorical(5) for i in range(40)}
    paper = build(DCNv2_ME, make_feature_map(features), 2, stacked_dnn_hidden_units=[300, 200])
    width = 160
    for layer in paper.interaction[0].crossnet.cross_layers:
        assert layer.bias.abs().max() == 0
        assert layer.weight.abs().max() <= math.sqrt(6 / (2 * width)) and layer.weight.std().item() == pytest.approx(
            math.sqrt(2 / (2 * width)), rel=0.05
        )
    first = paper.projection[0].branches[0][0]
    assert first.weight.abs().max() <= width**-0.5 and first.bias.abs().max() > 0
    assert first.weight.std().item() == pytest.approx(width**-0.5 / math.sqrt(3), rel=0.05)
    ours = build(
        DCNv2_ME, make_feature_map(features), 2, stacked_dnn_hidden_units=[300, 200], network_initializer="fuxictr"
    )
    for layer in [*ours.interaction[0].crossnet.cross_layers, ours.projection[0].branches[0][0]]:
        out_features, in_features = layer.weight.shape[1:]
        assert layer.bias.abs().max() == 0
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (in_features + out_features)), rel=0.05)
        assert not torch.equal(layer.weight[0], layer.weight[1])
    mix = CrossNetworkMix(2, [4] * 40, 2, low_rank=8, num_experts=3)
    reference = CrossNetMix(width, 2, low_rank=8, num_experts=3)
    assert mix.U[0].std().item() == pytest.approx(reference.U_list[0].std().item(), rel=0.1)


def test_set_linear_equals_m_linear_layers():
    layer = SetLinear(3, 5, 4)
    x = torch.randn(7, 3, 5)
    expected = torch.stack([torch.nn.functional.linear(x[:, m], layer.weight[m], layer.bias[m]) for m in range(3)], 1)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)


def test_parameters_are_counted_as_by_hand(plain_map):
    # tables (11 + 7 + 5) · 4 a set; projection 12·6 + 6, batch norm 2·6; head 6·5 + 5, 2·5; 5 + 1
    assert build(DNN_ME, plain_map, 1).num_parameters() == 92 + 78 + 12 + 35 + 10 + 6
    assert build(DNN_ME, plain_map, 3).num_parameters() == 3 * (92 + 78 + 12) + 35 + 10 + 6
    assert build(DCNv2_ME, plain_map, 3).num_parameters() == 3 * (92 + 4 * (12 * 12 + 12) + 78 + 12) + 51
    assert build(DCNv2_ME, plain_map, 3).num_parameters(count_embedding=False) == 3 * (624 + 90) + 51


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_sets": 0}, "num_sets must be an integer of 1 or more, got 0"),
        ({"num_sets": "four"}, "num_sets must be an integer of 1 or more, got 'four'"),
        ({"num_set": 2}, "unknown setting of DCNv2_ME 'num_set'; did you mean 'num_sets'"),
        ({"model_structure": "stack"}, "did you mean 'stacked'"),
        ({"stacked_dnn_hidden_units": []}, "hidden units must be a list of one integer or more"),
        ({"stacked_dnn_hidden_units": [4, 0]}, "hidden units must be an integer of 1 or more, got 0"),
        ({"net_dropout": [0.1]}, "has 1 entries for 2 hidden layers"),
        ({"net_dropout": 1.0}, "a dropout rate must be a number from 0 to below 1, got 1.0"),
        ({"net_dropout": "0.1"}, "a dropout rate must be a number from 0 to below 1, got '0.1'"),
        ({"dnn_activations": "ReLUU"}, "unknown activation 'ReLUU'; did you mean 'ReLU'"),
        ({"num_cross_layers": 0}, "num_cross_layers must be an integer of 1 or more, got 0"),
        ({"use_low_rank_mixture": True, "low_rank": "8"}, "low_rank must be an integer of 1 or more, got '8'"),
        ({"network_initializer": "papr"}, "did you mean 'paper'"),
        ({"embedding_initializer": "print(1)"}, "embedding_initializer must be paper, or like nn.init."),
        ({"embedding_initializer": "nn.init.xavier_norm_"}, "did you mean 'xavier_normal_'"),
        ({"embedding_initializer": "partial(nn.init.normal_, std=print(1))"}, "embedding_initializer must be paper"),
        ({"embedding_regularizer": "1e-6"}, "write 1.e-6"),
        ({"embedding_regularizer": 1}, "write 1.0"),
        ({"net_regularizer": "l3(0.1)"}, "net_regularizer must be"),
        ({"learning_rate": "1e-3"}, "write 1.e-3"),
        ({"monitor": "AUCC"}, "unknown monitor 'AUCC'; did you mean 'AUC'"),
        ({"monitor": {"AUC": 1, "loglos": -1}}, "did you mean 'logloss'"),
        ({"metrics": ["AUC", "log_loss"]}, "did you mean 'logloss'"),
        ({"metrics": ["gAUC"]}, "set group_id"),
        ({"monitor_mode": "maximum"}, "did you mean 'max'"),
        ({"task": "binary"}, "did you mean 'binary_classification'"),
        ({"optimizer": "Adm"}, "did you mean 'Adam'"),
        ({"optimizer": "lr_scheduler"}, "unknown optimizer 'lr_scheduler'"),
        ({"use_low_rank_mixture": "False"}, "use_low_rank_mixture must be True or False, got 'False'"),
        ({"batch_norm": "False"}, "batch_norm must be True or False, got 'False'"),
        ({"loss": "bcee"}, "did you mean 'bce'"),
        ({"callbacks": ["InformationAbundence"]}, "did you mean 'InformationAbundance'"),
        (
            {"callbacks": [{"InformationAbundance": {"tensorbord": True}}]},
            "unknown argument of callback InformationAbundance 'tensorbord'; did you mean 'tensorboard'",
        ),
        ({"callbacks": ["no.such.Callback"]}, "unknown module 'no.such'"),
        ({"callbacks": [3]}, "a callback must be a name"),
        ({"gpu": 99}, "gpu 99 does not exist"),
    ],
)
def test_impossible_settings_are_refused(plain_map, settings, message):
    with pytest.raises(UsageError) as caught:
        build(DCNv2_ME, plain_map, **{"num_sets": 2, **settings})
    assert message in str(caught.value) and "\n" not in str(caught.value)
