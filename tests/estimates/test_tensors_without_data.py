"""A simulated step on ``meta`` is the same as one on PyTorch's fake tensors."""

import importlib

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
]
EVERY = [*((family, {}) for family in FAMILIES), *((DNN_ME, changes) for changes in CHANGES), (FinalMLP_ME, CHANGES[2])]


@pytest.mark.parametrize(("model_class", "changes"), EVERY)
def test_a_step_on_meta_equals_one_on_fake_tensors(model_class, changes, monkeypatch):
    feature_map = make_feature_map({"a": categorical(40), "b": categorical(9), "c": categorical(300)})
    settings = {**SETTINGS, "embedding_regularizer": 1e-5, **changes}
    fast = simulate(model_class, feature_map, settings)
    module = importlib.import_module("fuxictr_me.estimates.simulate")
    monkeypatch.setattr(module, "_is_of_this_package", lambda _: False)
    slow = simulate(model_class, feature_map, settings)
    assert fast == slow and fast.operations


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
