"""What the options of every model claim: aggregations, ensembles, unequal sets, shared modules, linear projections."""

import copy

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, FAMILIES, build, single_model
from helpers.models import gradients

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, NFwFM_ME, UsageError, xDeepFM_ME
from fuxictr_me.nn.aggregation import AGGREGATIONS

BOTH_MODES = pytest.mark.parametrize("training", [True, False])


def parts_of(model, batch):
    X = model.get_inputs(batch)
    e = model.embed(X)
    return X, e, model.represent(e, X)


def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=atol)


# --- aggregation -----------------------------------------------------------------------------------


@EVERY_FAMILY
@pytest.mark.parametrize("aggregation", ["mean", "sum", "weighted", "gated", "elementwise_gated"])
def test_aggregation_is_its_formula(plain_map, model_class, aggregation):
    model = build(model_class, plain_map, aggregation=aggregation).eval()
    for parameter in model.aggregation.parameters():  # away from where they start
        torch.nn.init.normal_(parameter)
    batch = make_batch(plain_map)
    _, e, h = parts_of(model, batch)
    combined, learned = 0, getattr(model.aggregation, "weight", [0] * 3)
    for m in range(3):
        if aggregation == "gated":
            scores = [
                torch.cat([e[0][:, s] for s in range(3)], 1) @ model.aggregation.weight[n] + model.aggregation.bias[n]
                for n in range(3)
            ]
            factor = (scores[m].exp() / sum(s.exp() for s in scores)).unsqueeze(1)
        elif aggregation == "elementwise_gated":
            factor = plain_elementwise_gates(model.aggregation, e[0], h.shape[-1])[:, m]
        else:
            factor = {"mean": 1 / 3, "sum": 1.0, "weighted": learned[m]}[aggregation]
        combined = combined + factor * h[:, m]
    close(model(batch)["y_pred"], torch.sigmoid(model.head(combined.unsqueeze(1))))


def plain_elementwise_gates(aggregation, e, width):
    """(B, M, ΣK) -> (B, M, H), row by row and element by element."""
    weight, bias = (p.detach().double().numpy() for p in (aggregation.weight, aggregation.bias))
    gates = np.empty((len(e), 3, width))
    for b, row in enumerate(e.detach().double().numpy()):
        for j in range(width):
            scores = [weight[m * width + j] @ np.concatenate(list(row)) + bias[m * width + j] for m in range(3)]
            gates[b, :, j] = np.exp(scores - max(scores)) / sum(np.exp(scores - max(scores)))
    return torch.from_numpy(gates).to(e.dtype)


@EVERY_FAMILY
def test_the_elementwise_gate_is_its_formula_in_float64(plain_map, model_class):
    model = build(model_class, plain_map, aggregation="elementwise_gated").double().eval()
    for parameter in model.aggregation.parameters():
        torch.nn.init.normal_(parameter)
    _, e, h = parts_of(model, make_batch(plain_map))
    expected = (plain_elementwise_gates(model.aggregation, e[0], h.shape[-1]) * h).sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.aggregation(h, e), expected, rtol=1e-11, atol=1e-11)


@EVERY_FAMILY
@pytest.mark.parametrize("aggregation", ["weighted", "gated", "elementwise_gated"])
@BOTH_MODES
def test_learned_aggregations_start_as_the_mean(plain_map, model_class, aggregation, training):
    model, mean = build(model_class, plain_map, aggregation=aggregation), build(model_class, plain_map)
    mean.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("aggregation")})
    batch = make_batch(plain_map)
    close(model.train(training)(batch)["y_pred"], mean.train(training)(batch)["y_pred"])
    gate = 3 * (3 * 12) + 3  # three sets of three fields of dimension 4
    width = parts_of(mean, batch)[2].shape[-1]
    added = {"weighted": 3, "gated": gate, "elementwise_gated": width * gate}[aggregation]
    assert model.num_parameters() == mean.num_parameters() + added
    model.train()
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.aggregation.parameters())


