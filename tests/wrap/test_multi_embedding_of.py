"""Sets of wrapped models: equal to the unwrapped model, averaged at the merge points, trained and saved."""

import copy
import random

import numpy as np
import pytest
import torch
from helpers.branched_models import (
    MERGE_POINTS,
    Crossed,
    LeavesOut,
    Scaled,
    make_labelled_batch,
    predict,
    set_all_equal,
)
from helpers.toy_models import Tower, make
from torch import nn

from fuxictr_me import DNN_ME, MultiEmbeddingOf, UsageError
from fuxictr_me.tables import find_tables
from fuxictr_me.wrap import wrap_if_configured

SETS = ("sets.1.", "sets.2.")
NOT_TRAINED = {"unused.weight", "unused.bias", "embedding_layer.embedding_layer.embedding_layers.user.weight"}
EVERY_MODEL = pytest.mark.parametrize("backbone", list(MERGE_POINTS))


@EVERY_MODEL
def test_one_set_equals_the_unwrapped_model(feature_map, backbone):
    batch, seen = make_labelled_batch(feature_map), []
    for cls in (backbone, MultiEmbeddingOf(backbone, num_sets=1)):
        torch.manual_seed(3)
        model = cls(feature_map, verbose=0, model_root="unused", metrics=["AUC"], embedding_regularizer=0.1)
        model._max_gradient_norm, model._batch_index = 10.0, 0
        losses = [model.train_step(batch).item() for _ in range(3)]
        seen.append((losses, torch.rand(1).item(), model.state_dict()))
    (losses, drawn, weights), (own_losses, own_drawn, own_weights) = seen
    assert (own_losses, own_drawn) == (losses, drawn)
    assert list(own_weights) == list(weights)
    assert all(torch.equal(own_weights[name], weights[name]) for name in weights)


def test_tracing_draws_no_random_numbers(feature_map):
    """Building three sets draws the random numbers of three models, one after the other."""
    after = []
    for cls, times in ((Tower, 3), (MultiEmbeddingOf(Tower, num_sets=3), 1)):
        for draw_seed in (torch.manual_seed, np.random.seed, random.seed):
            draw_seed(3)
        for _ in range(times):
            cls(feature_map, verbose=0, model_root="unused", metrics=["AUC"])
        after.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert after[0] == after[1]


