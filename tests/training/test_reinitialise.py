"""The callback ``ReinitialiseEmbeddings``: which weights and which optimizer state start anew, and which do not."""

import copy

import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.families import build as build_family
from helpers.feature_maps import categorical, make_feature_map, sequence, write_pretrained

from fuxictr_me import Callback, DCNv2_ME, ReinitialiseEmbeddings, attach
from fuxictr_me.training.callbacks import build
from fuxictr_me.training.callbacks.reinitialise_embeddings import reset_state
from fuxictr_me.training.parameters import split_parameters

ROWS = 24


@pytest.fixture
def kinds(tmp_path):
    write_pretrained(tmp_path, 9, 4)
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 4, "oov_idx": 8, "pretrain_usage": "init"}
    features = {
        "user": categorical(40),
        "item": categorical(7),
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(9, 2),
        "pre": categorical(9, freeze_emb=False, **pretrained),
    }
    return make_feature_map(features, tmp_path, embedding_dim=4)


class Foreign(BaseModel):
    """A FuxiCTR model without callbacks of its own."""

    def __init__(self, feature_map, optimizer="adam", **kwargs):
        super().__init__(feature_map, metrics=["AUC"], **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.fc = torch.nn.Linear(24, 1)
        self.compile(optimizer, "binary_crossentropy", 1e-2)
        self.reset_parameters()

    def forward(self, inputs):
        return {"y_pred": self.fc(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)).sigmoid()}


class Snapshots(Callback):
    """Keep a model's weights and optimizer state at the start and at the end of each epoch."""

    def __init__(self):
        self.starts, self.ends = [], []

    def on_epoch_start(self, model):
        self.starts.append(self.take(model))

    def on_epoch_end(self, model):
        self.ends.append(self.take(model))

    def take(self, model):
        states = {name: copy.deepcopy(model.optimizer.state.get(p, {})) for name, p in model.named_parameters()}
        return copy.deepcopy(model.state_dict()), states


def make_foreign(feature_map, folder, **settings):
    (folder / "made").mkdir(exist_ok=True)
    return Foreign(feature_map, model_id="m", model_root=str(folder), verbose=0, **settings)


def make_ours(feature_map, folder, **settings):
    return build_family(DCNv2_ME, feature_map, num_sets=2, model_id="m", model_root=str(folder), **settings)


def train(model, feature_map, epochs=2):
    snapshots, data = Snapshots(), [make_batch(feature_map, rows=ROWS, seed=seed) for seed in range(3)]
    attach(model, [ReinitialiseEmbeddings(), snapshots])
    model.fit(data, epochs=epochs, validation_data=data)
    return snapshots


def is_of_table(name):
    return any(f"embedding_layers.{field}.weight" in name for field in ("user", "item", "tags", "clicks"))


@pytest.mark.parametrize(
    "make, settings",
    [
        (make_ours, {}),
        (make_ours, {"optimizer": "Adagrad", "optimizer_args": {"initial_accumulator_value": 0.5}}),
        (make_ours, {"fused_embedding": False}),
        (make_foreign, {}),
        (make_foreign, {"optimizer": "SGD"}),
    ],
)
def test_only_tables_start_anew(kinds, tmp_path, make, settings):
    model = make(kinds, tmp_path, **settings)
    snapshots = train(model, kinds)
    (before, _), (after, states) = snapshots.ends[0], snapshots.starts[1]
    tables = [name for name in before if is_of_table(name)]
    assert len(tables) >= 3
    for name, weight in before.items():
        if is_of_table(name):
            assert not torch.equal(weight[1:], after[name][1:]), name
            assert not after[name][0].any() and after[name].std() < 0.8  # padding stays 0
        else:
            assert torch.equal(weight, after[name]), name
    for parameter, state in states.items():
        if parameter == "embedding_layer.table.weight" or is_of_table(parameter):
            expected = 0.5 if "sum" in state else None
            assert all((value == expected).all() for key, value in state.items() if key != "step")
            assert state.get("step", torch.tensor(0)) == 0
        elif settings.get("optimizer") != "SGD":
            assert state["step"] == 3, parameter


def test_weights_have_the_configured_distribution(tmp_path):
    feature_map = make_feature_map({"user": categorical(5000), "item": categorical(50)}, tmp_path)
    settings = {"embedding_initializer": "partial(nn.init.normal_, std=0.25)", "learning_rate": 0.5}
    snapshots = train(make_ours(feature_map, tmp_path, **settings), feature_map)
    name = "embedding_layer.sets.0.embedding_layer.embedding_layers.user.weight"
    assert snapshots.starts[1][0][name][1:].std().item() == pytest.approx(0.25, rel=0.03)


@pytest.mark.parametrize("updates", ["dense", "catch_up", "lazy"])
def test_second_epoch_equals_training_from_the_same_weights(kinds, tmp_path, updates, monkeypatch):
    """The moments and the number of steps of the tables start at 0, those of all other weights continue."""
    monkeypatch.setattr("fuxictr_me.training.catch_up.FIRST_STEPS", 2)
    model = make_ours(kinds, tmp_path, embedding_updates=updates, learning_rate=0.01)
    snapshots = train(model, kinds)
    other = make_ours(kinds, tmp_path, embedding_updates=updates, learning_rate=0.01)
    data = [make_batch(kinds, rows=ROWS, seed=seed) for seed in range(3)]
    other.load_state_dict(snapshots.starts[1][0])
    tables = {id(p) for p in split_parameters(other).tables}
    for name, parameter in other.named_parameters():
        if id(parameter) not in tables and (state := snapshots.starts[1][1][name]):
            other.optimizer.state[parameter] = copy.deepcopy(state)
    other._max_gradient_norm = 10.0
    other.train()
    for batch in data:
        other.train_step(batch)
    for name, weight in other.state_dict().items():
        torch.testing.assert_close(weight, snapshots.ends[1][0][name], rtol=1e-5, atol=1e-6, msg=name)


def test_the_state_of_other_parameters_is_kept():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    for cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.Rprop):
        optimizer = cls(parameters, lr=0.1)
        for parameter in parameters:
            parameter.grad = torch.ones(2)
        optimizer.step()
        reset_state(optimizer, parameters[:1])
        fresh = cls([parameters[0]], lr=0.1)
        assert len(optimizer.state.get(parameters[0], {})) == len(fresh.state.get(parameters[0], {}))
        assert optimizer.state[parameters[1]]["step"] == 1
        optimizer.step()  # the state is complete


def test_it_is_built_from_a_config():
    assert isinstance(build("ReinitialiseEmbeddings")[0], ReinitialiseEmbeddings)