@EVERY_FAMILY
def test_concat_widens_the_head_and_nothing_else(plain_map, model_class):
    model, mean = build(model_class, plain_map, aggregation="concat"), build(model_class, plain_map)
    changed = {k for k, v in model.state_dict().items() if v.shape != mean.state_dict()[k].shape}
    assert changed and all(name.startswith("head.") for name in changed)
    batch = make_batch(plain_map)
    _, _, h = parts_of(model.eval(), batch)
    branches = h.split([width // 3 for width in model.head.widths], dim=-1)
    side_by_side = [torch.cat([branch[:, m] for m in range(3)], dim=1).unsqueeze(1) for branch in branches]
    towers = [tower(branch) for tower, branch in zip(model.head.towers, side_by_side, strict=True)]
    close(model(batch)["y_pred"], torch.sigmoid(model.head.join(towers)[:, 0]))


@EVERY_FAMILY
@BOTH_MODES
def test_an_ensemble_is_m_single_models_trained_as_one(plain_map, model_class, training):
    model = build(model_class, plain_map, aggregation="ensemble").train(training)
    batch = make_batch(plain_map)
    singles = [single_model(model, m).train(training) for m in range(3)]
    logits = [torch.logit(single(batch)["y_pred"]) for single in singles]
    y_pred = model(batch)["y_pred"]
    close(torch.logit(y_pred), sum(logits) / 3, atol=1e-5)
    assert model.num_parameters() == 3 * singles[0].num_parameters()
    assert model.num_parameters() - model.num_parameters(count_embedding=False) == 3 * 4 * 23
    loss = model.loss_fn(y_pred, model.get_labels(batch), reduction="mean")
    loss.backward()
    model.loss_fn(torch.sigmoid(sum(logits) / 3), model.get_labels(batch), reduction="mean").backward()
    for m, single in enumerate(singles):
        name = "embedding_layer.sets.{}.embedding_layer.embedding_layers.user.weight"
        mine, alone = gradients(model)[name.format(m)], gradients(single)[name.format(0)]
        torch.testing.assert_close(mine, alone, rtol=1e-3, atol=1e-6)


def test_ensemble_members_of_pnn_are_the_papers_single_models(plain_map):
    kept = build(PNN_ME, plain_map, aggregation="ensemble", concat_embeddings=None)
    dropped = build(PNN_ME, plain_map, concat_embeddings=None)
    assert kept.interaction[0].output_dims == [15] and dropped.interaction[0].output_dims == [3]


# --- unequal sets ----------------------------------------------------------------------------------


@EVERY_FAMILY
@BOTH_MODES
def test_sets_of_unequal_dimension(plain_map, model_class, training):
    model = build(model_class, plain_map, num_sets=None, embedding_dim=[4, 4, 6, 2]).train(training)
    assert model.num_sets == 4 and [(g.start, g.stop) for g in model.groups] == [(0, 2), (2, 3), (3, 4)]
    batch = make_batch(plain_map)
    _, _, h = parts_of(model, batch)
    for m in range(4):
        single = single_model(model, m).train(training)
        close(h[:, m : m + 1], parts_of(single, batch)[2])
    close(model(batch)["y_pred"], torch.sigmoid(model.head(h.mean(dim=1, keepdim=True))))
    tables = [[table.shape[1] for table in sets] for sets in model.embedding_layer.tables().values()]
    assert tables == [[4, 4, 6, 2]] * 3


@pytest.mark.parametrize("aggregation", ["gated", "elementwise_gated", "confidence"])
def test_unequal_sets_train_and_evaluate(plain_map, aggregation):
    model = build(DCNv2_ME, plain_map, num_sets=None, embedding_dim=[4, 6], aggregation=aggregation)
    batch, before = make_batch(plain_map), None
    model._max_gradient_norm = 10.0
    for _ in range(3):
        before, loss = model.embedding_layer.tables()["user"][1].clone(), model.train_step(batch)
    assert torch.isfinite(loss) and not torch.equal(before, model.embedding_layer.tables()["user"][1])


# --- shared interaction ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "more"),
    [(cls, {}) for cls in FAMILIES]
    + [
        (DNN_ME, {"hidden_activations": "Dice"}),
        (DNN_ME, {"hidden_activations": "PReLU"}),
        (DCNv2_ME, {"use_low_rank_mixture": True, "low_rank": 2, "num_experts": 2, "model_structure": "parallel"}),
        (DCNv2_ME, {"field_weights": True}),
        (FinalMLP_ME, {"use_fs": True, "fs_hidden_units": [3], "fs1_context": ["user", "item"]}),
    ],
)
def test_a_shared_interaction_is_one_module_called_for_each_set(plain_map, model_class, more):
    model = build(model_class, plain_map, shared_interaction=True, **more)
    single = build(model_class, plain_map, 1, **more)
    tables = model.num_parameters() - model.num_parameters(count_embedding=False)
    assert model.num_parameters(count_embedding=False) == single.num_parameters(count_embedding=False)
    assert tables == 3 * (single.num_parameters() - single.num_parameters(count_embedding=False))
    own = {k.replace(".network.", "."): v.clone() for k, v in model.state_dict().items()}
    wanted = single.state_dict()
    single.load_state_dict({k: own[k] if not k.startswith(("embedding", "context")) else v for k, v in wanted.items()})
    batch = make_batch(plain_map)
    for training in (True, True, False):  # the third time with the running statistics of the first two
        model.train(training), single.train(training)
        X, e, h = parts_of(model, batch)
        contexts = [context(X, flatten_emb=True) for context in getattr(model, "contexts", [])]
        for m in range(3):  # as the authors' code calls it
            inputs = single.interaction[0](e[0][:, m : m + 1], *(c[:, m : m + 1] for c in contexts))
            close(h[:, m : m + 1], single.projection[0](inputs))
    for key, value in model.state_dict().items():
        if "running" in key and "head" not in key:
            close(value, single.state_dict()[key.replace(".network.", ".")])
        if "num_batches_tracked" in key and "head" not in key:
            assert value == 6


def test_sets_that_share_an_interaction_have_tables_of_their_own(plain_map):
    model = build(DCNv2_ME, plain_map, shared_interaction=True)
    batch = make_batch(plain_map)
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    name = "embedding_layer.sets.{}.embedding_layer.embedding_layers.user.weight"
    of_set = [gradients(model)[name.format(m)] for m in range(3)]
    assert all(g.abs().sum() > 0 for g in of_set) and not torch.equal(of_set[0], of_set[1])


# --- without the non-linear projection -------------------------------------------------------------


@pytest.mark.parametrize("model_class", [DNN_ME, DCNv2_ME, FinalMLP_ME])
@BOTH_MODES
def test_without_a_nonlinear_projection_me_is_one_larger_embedding(plain_map, model_class, training):
    """The paper's appendix, as weights: a single-embedding model of dimension M K that computes the same."""
    model = build(model_class, plain_map, nonlinear_projection=False).train(training)
    larger = build(model_class, plain_map, 1, embedding_dim=12).train(training)
    weights, wide = model.state_dict(), larger.state_dict()
    # entry (field f, set m, k) of the larger embedding is entry (f, k) of set m
    at = [torch.tensor([f * 12 + m * 4 + k for f in range(3) for k in range(4)]) for m in range(3)]
    for field in plain_map.features:
        name = "embedding_layer.sets.{}.embedding_layer.embedding_layers.{}.weight"
        wide[name.format(0, field)] = torch.cat([weights[name.format(m, field)] for m in range(3)], dim=1)
    for key, value in wide.items():
        if "crossnet" in key:
            for m in range(3):
                if key.endswith("weight"):
                    value[0] = 0 if m == 0 else value[0]
                    value[0][at[m][:, None], at[m]] = weights[key][m]
                else:
                    value[0, at[m]] = weights[key][m]
    for branch, per_set in enumerate(model.projection[0].branches):
        first = wide[f"projection.0.branches.{branch}.0.weight"]
        for m in range(3):
            first[0][:, at[m]] = per_set.weight[m].detach() / 3
        wide[f"projection.0.branches.{branch}.0.bias"][0] = per_set.bias.mean(dim=0).detach()
        behind = [v for k, v in weights.items() if k.startswith(f"head.towers.{branch}.")]
        before = [k for k in wide if k.startswith(f"projection.0.branches.{branch}.")][2:]
        before += [k for k in wide if k.startswith(f"head.towers.{branch}.")]
        for key, value in zip(before, behind, strict=True):
            wide[key] = value
    wide |= {k: v for k, v in weights.items() if k.startswith("head.join")}
    larger.load_state_dict(wide)
    batch = make_batch(plain_map)
    close(model(batch)["y_pred"], larger(batch)["y_pred"])


@pytest.mark.parametrize("model_class", [PNN_ME, NFwFM_ME, xDeepFM_ME])
def test_a_linear_projection_is_activated_behind_the_mean(plain_map, model_class):
    model = build(model_class, plain_map, nonlinear_projection=False, batch_norm=False).eval()
    batch = make_batch(plain_map)
    X = model.get_inputs(batch)
    e = model.embed(X)
    inputs = model.interaction(e)[0][-1]  # of the branch with hidden layers
    linear = model.projection[0].branches[-1]
    mean = sum(inputs[:, m] @ linear.weight[m].T + linear.bias[m] for m in range(3)) / 3
    second = model.head.towers[-1][1]
    hidden = torch.relu(torch.relu(mean) @ second.weight[0].T + second.bias[0])
    fc = model.head.join.fc
    expected = hidden @ (fc[-1] if isinstance(fc, torch.nn.ModuleList) else fc).weight[0].T
    expected = expected + (fc[-1] if isinstance(fc, torch.nn.ModuleList) else fc).bias[0]
    if model_class is xDeepFM_ME:
        cin = model.interaction(e)[0][0].mean(dim=1)
        expected = expected + cin @ fc[0].weight[0].T + fc[0].bias[0]
    close(model(batch)["y_pred"], torch.sigmoid(expected))


@EVERY_FAMILY
def test_a_linear_projection_has_as_many_weights(plain_map, model_class):
    model, linear = (build(model_class, plain_map, batch_norm=False, nonlinear_projection=p) for p in (True, False))
    if (
        model_class is FinalMLP_ME
    ):  # there the second layers of both streams are the head's too, once in place of M times
        assert model.num_parameters() - linear.num_parameters() == 2 * (6 * 5 + 5) + 2 * (4 * 3 + 3)
    else:
        assert model.num_parameters() == linear.num_parameters()


# --- symmetry --------------------------------------------------------------------------------------


@EVERY_FAMILY
def test_sets_that_start_equal_stay_equal_and_others_do_not(plain_map, model_class):
    model = build(model_class, plain_map, embedding_regularizer=0.01, net_regularizer=0.01)
    different = copy.deepcopy(model)
    different.optimizer = torch.optim.Adam(different.parameters(), lr=1e-2)
    with torch.no_grad():
        for m in (1, 2):
            model.embedding_layer.sets[m].load_state_dict(model.embedding_layer.sets[0].state_dict())
        for key, value in [*model.interaction.state_dict().items(), *model.projection.state_dict().items()]:
            if value.dim() and "pairs" not in key:
                value.copy_(torch.cat([value.chunk(3)[0]] * 3))
    batches = [make_batch(plain_map, seed=s) for s in range(4)]
    for trained in (model, different):
        trained.train()
        trained._max_gradient_norm = 10.0
        for batch in batches:
            trained.train_step(batch)
    for field, (first, *others) in model.embedding_layer.tables().items():
        for other in others:
            close(other, first, atol=1e-5)
        tables = different.embedding_layer.tables()[field]
        assert (tables[0] - tables[1]).abs().max() > 0.1
    e = model.embed(model.get_inputs(batches[0]))[0]
    assert e.abs().max() > 0.1  # they have not all gone to zero


# --- FinalMLP's feature selection, field weights, weight decay --------------------------------------


@pytest.mark.parametrize("num_sets", [1, 3])
@pytest.mark.parametrize(("first", "second"), [([], []), (["item"], []), ([], ["user", "item"]), (["user"], ["item"])])
def test_feature_selection_of_each_set(plain_map, num_sets, first, second):
    model = build(
        FinalMLP_ME, plain_map, num_sets, use_fs=True, fs_hidden_units=[5], fs1_context=first, fs2_context=second
    )
    batch = make_batch(plain_map)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    X, e, h = parts_of(model.eval(), batch)
    w, layers = model.state_dict(), iter(model.contexts)
    for i, fields in enumerate((first, second)):
        context_layer = next(layers) if fields else None
        for m in range(num_sets):
            if fields:
                tables = context_layer.sets[m].embedding_layer.embedding_layers
                order = [field for field in plain_map.features if field in fields]
                context = torch.cat([tables[field].weight[X[field]] for field in order], dim=1)
            else:
                context = w[f"interaction.0.gates.{i}.own_context"][m].expand(32, -1)
            at = f"interaction.0.gates.{i}.mlp"
            hidden = torch.relu(context @ w[f"{at}.0.weight"][m].T + w[f"{at}.0.bias"][m])
            gate = 2 / (1 + torch.exp(-(hidden @ w[f"{at}.2.weight"][m].T + w[f"{at}.2.bias"][m])))
            close(model.interact([e[0]], X)[0][i][:, m], e[0][:, m] * gate)
    assert h.shape == (32, num_sets, 8)


def test_field_weights_multiply_the_blocks(plain_map):
    model, without = build(DCNv2_ME, plain_map, field_weights=True), build(DCNv2_ME, plain_map)
    rest = {k: v.clone() for k, v in model.state_dict().items() if "field_weights" not in k}
    without.load_state_dict(rest)
    batch = make_batch(plain_map)
    close(model.eval()(batch)["y_pred"], without.eval()(batch)["y_pred"])  # they start at 1
    assert model.num_parameters() == without.num_parameters() + 3 * 2 * 9
    weights = {k: torch.randn_like(v) for k, v in model.state_dict().items() if "field_weights" in k}
    model.load_state_dict({**rest, **weights})
    for layer in range(2):
        W, N = (
            rest[f"interaction.0.crossnet.cross_layers.{layer}.weight"],
            weights[f"interaction.0.crossnet.field_weights.{layer}"],
        )
        for m in range(3):
            for j in range(3):
                for i in range(3):
                    W[m, 4 * j : 4 * j + 4, 4 * i : 4 * i + 4] *= N[m, j, i]
    without.load_state_dict(rest)
    close(model(batch)["y_pred"], without(batch)["y_pred"])


def test_weight_decay_is_the_regularisers_gradient(plain_map):
    """Adam's weight_decay of the paper = embedding_regularizer and net_regularizer of the same value, unclipped."""
    decayed = build(DCNv2_ME, plain_map, 2, weight_decay=0.01)
    regularised = build(DCNv2_ME, plain_map, 2, embedding_regularizer=0.01, net_regularizer=0.01)
    plain = build(DCNv2_ME, plain_map, 2)
    for model in (regularised, plain):
        model.load_state_dict(decayed.state_dict())
    for model in (decayed, regularised, plain):
        model._max_gradient_norm = 1e9
        model.train()
        for seed in range(5):
            model.train_step(make_batch(plain_map, seed=seed, rows=8))  # some ids never occur
    rows = [model.embedding_layer.tables()["user"][0] for model in (decayed, regularised, plain)]
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-4, atol=1e-5)
    assert (rows[0] - rows[2]).abs().max() > 1e-3
    for (name, a), b in zip(decayed.named_parameters(), regularised.parameters(), strict=True):
        if "bias" not in name:  # biases before batch norm have no gradient but rounding, which Adam magnifies
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
    assert build(DNN_ME, plain_map, 1, optimizer="AdamW").optimizer.param_groups[0]["weight_decay"] == 0.01  # its own
    assert build(DNN_ME, plain_map, 1).optimizer.param_groups[0]["weight_decay"] == 0


