"""``MultiEmbeddingOf`` on small models of FuxiCTR's kind, one for each thing that a forward can do."""

import copy
import random

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.toy_models import DIM, WIDTH, Fused, Products, Small, Tasks, Tower, Wide, make
from torch import nn

from fuxictr_me import DNN_ME, MultiEmbeddingOf, RunError, UsageError
from fuxictr_me.tables import find_tables
from fuxictr_me.wrap import wrap_if_configured


class Crossed(Small):
    """Two branches into one last layer, of which one has no hidden layer."""

    def build(self):
        self.cross = Products(5)
        self.dnn = MLP_Block(WIDTH, hidden_units=[8, 6])
        self.fc = nn.Linear(11, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([self.cross(e), self.dnn(e)], dim=-1))


class Twice(Small):
    """One layer of the head is passed twice."""

    def build(self):
        self.dnn, self.fc = MLP_Block(WIDTH, hidden_units=[8]), nn.Linear(8, 1)

    def logit(self, e, inputs):
        h = self.dnn(e)
        return self.fc(h) + self.fc(h.square())


class InPlaceBehind(Small):
    """What comes out of a merged module is changed in place afterwards."""

    def build(self):
        self.cross, self.dnn = Products(6), MLP_Block(WIDTH, hidden_units=[8, 6])
        self.fc = nn.Linear(6, 1)

    def logit(self, e, inputs):
        y = self.cross(e)
        y += self.dnn(e)
        return self.fc(y)


class Scaled(Crossed):
    """A weight of the model itself in the head, and a layer that nothing calls."""

    def build(self):
        super().build()
        self.scale, self.unused = nn.Parameter(torch.ones(1)), nn.Linear(3, 2)

    def logit(self, e, inputs):
        return self.scale * super().logit(e, inputs)


class FusedBeside(Fused):
    """The same into a last layer, beside another branch."""

    def build(self):
        super().build()
        self.cross, self.fc = Products(5), nn.Linear(6, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([super().logit(e, inputs), self.cross(e)], dim=-1))


class NoHiddenLayer(Small):
    """Two branches without a hidden layer into one last layer."""

    def build(self):
        self.one, self.two, self.fc = Products(5), Products(3), nn.Linear(8, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([self.one(e), self.two(e)], dim=-1))


class ByHand(Small):
    """Hidden layers of functions rather than modules."""

    def build(self):
        self.first, self.second, self.third = nn.Linear(WIDTH, 8), nn.Linear(8, 6), nn.Linear(6, 1)

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        h = torch.nn.functional.dropout(torch.relu(self.first(e)), 0.1, self.training)
        return {"y_pred": torch.sigmoid(self.third(torch.tanh(self.second(h))))}


class LeavesOut(Small):
    """A field that no prediction depends on has a table all the same."""

    def build(self):
        self.dnn = MLP_Block(WIDTH - DIM, output_dim=1, hidden_units=[8])

    def logit(self, e, inputs):
        by_field = self.embedding_layer.embedding_layer(self.get_inputs(inputs))
        return self.dnn(torch.cat([e for field, e in by_field.items() if field != "user"], dim=-1))


WHOLE = {
    Tower: [">dnn.mlp.4"],
    Wide: [">weights", ">dnn.mlp.3"],
    Crossed: ["cross>", ">dnn.mlp.2"],
    Scaled: ["cross>", ">dnn.mlp.2"],
    LeavesOut: [">dnn.mlp.2"],
    Fused: [">fusion"],
    FusedBeside: [">fusion", "cross>"],
    NoHiddenLayer: [">fc"],
    ByHand: [">second"],
    Twice: [">fc"],
    InPlaceBehind: ["cross>", ">dnn.mlp.2"],
}
NOT_TRAINED = {"unused.weight", "unused.bias", "embedding_layer.embedding_layer.embedding_layers.user.weight"}
EVERY_MODEL = pytest.mark.parametrize("backbone", list(WHOLE))


@pytest.fixture
def two_labels(feature_map):
    feature_map.labels = ["label", "bought"]
    return feature_map


