"""A simulated step on ``meta`` is the same as one on PyTorch's fake tensors."""

import importlib
from dataclasses import replace

import pytest
import torch
from helpers.families import FAMILIES
from helpers.feature_maps import MODEL, categorical, make_feature_map

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME
from fuxictr_me.estimates import simulate
from fuxictr_me.estimates.tensors_without_data import tensors_without_data

SETTINGS = {**MODEL, "model_root": "unused", "num_sets": 2, "embedding_dim": 4, "batch_size": 16}
CHANGES = [
    {"embedding_updates": "lazy", "embedding_regularizer": 0, "net_regularizer": 1e-6},
    {"embedding_updates": "catch_up", "embedding_regularizer": 0},
    {"optimizer": "SGD"},
    {"optimizer": "adagrad"},
    {"fused_embedding": False},
    {"aggregation": "ensemble", "net_dropout": 0.1},
    {"optimizer_args": {"amsgrad": True}},
    {"aggregation": "elementwise_gated"},
    {"aggregation": "confidence", "mutual_learning_regularizer": 1e-3},
    {"set_covariance_regularizer": 1e-3, "space_similarity_regularizer": 1e-3, "singular_value_regularizer": 1e-3},
]
EVERY = [*((family, {}) for family in FAMILIES), *((DNN_ME, changes) for changes in CHANGES), (FinalMLP_ME, CHANGES[2])]


@pytest.mark.parametrize(("model_class", "changes"), EVERY)
def test_a_step_on_meta_equals_one_on_fake_tensors(model_class, changes, monkeypatch):
    feature_map = make_feature_map(
        {name: categorical(ids) for name, ids in (("a", 40), ("b", 9), ("c", 300), ("d", 5))}
    )
    settings = {**SETTINGS, "embedding_regularizer": 1e-5, **changes}
    fast = simulate(model_class, feature_map, settings)
    module = importlib.import_module("fuxictr_me.estimates.simulate")
    monkeypatch.setattr(module, "_is_of_this_package", lambda _: False)
    slow = simulate(model_class, feature_map, settings)
    copies = [operation for operation in slow.operations if operation.name == "lift_fresh"]  # of a list of numbers
    assert all(operation.bytes < 100 for operation in copies)
    slow = replace(slow, operations=[operation for operation in slow.operations if operation not in copies])
    assert fast == slow and fast.operations


class ReadsValues(torch.nn.ReLU):
    """An activation that ``meta`` does not allow, and fake tensors do."""

    def forward(self, x):
        assert len(x.flatten()[:2].tolist()) == 2
        return super().forward(x)


def test_code_that_reads_values_is_simulated_on_fake_tensors():
    feature_map = make_feature_map({"a": categorical(40), "b": categorical(9)})
    plain, reading = (
        simulate(DNN_ME, feature_map, {**SETTINGS, "hidden_activations": activation})
        for activation in ("ReLU", ReadsValues())
    )
    assert plain.memory.peak == pytest.approx(reading.memory.peak, rel=0.01)


def test_tensors_on_meta_say_that_they_are_on_the_cpu():
    with tensors_without_data(is_fast=True):
        made = [torch.zeros(3), torch.tensor([1.0, 2.0]), torch.ones(2, device="cpu").to("cpu") + 1]
        assert {x.device.type for x in made} == {"cpu"}
    assert all(x.is_meta for x in made) and made[1].shape == (2,)
    assert torch.zeros(3).device.type == "cpu"


def test_a_large_model_is_simulated_without_its_memory():
    feature_map = make_feature_map({f"f{i}": categorical(10**9) for i in range(3)})  # 48 GB for each set of 4 columns
    found = simulate(DCNv2_ME, feature_map, {**SETTINGS, "num_sets": 10})
    assert found.memory.weights > 4 * 3 * 10**9 * 4 * 10