# --- what means nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "settings", "message"),
    [
        (DNN_ME, {"aggregation": "avg"}, "unknown aggregation 'avg'"),
        (DNN_ME, {"num_sets": 1, "aggregation": "gated"}, "aggregation: gated needs two sets or more, got num_sets 1"),
        (DNN_ME, {"num_sets": 1, "shared_interaction": True}, "shared_interaction: True needs two sets or more"),
        (DNN_ME, {"num_sets": 1, "nonlinear_projection": False}, "nonlinear_projection: False needs two sets or more"),
        (DNN_ME, {"nonlinear_projection": False, "aggregation": "concat"}, "each set would be activated by itself"),
        (DNN_ME, {"nonlinear_projection": False, "aggregation": "ensemble"}, "each set would be activated by itself"),
        (DNN_ME, {"nonlinear_projection": "no"}, "nonlinear_projection must be True or False, got 'no'"),
        (DNN_ME, {"embedding_dim": [4, 8]}, "embedding_dim [4, 8] names 2 sets, num_sets is 3"),
        (DNN_ME, {"num_sets": None, "embedding_dim": []}, "embedding_dim [] names 0 sets"),
        (DNN_ME, {"num_sets": None, "embedding_dim": [4, 0]}, "each of embedding_dim must be an integer of 1 or more"),
        (
            DNN_ME,
            {"num_sets": None, "embedding_dim": [4, 8], "shared_interaction": True},
            "shared_interaction needs sets of one dimension, got [4, 8]",
        ),
        (
            DCNv2_ME,
            {"num_sets": None, "embedding_dim": [4, 8], "model_structure": "crossnet_only"},
            "sets of dimensions [4, 8] give branches of widths [12] and [24], which no hidden layer makes equal",
        ),
        (
            DCNv2_ME,
            {"use_low_rank_mixture": True, "field_weights": True},
            "needs full-matrix cross layers",
        ),
        (DNN_ME, {"field_weights": True}, "unknown setting of DNN_ME 'field_weights'"),
        (DNN_ME, {"weight_decay": -1}, "weight_decay must be a number of 0 or more, got -1"),
        (DNN_ME, {"weight_decay": "1e-6"}, "weight_decay must be a number, got the text '1e-6'"),
        (DNN_ME, {"weight_decay": 0.1, "optimizer": "Rprop"}, "optimizer 'Rprop' has no weight_decay"),
        (FinalMLP_ME, {"fs1_context": ["user"]}, "set use_fs: True"),
        (
            FinalMLP_ME,
            {"use_fs": True, "fs1_context": ["usr"]},
            "field in fs1_context 'usr'; did you mean 'user'",
        ),
        (FinalMLP_ME, {"use_fs": 1}, "use_fs must be True or False, got 1"),
        (FinalMLP_ME, {"use_fs": True, "fs_hidden_units": [0]}, "each of the hidden units must be an integer of 1"),
    ],
)
def test_meaningless_combinations_are_refused_with_a_reason(plain_map, model_class, settings, message):
    with pytest.raises(UsageError) as caught:
        build(model_class, plain_map, **{"num_sets": 3, **settings})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_aggregation_is_tested():
    tested = {"mean", "sum", "weighted", "gated", "elementwise_gated", "concat", "ensemble"}
    assert set(AGGREGATIONS) == tested | {"confidence"}  # tests/nn/test_fusion.py