def batch_of(feature_map, rows=16):
    batch = make_batch(feature_map, rows)
    batch["bought"] = 1 - batch["label"]
    return {field: values for field, values in batch.items() if field != "bought" or field in feature_map.labels}


def set_equal(model, single):
    """Give every set of ``model`` the weights of ``single``."""
    model.load_state_dict(single.state_dict(), strict=False)
    for part in model.sets.values():
        part.load_state_dict(single.state_dict(), strict=False)
    return model


def predictions(model, batch, training=False):
    model.train(training)
    return torch.cat([y for name, y in model(batch).items() if name.endswith("pred")], dim=1)


# --- one set


@EVERY_MODEL
def test_one_set_is_the_model_itself(feature_map, backbone):
    batch, seen = batch_of(feature_map), []
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


def test_looking_draws_no_random_numbers(feature_map):
    """Three sets are three models, one after the other."""
    after = []
    for cls, times in ((Tower, 3), (MultiEmbeddingOf(Tower, num_sets=3), 1)):
        for draw_seed in (torch.manual_seed, np.random.seed, random.seed):
            draw_seed(3)
        for _ in range(times):
            cls(feature_map, verbose=0, model_root="unused", metrics=["AUC"])
        after.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert after[0] == after[1]


def test_the_first_set_starts_as_the_model_does(feature_map):
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


SETS = ("sets.1.", "sets.2.")


# --- several sets


