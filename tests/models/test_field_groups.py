"""Groups of fields: every part equals a model of its fields alone, and options that do not go with them are refused."""

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.models import gradients

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, Mixed_ME, UsageError
from fuxictr_me.estimates.simulate import simulate
from fuxictr_me.nn.field_groups import FieldGroups, permute
from fuxictr_me.nn.penalties import set_hsic
from fuxictr_me.representations.rank_along_depth import ALL, measure_rank_along_depth
from fuxictr_me.tables.find_tables import find_checkpoint_layers
from fuxictr_me.tables.first_interaction import find_first_interaction
from fuxictr_me.training.cuda_graph import CallRecorder
from fuxictr_me.training.step import Step

FIELDS = {"user": 11, "item": 7, "place": 5, "hour": 6, "tag": 8}
GROUPS = {"field_groups": 2, "field_permutation": 1}


@pytest.fixture
def five_fields():
    return make_feature_map({field: categorical(size) for field, size in FIELDS.items()})


def part_alone(model, index, fields):
    """Return a model of one set of ``fields``, in this order, with the weights of part ``index`` of ``model``."""
    m = model.field_groups.parts[index][0]
    feature_map = make_feature_map({field: categorical(FIELDS[field]) for field in fields})
    alone = build(type(model), feature_map, 1)
    group = next(g for g, parts in enumerate(model.groups) if parts.start <= index < parts.stop)
    parts, weights, own = model.groups[group], model.state_dict(), {}
    for key, like in alone.state_dict().items():
        source = key.replace("embedding_layer.sets.0.", f"embedding_layer.sets.{m}.")
        for name in ("interaction", "projection"):
            source = source.replace(f"{name}.0.", f"{name}.{group}.")
        value = weights[source]
        if value.shape != like.shape and not key.startswith("head."):
            value = value.chunk(parts.stop - parts.start)[index - parts.start]
        own[key] = value.clone()
    alone.load_state_dict(own)
    return alone


@EVERY_FAMILY
@pytest.mark.parametrize("fused", [True, False])
def test_each_part_is_a_model_of_its_fields(five_fields, model_class, fused):
    model = build(model_class, five_fields, 2, fused_embedding=fused, **GROUPS).eval()
    assert model.num_interactions == 4 and [(g.start, g.stop) for g in model.groups] == [(0, 2), (2, 4)]
    batch = make_batch(five_fields)
    X = model.get_inputs(batch)
    h = model.represent(model.embed(X), X)
    names = list(FIELDS)
    expected = []
    for m in range(2):
        order = [names[f] for f in permute(5, 1, m)]
        expected += [(m, order[:3]), (m, order[3:])]
    found = [(m, [names[f] for f in fields]) for m, fields in model.field_groups.parts]
    assert sorted(found) == sorted(expected)
    for i, (_, fields) in enumerate(found):
        alone = part_alone(model, i, fields).eval()
        Z = alone.get_inputs({field: batch[field] for field in [*fields, "label"]})
        torch.testing.assert_close(h[:, i : i + 1], alone.represent(alone.embed(Z), Z), rtol=1e-4, atol=1e-5)
    logit = model.head(h.mean(dim=1, keepdim=True))
    torch.testing.assert_close(model(batch)["y_pred"], torch.sigmoid(logit))


def test_a_dnn_with_groups_follows_its_formula(double, five_fields):
    model = build(DNN_ME, five_fields, 2, batch_norm=False, **GROUPS).double().eval()
    batch = make_batch(five_fields, rows=9)
    w = {key: value.numpy() for key, value in model.state_dict().items()}
    hidden = []
    for i, (m, fields) in enumerate(model.field_groups.parts):
        names = [list(FIELDS)[f] for f in fields]
        tables = [w[f"embedding_layer.sets.{m}.embedding_layer.embedding_layers.{name}.weight"] for name in names]
        e = np.concatenate([E[batch[name].numpy()] for E, name in zip(tables, names, strict=True)], axis=1)
        W, b = w[f"projection.{i // 2}.branches.0.0.weight"][i % 2], w[f"projection.{i // 2}.branches.0.0.bias"][i % 2]
        hidden.append(np.maximum(e @ W.T + b, 0))
    h = np.mean(hidden, axis=0)
    h = np.maximum(h @ w["head.towers.0.0.weight"][0].T + w["head.towers.0.0.bias"][0], 0)
    logit = h @ w["head.join.fc.weight"][0].T + w["head.join.fc.bias"][0]
    np.testing.assert_allclose(model(batch)["y_pred"].detach().numpy(), 1 / (1 + np.exp(-logit)), rtol=1e-12)