def test_set_0_starts_as_the_unwrapped_model(feature_map):
    starts = []
    for cls in (Tower, MultiEmbeddingOf(Tower, num_sets=3)):
        torch.manual_seed(3)
        starts.append(cls(feature_map, verbose=0, model_root="unused", metrics=["AUC"]).state_dict())
    plain, wrapped = starts
    assert all(torch.equal(wrapped[name], plain[name]) for name in plain)
    tables = [
        wrapped[f"{prefix}embedding_layer.embedding_layer.embedding_layers.user.weight"] for prefix in ("", *SETS)
    ]
    assert not any(torch.equal(tables[i], tables[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@EVERY_MODEL
@pytest.mark.parametrize("batched", [False, True])
def test_equal_sets_predict_as_the_single_model(exact, feature_map, backbone, batched):
    """Predictions and running statistics agree, and the gradients of the sets add up to those of the single model."""
    single = make(backbone, feature_map)
    model = set_all_equal(make(backbone, feature_map, num_sets=3, batched=batched), single)
    assert [str(point) for point in model.merge_points] == MERGE_POINTS[backbone]
    assert model.batched == batched
    batch = make_labelled_batch(feature_map)
    for training in (False, True):
        ours, theirs = (predict(m, batch, training) for m in (model, single))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    labels = single.get_labels(batch)
    for y in (ours, theirs):
        nn.functional.binary_cross_entropy(y, labels).backward()
    own = dict(model.named_parameters())
    for name, p in single.named_parameters():
        if p.grad is None:
            continue
        parts = [own[n].grad for n in (name, *(f"{s}{name}" for s in SETS)) if n in own]
        torch.testing.assert_close(sum(parts), p.grad, rtol=1e-9, atol=1e-12, msg=name)
    statistics = dict(model.named_buffers())
    for name, buffer in single.named_buffers():
        torch.testing.assert_close(statistics[name], buffer, rtol=1e-12, atol=1e-12)


@EVERY_MODEL
def test_sets_are_averaged_at_the_merge_points(exact, feature_map, backbone):
    """The expected value averages the values at the points of whole models, one for each set, by hand."""
    model = make(backbone, feature_map, num_sets=3).eval()
    batch, parts = make_labelled_batch(feature_map), []
    for m in range(3):
        single = make(backbone, feature_map).eval()
        own = model if m == 0 else model.sets[str(m)]
        single.load_state_dict({**single.state_dict(), **model.state_dict()}, strict=False)
        single.load_state_dict(own.state_dict(), strict=False)
        parts.append(single)
    passed = [[] for _ in parts]
    for part, values in zip(parts, passed, strict=True):
        watch(part, model.merge_points, lambda value, values=values: values.append(value))
        part(batch)
    means = iter([torch.stack(values).mean(dim=0) for values in zip(*passed, strict=True)])
    last = copy.deepcopy(make(backbone, feature_map).eval())
    last.load_state_dict({name: w for name, w in model.state_dict().items() if not name.startswith("sets.")})
    watch(last, model.merge_points, lambda value: next(means))
    torch.testing.assert_close(predict(model, batch), predict(last, batch), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(predict(model, batch), predict(parts[0], batch), rtol=0, atol=1e-5)


def watch(model, points, see):
    """Call ``see`` with each tensor at the points; a result that is not None replaces the tensor."""

    def before(module, args, kwargs):
        new = [see(value.clone()) for value in (*args, *kwargs.values())]
        args = tuple(a if b is None else b for a, b in zip(args, new, strict=False))
        named = zip(kwargs, new[len(args) :], strict=True)
        return args, {name: kwargs[name] if b is None else b for name, b in named}

    for point in points:
        module = model.get_submodule(point.path)
        if point.side == "input":
            module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            module.register_forward_hook(lambda module, args, output: see(output.clone()))


@EVERY_MODEL
def test_there_are_m_times_the_embeddings_and_one_head(feature_map, backbone):
    single, model = make(backbone, feature_map), make(backbone, feature_map, num_sets=3)
    named, plain = dict(model.named_parameters()), dict(single.named_parameters())
    embeddings = {name for name in plain if name.startswith("embedding_layer")}
    of_sets = {name for name in plain if f"sets.1.{name}" in named}
    assert embeddings < of_sets
    assert set(named) == plain.keys() | {f"{s}{name}" for s in SETS for name in of_sets}
    of_head = ("fc", "fusion", "weights", "linear", "scale", "unused")
    assert not any(name.startswith(of_head) for name in of_sets)
    assert len(model.optimizer.param_groups[0]["params"]) == len(named)
    assert not any(hasattr(part, "optimizer") for part in model.sets.values())
    assert model.num_parameters() == sum(p.numel() for p in named.values())


@EVERY_MODEL
@pytest.mark.parametrize("batched", [False, True])
def test_a_step_updates_every_set(feature_map, backbone, batched):
    model = make(backbone, feature_map, num_sets=3, batched=batched)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    model.train_step(make_labelled_batch(feature_map))
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert len(still) == {Scaled: 2, LeavesOut: 3}.get(backbone, 0)
    assert {name.removeprefix("sets.1.").removeprefix("sets.2.") for name in still} <= NOT_TRAINED


@EVERY_MODEL
def test_regularizers_count_every_set_and_the_head_once(exact, feature_map, backbone):
    model = make(backbone, feature_map, num_sets=3, embedding_regularizer=0.1, net_regularizer=0.3)
    expected = 0.0
    for name, p in model.named_parameters():
        weight = 0.1 if ".embedding_layers." in name and "linear" not in name else 0.3
        weight = 0.1 if name.startswith("linear.embedding_layer.") else weight
        expected += weight / 2 * np.square(p.detach().numpy()).sum()
    assert model.regularization_loss().item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("batched", [False, True])
def test_batch_norm_statistics_are_updated_once_per_step(feature_map, batched):
    """A set's statistics describe its values, the head's describe the mean; evaluation changes none."""
    model = make(Tower, feature_map, num_sets=3, batched=batched)
    for training in (True, False):
        model.train(training)
        model(make_labelled_batch(feature_map))
    parts = [part.dnn.mlp[1] for part in (model, *model.sets.values())]
    assert [int(part.num_batches_tracked) for part in parts] == [1, 1, 1]
    assert not any(torch.equal(parts[i].running_mean, parts[j].running_mean) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert model.dnn.mlp[5].num_batches_tracked == 1
    assert not any("mlp.5" in name for name in model.sets.state_dict())


def test_a_copy_has_separate_hooks(feature_map):
    model = make(Crossed, feature_map, num_sets=2).eval()
    batch = make_labelled_batch(feature_map)
    twin = copy.deepcopy(model)
    expected = predict(model, batch)
    with torch.no_grad():
        twin.sets["1"].embedding_layer.embedding_layer.embedding_layers["user"].weight.add_(1.0)
    assert torch.equal(predict(model, batch), expected)
    assert not torch.allclose(predict(twin, batch), expected, atol=1e-4)


def test_fields_that_share_a_table_share_it_in_every_set(feature_map):
    model = make(Tower, feature_map, num_sets=2)
    for part in (model, model.sets["1"]):
        layers = part.embedding_layer.embedding_layer.embedding_layers
        assert layers["clicks"] is layers["item"]


@pytest.mark.parametrize("batched", [False, True])
def test_every_kind_of_field_can_be_wrapped(exact, every_kind, batched):
    """Numbers, vectors, sequences, shared and pretrained tables; a frozen table is held once."""
    single = make(Tower, every_kind)
    model = set_all_equal(make(Tower, every_kind, num_sets=3, batched=batched), single)
    batch = make_labelled_batch(every_kind)
    assert model.batched == batched
    torch.testing.assert_close(predict(model, batch), predict(single, batch), rtol=1e-12, atol=1e-12)
    parts = [part.embedding_layer.embedding_layer.embedding_layers for part in (model, *model.sets.values())]
    assert len({part["frozen"].pretrain_embedding.weight for part in parts}) == 1
    assert len({part["pre"].pretrain_embedding.weight for part in parts}) == 3
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (model, single)]
    assert counts[0] - counts[1] == 2 * sum(p.numel() for p in model.sets["1"].parameters() if p.requires_grad)


def test_a_wrapped_model_trains_saves_and_loads(feature_map, own_folder):
    model = make(Crossed, feature_map, num_sets=2)
    batches = [make_labelled_batch(feature_map, 64)]
    model.fit(batches, epochs=3, validation_data=batches)
    expected = predict(model, batches[0])
    again = make(Crossed, feature_map, num_sets=2, seed=1)
    assert not torch.allclose(predict(again, batches[0]), expected)
    again.load_weights(model.checkpoint)
    assert torch.equal(predict(again, batches[0]), expected)


def test_config_keys_select_the_wrapped_class(feature_map):
    assert wrap_if_configured(Tower, {"num_sets": 2}) is MultiEmbeddingOf(Tower)
    assert wrap_if_configured(Tower, {"merge": "dnn"}) is MultiEmbeddingOf(Tower)
    assert wrap_if_configured(Tower, {"embedding_dim": 2, "num_sets": None}) is Tower
    assert wrap_if_configured(DNN_ME, {"num_sets": 2}) is DNN_ME
    assert wrap_if_configured(MultiEmbeddingOf(Tower), {"num_sets": 2}) is MultiEmbeddingOf(Tower)

    class Own(Tower):
        def __init__(self, feature_map, num_sets=3, **kwargs):
            super().__init__(feature_map, **kwargs)

    assert wrap_if_configured(Own, {"num_sets": 2}) is Own
    with pytest.raises(UsageError, match="Own takes num_sets itself and cannot be wrapped: rename it"):
        MultiEmbeddingOf(Own)


def test_constructor_keywords_override_defaults_of_the_class(feature_map):
    cls = MultiEmbeddingOf(Crossed, num_sets=3, merge=["fc"])
    assert cls is MultiEmbeddingOf(Crossed, num_sets=3, merge=["fc"])
    assert cls.__name__ == "Crossed_ME" and issubclass(cls, Crossed)
    own = {"verbose": 0, "model_root": "unused", "metrics": ["AUC"]}
    assert cls(feature_map, **own).num_sets == 3
    model = cls(feature_map, num_sets=2, merge=["cross>", "dnn"], **own)
    assert (model.num_sets, [str(p) for p in model.merge_points]) == (2, ["cross>", ">dnn.mlp.2"])


def test_find_tables_sees_every_set(feature_map):
    model = make(Tower, feature_map, num_sets=3)
    tables = {tables.field: tables for tables in find_tables(model)}
    assert {field: len(t.sets) for field, t in tables.items()} == {"user": 3, "item": 3}