@EVERY_MODEL
@pytest.mark.parametrize("batched", [False, True])
def test_equal_sets_are_the_single_model(exact, feature_map, backbone, batched):
    """Predictions, running statistics of the head; and the sets' gradients add up to its gradients."""
    single = make(backbone, feature_map)
    model = set_equal(make(backbone, feature_map, num_sets=3, batched=batched), single)
    assert [str(point) for point in model.merge_points] == WHOLE[backbone]
    assert model.batched == batched
    batch = batch_of(feature_map)
    for training in (False, True):
        ours, theirs = (predictions(m, batch, training) for m in (model, single))
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
def test_sets_are_averaged_where_it_says(exact, feature_map, backbone):
    """Against each set by hand: what passes the points in a whole model of that set, averaged into set 0's."""
    model = make(backbone, feature_map, num_sets=3).eval()
    batch, parts = batch_of(feature_map), []
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
    means = iter([torch.stack(of_sets).mean(dim=0) for of_sets in zip(*passed, strict=True)])
    last = copy.deepcopy(make(backbone, feature_map).eval())
    last.load_state_dict({name: w for name, w in model.state_dict().items() if not name.startswith("sets.")})
    watch(last, model.merge_points, lambda value: next(means))
    torch.testing.assert_close(predictions(model, batch), predictions(last, batch), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(predictions(model, batch), predictions(parts[0], batch), rtol=0, atol=1e-5)


def watch(model, points, see):
    """Call ``see`` with each tensor at the points; what it gives takes its place."""

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
def test_m_times_the_embeddings_and_one_head(feature_map, backbone):
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
def test_a_step_moves_every_set(feature_map, backbone, batched):
    model = make(backbone, feature_map, num_sets=3, batched=batched)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    model.train_step(batch_of(feature_map))
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
def test_batch_norm_of_a_set_and_of_the_head(feature_map, batched):
    """A set's statistics are of its own values, the head's of the mean, once a step; evaluation moves none."""
    model = make(Tower, feature_map, num_sets=3, batched=batched)
    for training in (True, False):
        model.train(training)
        model(batch_of(feature_map))
    parts = [part.dnn.mlp[1] for part in (model, *model.sets.values())]
    assert [int(part.num_batches_tracked) for part in parts] == [1, 1, 1]
    assert not any(torch.equal(parts[i].running_mean, parts[j].running_mean) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert model.dnn.mlp[5].num_batches_tracked == 1
    assert not any("mlp.5" in name for name in model.sets.state_dict())


def test_a_copy_has_hooks_of_its_own(feature_map):
    model = make(Crossed, feature_map, num_sets=2).eval()
    batch = batch_of(feature_map)
    twin = copy.deepcopy(model)
    expected = predictions(model, batch)
    with torch.no_grad():
        twin.sets["1"].embedding_layer.embedding_layer.embedding_layers["user"].weight.add_(1.0)
    assert torch.equal(predictions(model, batch), expected)
    assert not torch.allclose(predictions(twin, batch), expected, atol=1e-4)


def test_tables_of_a_field_in_every_set_are_tied_as_the_map_says(feature_map):
    model = make(Tower, feature_map, num_sets=2)
    for part in (model, model.sets["1"]):
        layers = part.embedding_layer.embedding_layer.embedding_layers
        assert layers["clicks"] is layers["item"]


@pytest.mark.parametrize("batched", [False, True])
def test_every_kind_of_field(exact, every_kind, batched):
    """Numbers, vectors, sequences, tied and pretrained tables; a frozen table is held once."""
    single = make(Tower, every_kind)
    model = set_equal(make(Tower, every_kind, num_sets=3, batched=batched), single)
    batch = batch_of(every_kind)
    assert model.batched == batched
    torch.testing.assert_close(predictions(model, batch), predictions(single, batch), rtol=1e-12, atol=1e-12)
    parts = [part.embedding_layer.embedding_layer.embedding_layers for part in (model, *model.sets.values())]
    assert len({part["frozen"].pretrain_embedding.weight for part in parts}) == 1
    assert len({part["pre"].pretrain_embedding.weight for part in parts}) == 3
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (model, single)]
    assert counts[0] - counts[1] == 2 * sum(p.numel() for p in model.sets["1"].parameters() if p.requires_grad)


def test_trains_saves_and_loads_the_best(feature_map, own_folder):
    model = make(Crossed, feature_map, num_sets=2)
    batches = [batch_of(feature_map, 64)]
    model.fit(batches, epochs=3, validation_data=batches)
    expected = predictions(model, batches[0])
    again = make(Crossed, feature_map, num_sets=2, seed=1)
    assert not torch.allclose(predictions(again, batches[0]), expected)
    again.load_weights(model.checkpoint)
    assert torch.equal(predictions(again, batches[0]), expected)


# --- where to merge


@pytest.mark.parametrize(
    "backbone, merge, points",
    [
        (Tower, "dnn", [">dnn.mlp.4"]),
        (Tower, ">dnn.mlp.4", [">dnn.mlp.4"]),
        (Tower, "dnn.mlp.2>", ["dnn.mlp.2>"]),
        (Tower, "logits", [">output_activation"]),
        (Crossed, "fc", [">fc"]),
        (Crossed, ["cross>", "dnn"], ["cross>", ">dnn.mlp.2"]),
        (Fused, ["one", ">fusion"], None),
        (Fused, [">fusion.x", ">fusion.y"], [">fusion.x", ">fusion.y"]),
    ],
)
def test_a_point_can_be_named(feature_map, backbone, merge, points):
    if points is None:
        with pytest.raises(UsageError, match="depends on one that was merged before"):
            make(backbone, feature_map, num_sets=2, merge=merge)
        return
    model = make(backbone, feature_map, num_sets=2, merge=merge)
    assert [str(point) for point in model.merge_points] == points
    assert f"Merge points: {', '.join(points)}" in model.describe()


def test_logits_are_averaged_where_that_is_asked_for(exact, feature_map):
    model = make(Tower, feature_map, num_sets=2, merge="logits").eval()
    batch = batch_of(feature_map)
    logits = []
    for part in (model, model.sets["1"]):
        single = make(Tower, feature_map).eval()
        single.load_state_dict({name: w for name, w in part.state_dict().items() if not name.startswith("sets.")})
        logits.append(torch.logit(predictions(single, batch)))
    torch.testing.assert_close(torch.logit(predictions(model, batch)), sum(logits) / 2, rtol=1e-10, atol=1e-10)


def test_it_says_what_it_chose(feature_map, caplog):
    caplog.set_level("INFO")
    make(Crossed, feature_map, num_sets=2)
    for line in (
        "Crossed with 2 embedding sets",
        "Merge points: cross>, >dnn.mlp.2",
        "cross>: the output of cross (Products) is averaged over the sets, with no hidden layer before it",
        ">dnn.mlp.2: the input of dnn.mlp.2 (Linear) is averaged over the sets, behind a hidden layer",
        "In every set: embedding_layer, cross, dnn.mlp.0",
        "Once, behind the merge: dnn.mlp.2, fc",
        "Sets 1 ... run in turn",
    ):
        assert line in caplog.text


# --- several tasks


def test_a_set_for_each_task(two_labels):
    """STEM: a task's loss reaches the set of all tasks and its own, and no other's; what is predicted is the mean."""
    model = make(Tasks, two_labels, task_sets=True, merge=["towers.0", "towers.1"])
    assert model.num_sets == 3
    plain = make(Tasks, two_labels, num_sets=3, merge=["towers.0", "towers.1"])
    plain.load_state_dict(model.state_dict())
    batch = batch_of(two_labels)
    assert torch.equal(predictions(model, batch), predictions(plain, batch))
    for task, label in enumerate(two_labels.labels, start=1):
        model.zero_grad()
        model(batch)[f"{label}_pred"].sum().backward()
        reached = [
            any(p.grad is not None and p.grad.any() for p in part.embedding_layer.parameters())
            for part in (model, *model.sets.values())
        ]
        assert reached == [True, task == 1, task == 2]


@pytest.mark.parametrize(
    "more, message",
    [
        ({"num_sets": 2}, "num_sets 3, got 2"),
        ({"merge": "towers.0"}, "reaches the prediction past >towers.0.mlp.2: name a point in that branch, too"),
        ({"merge": "bottom>"}, "bottom> leads to label_pred, bought_pred"),
    ],
)
def test_task_sets_need_a_point_for_each_task(two_labels, more, message):
    with pytest.raises(UsageError, match=message):
        make(Tasks, two_labels, task_sets=True, **more)


def test_task_sets_need_tasks(feature_map):
    with pytest.raises(UsageError, match="needs a multi-task model, which Tower_ME is not"):
        make(Tower, feature_map, task_sets=True)


def test_multi_task_models_train(two_labels, own_folder):
    model = make(Tasks, two_labels, num_sets=2)
    assert [str(point) for point in model.merge_points] == [">towers.0.mlp.2", ">towers.1.mlp.2"]
    batches = [batch_of(two_labels, 64)]
    model.fit(batches, epochs=2, validation_data=batches)
    assert set(model.evaluate(batches)) == {"label_AUC", "bought_AUC", "AUC"}


# --- refused, never mangled


class SkipsIt(Tower):
    def logit(self, e, inputs):
        return self.dnn(e) + e.sum(dim=1, keepdim=True)


class ReadsItAgain(Crossed):
    """What goes into the head is used beside it, too: the same tensor."""

    def logit(self, e, inputs):
        h = torch.cat([self.cross(e), self.dnn(e)], dim=-1)
        return self.fc(h) + h.sum(dim=1, keepdim=True)


class ReadsItDetached(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) + e.detach().sum(dim=1, keepdim=True)


class ChoosesByIndex(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) * e.argmax(dim=1, keepdim=True)


class OneAfterTheOther(Small):
    """A layer without weights is passed twice, the second time behind itself."""

    def build(self):
        self.first, self.second, self.fc = nn.Linear(WIDTH, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.activation = nn.ReLU()

    def logit(self, e, inputs):
        return self.fc(self.activation(self.second(self.activation(self.first(e)))))


class Tied(Small):
    """One layer both before and behind a point."""

    def build(self):
        self.layer, self.middle, self.fc = nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)

    def logit(self, e, inputs):
        return self.fc(torch.relu(self.layer(self.middle(self.layer(e)))))


class NoHead(Small):
    def build(self):
        pass

    def logit(self, e, inputs):
        return e.sum(dim=1, keepdim=True)


class LinearBeside(Small):
    """Linear terms are no head: nothing is behind the sum."""

    def build(self):
        self.products, self.linear = nn.Flatten(), LogisticRegression(self.feature_map)

    def logit(self, e, inputs):
        return self.products(e).square().sum(dim=1, keepdim=True) + self.linear(self.get_inputs(inputs))


class Branches(Tower):
    def logit(self, e, inputs):
        return self.dnn(e if e.mean() > 0 else -e)


class CatchesAll(Tower):
    def logit(self, e, inputs):
        try:
            return self.dnn(e)
        except:  # noqa: E722
            return self.dnn(e)


class CatchesErrors(Tower):
    def logit(self, e, inputs):
        try:
            return self.dnn(e)
        except Exception:  # noqa: BLE001
            return self.dnn(torch.zeros_like(e))


class OtherwiseInEvaluation(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) if self.training else self.fc(torch.cat([e[:, :5], self.dnn(e)], dim=-1))


class ChangesWhatWentIn(Small):
    """The head works in place on what it is given, and that is read again."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 1)

        def forward(self, h):
            h.mul_(2.0)
            return self.fc(h)

    def build(self):
        self.dnn, self.head = MLP_Block(WIDTH, hidden_units=[8]), self.InPlace()

    def logit(self, e, inputs):
        h = self.dnn(e) + 0.0
        y = self.head(h)
        return y + h.sum(dim=1, keepdim=True)


class Counts(Tower):
    """Something else every time."""

    def logit(self, e, inputs):
        self.count = getattr(self, "count", 0) + 1
        return self.dnn(e) + self.count


class Auxiliary(Tower):
    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.dnn(e)), "norm": e.square().mean()}

    def add_loss(self, return_dict, y_true):
        return super().add_loss(return_dict, y_true) + return_dict["norm"]


class Checkpointed(Crossed):
    def logit(self, e, inputs):
        crossed = torch.utils.checkpoint.checkpoint(self.cross, e, use_reentrant=True)
        return self.fc(torch.cat([crossed, self.dnn(e)], dim=-1))


class OwnSets(Tower):
    def build(self):
        super().build()
        self.sets = 5


class Broken(Tower):
    def logit(self, e, inputs):
        return self.dnn(e[:, 1:])


class OnlyLinear(BaseModel):
    def __init__(self, feature_map, model_id="OnlyLinear", gpu=-1, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.linear = LogisticRegression(feature_map)
        self.compile("adam", "binary_crossentropy", 1e-2)

    def forward(self, inputs):
        return {"y_pred": self.output_activation(self.linear(self.get_inputs(inputs)))}


@pytest.mark.parametrize(
    "backbone, more, message",
    [
        (SkipsIt, {}, "no place was found"),
        (SkipsIt, {"merge": "dnn"}, "reaches the prediction past >dnn.mlp.4: name a point in that branch, too"),
        (ReadsItAgain, {"merge": ">fc"}, "reaches the prediction past >fc"),
        (ReadsItDetached, {}, "depends on embeddings past cross> and >dnn.mlp.2, where no gradient goes"),
        (ChoosesByIndex, {}, "depends on embeddings past cross> and >dnn.mlp.2, where no gradient goes"),
        (OneAfterTheOther, {"merge": "activation>"}, "depends on one that was merged before"),
        (Tied, {"merge": "middle>"}, "layer.weight is used both before and behind middle>: it would belong to a set and to the head"),
        (Tied, {"merge": ">layer"}, "depends on one that was merged before"),
        (NoHead, {}, "no place was found.*average logits"),
        (LinearBeside, {"merge": "products>"}, "nothing trained lies behind products>: no head to share"),
        (Branches, {}, "branches on values that depend on its parameters"),
        (CatchesAll, {}, "catches every exception"),
        (OtherwiseInEvaluation, {}, "cross> is not passed in evaluation"),
        (
            ChangesWhatWentIn,
            {"merge": ">head"},
            "reaches the prediction past >head",
        ),
        (Counts, {}, "does not predict in training what it does unmerged.*not the same twice"),
        (Auxiliary, {}, "an auxiliary loss would see only set 0"),
        (Checkpointed, {}, "cross.layer is called, but no prediction depends on its weights"),
        (OwnSets, {}, "an attribute of its own called sets"),
        (Broken, {}, r"its forward and loss fail on a batch made from the feature map \(RuntimeError.*batch= takes"),
        (OnlyLinear, {}, "no embeddings but linear terms"),
        (Tower, {"merge": "dn"}, "unknown module in merge 'dn'; did you mean 'dnn'"),
        (Tower, {"merge": 3}, "merge must be logits, a module's path like dnn, >fc or crossnet>, or a list, got 3"),
        (Tower, {"merge": []}, "merge must be logits, a module's path"),
        (Tower, {"merge": "dnn>"}, "nothing trained lies behind dnn>: no head to share"),
        (Wide, {"merge": "linear"}, "nothing that depends on embeddings passes >linear"),
        (Crossed, {"merge": ["cross>", ">fc"]}, "depends on one that was merged before"),
        (Tower, {"num_sets": None, "merge": "dnn"}, "merge: dnn says where sets are averaged: set num_sets, too"),
        (Tower, {"num_sets": 0}, "num_sets must be an integer of 1 or more, got 0"),
        (Tower, {"num_sets": True}, "num_sets must be an integer of 1 or more, got True"),
        (Tower, {"task_sets": "yes"}, "task_sets must be True or False"),
    ],
)
def test_what_cannot_be_is_one_line(feature_map, backbone, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(backbone, feature_map, **{"num_sets": 2, **more})
    assert "\n" not in str(caught.value)
    print(caught.value)


def test_a_forward_may_catch_errors_of_its_own(feature_map):
    assert make(CatchesErrors, feature_map, num_sets=2)(batch_of(feature_map))["y_pred"].shape == (16, 1)


def test_what_is_no_fuxictr_model():
    with pytest.raises(UsageError, match="takes a class of FuxiCTR model, got <class"):
        MultiEmbeddingOf(nn.Linear)
    with pytest.raises(UsageError, match="DNN_ME has embedding sets already"):
        MultiEmbeddingOf(DNN_ME)
    with pytest.raises(UsageError, match="Tower_ME has embedding sets already"):
        MultiEmbeddingOf(MultiEmbeddingOf(Tower))


class BranchesOnIds(Crossed):
    """Another way for other ids, which one batch does not show."""

    def logit(self, e, inputs):
        if (inputs["user"] == 0).all():
            return self.fc(torch.cat([e[:, :5], self.dnn(e)], dim=-1))
        return super().logit(e, inputs)


class LooksAtTheSet(Crossed):
    """Another way for other weights, hidden from what watches."""

    def logit(self, e, inputs):
        if np.asarray(e.detach()).mean() > 5:
            return self.fc(torch.cat([e[:, :5], self.dnn(e)], dim=-1))
        return super().logit(e, inputs)


def test_sets_that_part_ways_in_training_end_it(feature_map):
    model = make(LooksAtTheSet, feature_map, num_sets=2)
    batch = batch_of(feature_map)
    model(batch)
    with torch.no_grad():
        model.sets["1"].embedding_layer.embedding_layer.embedding_layers["user"].weight.fill_(100.0)
    with pytest.raises(RunError, match=r"do not pass the same merge points in this batch: >dnn.mlp.2 \| cross>"):
        model(batch)


# --- settings


def test_keys_of_a_config_make_the_class(feature_map):
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


def test_defaults_of_the_class_and_keywords_of_its_constructor(feature_map):
    cls = MultiEmbeddingOf(Crossed, num_sets=3, merge=["fc"])
    assert cls is MultiEmbeddingOf(Crossed, num_sets=3, merge=["fc"])
    assert cls.__name__ == "Crossed_ME" and issubclass(cls, Crossed)
    own = {"verbose": 0, "model_root": "unused", "metrics": ["AUC"]}
    assert cls(feature_map, **own).num_sets == 3
    model = cls(feature_map, num_sets=2, merge=["cross>", "dnn"], **own)
    assert (model.num_sets, [str(p) for p in model.merge_points]) == (2, ["cross>", ">dnn.mlp.2"])


def test_every_set_is_seen_by_what_looks_for_collapse(feature_map):
    model = make(Tower, feature_map, num_sets=3)
    tables = {tables.field: tables for tables in find_tables(model)}
    assert {field: len(t.sets) for field, t in tables.items()} == {"user": 3, "item": 3}
