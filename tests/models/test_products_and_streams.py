"""Models of products and streams against a plain computation of the paper's formulas, set by set, pair by pair."""

import pytest
import torch
from fuxictr.pytorch.layers import CompressedInteractionNet, CrossNetV2, InnerProductInteraction, MLP_Block
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.models import gradients, mask_of
from helpers.plain_layers import (
    HIDDEN,
    L2_EMBEDDING,
    L2_NETWORK,
    LEARNING_RATE,
    plain_adam_step,
    plain_hidden_layer,
    read_parts,
)

from fuxictr_me import PNN_ME, FinalMLP_ME, NFwFM_ME, UsageError, xDeepFM_ME
from fuxictr_me.nn import MLP, CompressedInteraction, CrossNetwork, InnerProduct

CIN = [3, 2]
OPTIONS = {
    PNN_ME: {"hidden_units": HIDDEN},
    NFwFM_ME: {"hidden_units": HIDDEN},
    xDeepFM_ME: {"dnn_hidden_units": HIDDEN, "cin_hidden_units": CIN},
    FinalMLP_ME: {
        **{f"mlp{i}_{key}": value for i in (1, 2) for key, value in (("dropout", 0.2), ("batch_norm", True))},
        "mlp1_hidden_units": HIDDEN,
        "mlp2_hidden_units": [4, 3],
    },
}
MODELS = pytest.mark.parametrize("model_class", list(OPTIONS))
SETS = pytest.mark.parametrize("num_sets", [1, 2, 4])


def build(cls, feature_map, num_sets, **more):
    settings = {"embedding_dim": 4, "learning_rate": LEARNING_RATE}
    settings |= {} if cls is FinalMLP_ME else {"net_dropout": 0.2, "batch_norm": True}
    settings |= {"embedding_initializer": "partial(nn.init.normal_, std=0.5)", "network_initializer": "paper"}
    return cls(feature_map, num_sets=num_sets, model_root="unused", **{**MODEL, **settings, **OPTIONS[cls], **more})


def norm_of(w, prefix, channels=slice(None)):
    return [w[f"{prefix}.{key}"][channels] for key in ("weight", "bias", "running_mean", "running_var")]