def test_groups_are_even_and_permutations_never_change():
    dims = [dict.fromkeys("abcdefgh", 4)] * 2
    in_order = FieldGroups(dims, 3, None)
    assert in_order.parts[::2] == [(0, [0, 1, 2]), (0, [3, 4, 5]), (0, [6, 7])]
    assert in_order.parts[1::2] == [(1, fields) for _, fields in in_order.parts[::2]]
    assert permute(6, 2024, 0) == [5, 1, 4, 3, 2, 0]  # checkpoints rely on it
    assert permute(6, 2024, 1) == [4, 1, 2, 5, 0, 3]
    assert all(sorted(permute(50, seed, 3)) == list(range(50)) for seed in range(20))


@pytest.mark.parametrize("aggregation", ["sum", "weighted", "gated", "concat", "ensemble"])
def test_parts_are_aggregated_as_sets_are(five_fields, aggregation):
    model = build(DCNv2_ME, five_fields, 1, aggregation=aggregation, **GROUPS).eval()
    batch = make_batch(five_fields)
    X = model.get_inputs(batch)
    e = model.embed(X)
    h = model.represent(e, X)
    logit = model.head(model.aggregation(h, e))
    assert h.shape[1] == 2
    torch.testing.assert_close(model(batch)["y_pred"], torch.sigmoid(logit))


@pytest.mark.parametrize("dims", [[4, 4], [4, 6]])
def test_all_tables_get_gradients_and_steps_agree_with_unfused_tables(double, dims):
    feature_map = make_feature_map(
        {
            field: categorical(size, **({"embedding_dim": 3} if field == "hour" else {}))
            for field, size in FIELDS.items()
        }
    )
    penalties = {"set_hsic_regularizer": 0.5, "set_covariance_regularizer": 0.1, "spectral_balance_regularizer": 0.1}
    settings = {"num_sets": None, "embedding_dim": dims, **GROUPS, **penalties}
    fused, apart = (build(DNN_ME, feature_map, fused_embedding=f, **settings).double() for f in (True, False))
    apart.load_state_dict(fused.state_dict())
    batch = make_batch(feature_map)
    got = fused.train()(batch)["penalties"]
    X = fused.get_inputs(batch)
    h = fused.represent(fused.embed(X), X)
    assert got["set_hsic"].item() == pytest.approx(0.5 * set_hsic(h).item(), rel=1e-8)
    fused.loss_fn(fused(batch)["y_pred"], fused.get_labels(batch), reduction="mean").backward()
    assert all(g.abs().sum() > 0 for name, g in gradients(fused).items() if name.startswith("embedding_layer"))
    for model in (fused, apart):
        model._max_gradient_norm = 1.0
    for seed in range(5):
        losses = [model.train().train_step(make_batch(feature_map, seed=seed)).item() for model in (fused, apart)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-10)


def test_mixed_models_keep_the_interaction_of_each_set(five_fields):
    names = ["DCNv2", "PNN"]
    model = build(Mixed_ME, five_fields, 2, interactions=names, hidden_units=[6, 5], **GROUPS)
    kinds = [type(module.inner).__name__ for module, g in zip(model.interaction, model.groups, strict=True)]
    assert kinds == ["CrossedFields", "FieldProducts"] * 2
    assert [m for m, _ in model.field_groups.parts] == [0, 1, 0, 1]
    assert model.train()(make_batch(five_fields))["y_pred"].isfinite().all()


def test_one_group_is_the_model_without_the_option(five_fields):
    torch.manual_seed(3)
    plain = build(DCNv2_ME, five_fields, 2)
    torch.manual_seed(3)
    one = build(DCNv2_ME, five_fields, 2, field_groups=1)
    assert list(plain.state_dict()) == list(one.state_dict())
    assert all(torch.equal(x, y) for x, y in zip(plain.state_dict().values(), one.state_dict().values(), strict=True))
    assert torch.equal(*(model.eval()(make_batch(five_fields))["y_pred"] for model in (plain, one)))


def test_recorded_steps_train_the_same(double, five_fields):
    penalties = {"set_hsic_regularizer": 0.5, "spectral_balance_regularizer": 0.1}
    models = [build(DCNv2_ME, five_fields, 2, dropout=0, **GROUPS, **penalties).double().train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].recorder = CallRecorder()
    for model in models:
        model._max_gradient_norm, model._step = 0.5, Step(model, on_cpu=False)
    for seed in range(16):
        batch = make_batch(five_fields, rows=16, seed=seed)
        losses = [model.train_step(batch).item() for model in models]
        assert losses[0] == pytest.approx(losses[1], abs=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler
def test_a_compiled_model_computes_the_same(five_fields):
    torch._dynamo.reset()
    penalties = {"set_hsic_regularizer": 0.5, "spectral_balance_regularizer": 0.1}
    options = {**GROUPS, **penalties, "batch_norm": False}
    compiled, plain = (build(DCNv2_ME, five_fields, 2, compile=choice, **options) for choice in (True, False))
    compiled.load_state_dict(plain.state_dict())
    batch, found = make_batch(five_fields), []
    for model in (compiled, plain):
        result = model.train()(batch)
        model.add_loss(result, model.get_labels(batch)).backward()
        found.append([result["y_pred"], *result["penalties"].values(), *gradients(model).values()])
    assert compiled._compiled_forward.works
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_rank_along_the_depth_is_measured_for_every_part(five_fields):
    model = build(DCNv2_ME, five_fields, 2, aggregation="ensemble", **GROUPS).eval()
    batch = make_batch(five_fields)
    measured = {one["name"]: one for one in measure_rank_along_depth(model, [batch], 32)["representations"]}
    parts = {part["set"]: part for part in measured["embeddings"]["parts"]}
    assert [parts[m]["width"] for m in range(4)] == [12, 12, 8, 8]
    sigma = torch.linalg.svdvals(model.embed(model.get_inputs(batch))[1][:, 1].double())
    assert parts[3]["ia"] == pytest.approx((sigma.sum() / sigma[0]).item(), rel=1e-4)
    assert {part["set"] for part in measured["head layer 1"]["parts"]} == {0, 1, 2, 3, ALL}


def test_memory_is_estimated_and_a_checkpoint_is_read(five_fields):
    settings = {**MODEL, "embedding_dim": 4, "num_sets": 2, **GROUPS, "set_hsic_regularizer": 0.1, "batch_size": 64}
    whole = simulate(DCNv2_ME, five_fields, {**settings, "field_groups": 1, "field_permutation": None})
    parts = simulate(DCNv2_ME, five_fields, {**settings, "spectral_balance_regularizer": 0.1})
    assert parts.embedding_parameters == whole.embedding_parameters and parts.parameters < whole.parameters
    weights = build(DCNv2_ME, five_fields, 2, **GROUPS).state_dict()
    interaction, reason = find_first_interaction(weights, find_checkpoint_layers(weights, five_fields))
    assert interaction is None and "do not fit its fields" in reason


@pytest.mark.parametrize(
    ("model_class", "settings", "message"),
    [
        (DNN_ME, {"field_groups": 3}, "field_groups: 3 needs two fields or more in every group, got 5 fields in all"),
        (DNN_ME, {"field_permutation": 7}, "field_permutation: 7 orders fields before they are divided"),
        (DNN_ME, {"field_groups": 0}, "field_groups must be an integer of 1"),
        (DNN_ME, {"field_groups": 2, "field_permutation": -1}, "field_permutation must be"),
        (
            DNN_ME,
            {"field_groups": 2, "shared_interaction": True},
            "shared_interaction needs the same fields everywhere",
        ),
        (FinalMLP_ME, {"field_groups": 2, "use_fs": True}, "use_fs: True gates all fields of a set at once"),
        (DCNv2_ME, {"field_groups": 2, "norm_alignment_regularizer": 1.0}, "which field_groups divides"),
        (PNN_ME, {"field_groups": 2, "space_similarity_regularizer": 1.0}, "which field_groups divides"),
        (DNN_ME, {"field_group": 2}, "did you mean 'field_groups'"),
    ],
)
def test_meaningless_groups_are_refused_with_a_reason(five_fields, model_class, settings, message):
    with pytest.raises(UsageError) as caught:
        build(model_class, five_fields, 2, **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_penalty_between_parts_of_one_set_has_a_meaning(five_fields):
    model = build(DNN_ME, five_fields, 1, set_hsic_regularizer=1.0, **GROUPS)
    assert model.train()(make_batch(five_fields))["penalties"]["set_hsic"] > 0