def plain_batch_norm(z, norm, training):
    scale, shift, *running = norm
    mean, variance = (z.mean(0), ((z - z.mean(0)) ** 2).mean(0)) if training else running
    return (z - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def plain_mlp(w, inputs, branch, training):
    """First hidden layer of each set, their mean, second hidden layer."""
    first, h = f"projection.0.branches.{branch}", 0
    for m, x in enumerate(inputs):
        norm = norm_of(w, f"{first}.1.module", slice(m * HIDDEN[0], (m + 1) * HIDDEN[0]))
        layer = plain_hidden_layer(x, w[f"{first}.0.weight"][m], w[f"{first}.0.bias"][m], *norm[:2], norm[2:], training)
        h = h + layer / len(inputs)
    second = f"head.towers.{branch}"
    norm = norm_of(w, f"{second}.1.module")
    return plain_hidden_layer(h, w[f"{second}.0.weight"][0], w[f"{second}.0.bias"][0], *norm[:2], norm[2:], training)


def embeddings_of(w, X, num_sets):
    """For each set, a list with one (B, K) for each field."""
    name = "embedding_layer.sets.{}.embedding_layer.embedding_layers.{}.weight"
    return [[w[name.format(m, field)][ids] for field, ids in X.items()] for m in range(num_sets)]


def plain_pnn(w, X, num_sets, training, concat=None):
    inputs = []
    for e in embeddings_of(w, X, num_sets):
        products = [(e[i] * e[j]).sum(1, keepdim=True) for i in range(len(e)) for j in range(i + 1, len(e))]
        raw = e if (num_sets == 1 if concat is None else concat) else []
        inputs.append(torch.cat([*raw, *products], dim=1))
    return plain_mlp(w, inputs, 0, training) @ w["head.join.fc.weight"][0].T + w["head.join.fc.bias"][0]


def plain_nfwfm(w, X, num_sets, training):
    inputs = []
    for m, e in enumerate(embeddings_of(w, X, num_sets)):
        v = w["interaction.0.products.weight"][m]
        z = sum(v[i, j] * e[i] * e[j] for i in range(len(e)) for j in range(len(e)))
        z = plain_batch_norm(z, norm_of(w, "interaction.0.norm.module", slice(m * 4, (m + 1) * 4)), training)
        inputs.append(z * mask_of(4) if training else z)
    return plain_mlp(w, inputs, 0, training) @ w["head.join.fc.weight"][0].T + w["head.join.fc.bias"][0]


def plain_xdeepfm(w, X, num_sets, training):
    cin, inputs = 0, []
    for m, e in enumerate(embeddings_of(w, X, num_sets)):
        x, pooled = e, []
        for layer, maps in enumerate(CIN):
            W, b = w[f"interaction.0.cin.layers.{layer}.weight"][m], w[f"interaction.0.cin.layers.{layer}.bias"][m]
            x = [
                torch.relu(sum(W[o, f * len(x) + c] * e[f] * x[c] for f in range(len(e)) for c in range(len(x))) + b[o])
                for o in range(maps)
            ]
            pooled += [z.sum(1, keepdim=True) for z in x]
        cin = cin + torch.cat(pooled, 1) / num_sets
        inputs.append(torch.cat(e, 1))
    deep = plain_mlp(w, inputs, 1, training)
    cin_logit = cin @ w["head.join.fc.0.weight"][0].T + w["head.join.fc.0.bias"][0]
    return cin_logit + deep @ w["head.join.fc.1.weight"][0].T + w["head.join.fc.1.bias"][0]


def plain_finalmlp(w, X, num_sets, training):
    streams = []
    for branch, units in enumerate((HIDDEN, [4, 3])):
        mean = 0
        for m, e in enumerate(embeddings_of(w, X, num_sets)):
            x = torch.cat(e, 1)
            for layer, width in enumerate(units):
                at = f"projection.0.branches.{branch}.{4 * layer}"  # Linear, BatchNorm, ReLU, Dropout
                norm_name = f"projection.0.branches.{branch}.{4 * layer + 1}.module"
                norm = norm_of(w, norm_name, slice(m * width, (m + 1) * width))
                x = plain_hidden_layer(x, w[f"{at}.weight"][m], w[f"{at}.bias"][m], *norm[:2], norm[2:], training)
            mean = mean + x / num_sets
        streams.append(mean)
    x, y = streams
    f = {name: w[f"head.join.{name}"][0] for name in ("w_x.weight", "w_x.bias", "w_y.weight", "w_y.bias")}
    linear = x @ f["w_x.weight"].T + f["w_x.bias"] + y @ f["w_y.weight"].T + f["w_y.bias"]
    return linear + ((x @ w["head.join.bilinear.weight"][0, 0]) * y).sum(1, keepdim=True)


PLAIN = {PNN_ME: plain_pnn, NFwFM_ME: plain_nfwfm, xDeepFM_ME: plain_xdeepfm, FinalMLP_ME: plain_finalmlp}


@MODELS
@SETS
@pytest.mark.parametrize("training", [True, False])
def test_the_forward_pass_follows_the_paper(plain_map, model_class, num_sets, training, fixed_dropout):
    model = build(model_class, plain_map, num_sets)
    batch, X, _, weights, _ = read_parts(model, plain_map)
    for key in weights:
        if key == "head.join.bilinear.weight":  # the paper starts it at 0
            assert weights[key].abs().max() == 0
            weights[key] = torch.randn_like(weights[key])
        if "running" in key:
            weights[key] = torch.rand_like(weights[key]) + 0.5
    model.load_state_dict(weights)
    model.train(training)
    expected = torch.sigmoid(PLAIN[model_class](weights, X, num_sets, training))
    torch.testing.assert_close(model(batch)["y_pred"].detach(), expected, rtol=0, atol=1e-6)


@MODELS
@SETS
def test_loss_gradients_and_adam_step_follow_the_paper(plain_map, model_class, num_sets, fixed_dropout):
    model = build(model_class, plain_map, num_sets, embedding_regularizer=L2_EMBEDDING, net_regularizer=L2_NETWORK)
    batch, X, y, weights, trained = read_parts(model, plain_map)
    model.train()
    model._max_gradient_norm = 10.0
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    found = gradients(model)
    loss = model.train_step(batch)
    leaves = {k: v.requires_grad_(k in trained) for k, v in weights.items()}
    p = torch.sigmoid(PLAIN[model_class](leaves, X, num_sets, True))
    expected = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
    for name in trained:
        factor = L2_EMBEDDING if "embedding" in name else L2_NETWORK
        expected = expected + factor / 2 * (leaves[name] ** 2).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    expected_gradients = {k: leaves[k].grad for k in trained}
    for name, gradient in expected_gradients.items():
        if "embedding" in name:
            gradient[0] = 0  # padding
    updated = model.state_dict()
    for name in trained:
        torch.testing.assert_close(found[name], expected_gradients[name], rtol=1e-4, atol=2e-6, msg=name)
    for name, value in plain_adam_step({k: v.detach() for k, v in leaves.items()}, expected_gradients).items():
        sure = expected_gradients[name].abs() > 1e-4
        torch.testing.assert_close(updated[name][sure], value[sure], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("num_sets", [1, 3])
@pytest.mark.parametrize("concat", [True, False])
def test_pnn_with_and_without_concatenated_embeddings(plain_map, num_sets, concat):
    model = build(PNN_ME, plain_map, num_sets, concat_embeddings=concat).eval()
    batch, X, _, weights, _ = read_parts(model, plain_map)
    expected = torch.sigmoid(plain_pnn(weights, X, num_sets, False, concat))
    torch.testing.assert_close(model(batch)["y_pred"].detach(), expected, rtol=0, atol=1e-6)
    width = 3 + (12 if concat else 0)
    assert model.projection[0].branches[0][0].weight.shape == (num_sets, HIDDEN[0], width)


def test_each_set_of_an_interaction_equals_the_fuxictr_layer():
    e = torch.randn(7, 3, 5, 4)
    mine, theirs = InnerProduct(5)(e), InnerProductInteraction(5, output="inner_product")
    for m in range(3):
        torch.testing.assert_close(mine[:, m], theirs(e[:, m]), rtol=0, atol=1e-5)
    flat = e.flatten(2)
    cross = CrossNetwork(3, [4] * 5, 2)
    for m in range(3):
        reference = CrossNetV2(20, 2)
        for layer, linear in zip(cross.cross_layers, reference.cross_layers, strict=True):
            linear.weight.data, linear.bias.data = layer.weight[m], layer.bias[m]
        torch.testing.assert_close(cross(flat)[:, m], reference(flat[:, m]), rtol=1e-5, atol=1e-5)
    mlp = torch.nn.Sequential(*MLP([6, 4], "ReLU", 0, True).layers(3, 20))
    hidden = mlp(flat)
    for m in range(3):
        reference = MLP_Block(20, hidden_units=[6, 4], batch_norm=True)
        for mine, theirs in zip(mlp, reference.mlp, strict=True):
            if isinstance(theirs, torch.nn.Linear):
                theirs.weight.data, theirs.bias.data = mine.weight[m], mine.bias[m]
        torch.testing.assert_close(hidden[:, m], reference(flat[:, m]), rtol=1e-5, atol=1e-5)
    cin = CompressedInteraction(3, 5, [4, 2], activation=None)
    out = cin(e)
    for m in range(3):
        reference = CompressedInteractionNet(5, [4, 2], output_dim=6)
        reference.fc.weight.data, reference.fc.bias.data = torch.eye(6), torch.zeros(6)
        for layer, conv in zip(cin.layers, reference.cin_layer.values(), strict=True):
            conv.weight.data, conv.bias.data = layer.weight[m].unsqueeze(-1), layer.bias[m]
        torch.testing.assert_close(out[:, m], reference(e[:, m]), rtol=1e-5, atol=1e-5)


def test_the_linear_term_is_added_to_the_logit(plain_map):
    with_term = build(xDeepFM_ME, plain_map, 2, use_linear_term=True).eval()
    without = build(xDeepFM_ME, plain_map, 2).eval()
    without.load_state_dict({k: v for k, v in with_term.state_dict().items() if not k.startswith("lr_layer")})
    batch = make_batch(plain_map)
    X = with_term.get_inputs(batch)
    added = torch.logit(with_term(batch)["y_pred"]) - torch.logit(without(batch)["y_pred"])
    torch.testing.assert_close(added, with_term.lr_layer(X), rtol=1e-4, atol=1e-5)
    assert with_term.num_parameters() == without.num_parameters() + 23  # one weight per id
    assert with_term.num_parameters(count_embedding=False) == without.num_parameters(count_embedding=False)


def test_parameters_are_counted_as_by_hand(plain_map):
    # tables 23 · 4 a set; projection (in · 6 + 6) and batch norm 12 a set; head 6·5 + 5, 2·5, 5 + 1
    head = 35 + 10 + 6
    assert build(PNN_ME, plain_map, 1).num_parameters() == 92 + (15 * 6 + 6) + 12 + head
    assert build(PNN_ME, plain_map, 3).num_parameters() == 3 * (92 + (3 * 6 + 6) + 12) + head
    assert build(NFwFM_ME, plain_map, 3).num_parameters() == 3 * (92 + 9 + 8 + (4 * 6 + 6) + 12) + head
    streams = (12 * 6 + 6 + 12 + 6 * 5 + 5 + 10) + (12 * 4 + 4 + 8 + 4 * 3 + 3 + 6)
    assert build(FinalMLP_ME, plain_map, 3).num_parameters() == 3 * (92 + streams) + (5 + 1) + (3 + 1) + 5 * 3
    cin = (3 * 9 + 3) + (2 * 9 + 2)
    assert build(xDeepFM_ME, plain_map, 3).num_parameters() == 3 * (92 + cin + 78 + 12) + head + (5 + 1)


@MODELS
def test_gradients_reach_every_set(plain_map, model_class):
    model = build(model_class, plain_map, 3, network_initializer="fuxictr")
    batch = make_batch(plain_map)
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    for name, gradient in gradients(model).items():
        assert gradient is not None, name
        if gradient.dim() == 3:
            assert all(one_set.abs().sum() > 0 for one_set in gradient), name


@pytest.mark.parametrize("model_class", [PNN_ME, NFwFM_ME, xDeepFM_ME])
def test_fields_of_unequal_dimension_are_refused(model_class):
    feature_map = make_feature_map({"user": categorical(11, embedding_dim=6), "item": categorical(7)})
    with pytest.raises(UsageError, match=r"need fields of one dimension, got \[4, 6\]"):
        build(model_class, feature_map, 2)


@pytest.mark.parametrize(
    ("model_class", "settings", "message"),
    [
        (PNN_ME, {"product_type": "outer"}, "unknown product_type 'outer'"),
        (PNN_ME, {"concat_embeddings": "yes"}, "concat_embeddings must be True or False, got 'yes'"),
        (NFwFM_ME, {"interaction_dropout": 2}, "a dropout rate must be a number from 0 to below 1, got 2"),
        (FinalMLP_ME, {"num_heads": 2}, "num_heads must divide the last hidden units 5 and 3, got 2"),
        (FinalMLP_ME, {"mlp2_dropout": [0.1]}, "has 1 entries for 2 hidden layers"),
        (xDeepFM_ME, {"cin_hidden_units": []}, "cin_hidden_units must be a list of one integer or more"),
        (xDeepFM_ME, {"cin_activation": "Rel"}, "unknown activation 'Rel'"),
        (
            xDeepFM_ME,
            {"cin_activation": "Dice"},
            "cin_activation must be one without weights, such as ReLU, got 'Dice'",
        ),
        (xDeepFM_ME, {"use_linear_term": 1}, "use_linear_term must be True or False, got 1"),
    ],
)
def test_impossible_settings_are_refused(plain_map, model_class, settings, message):
    with pytest.raises(UsageError) as caught:
        build(model_class, plain_map, 2, **settings)
    assert message in str(caught.value)
