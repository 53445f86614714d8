"""Fixtures of all tests."""

import gc
import os

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anybody imports Triton, which reads it then
from helpers.feature_maps import categorical, make_feature_map, sequence, write_pretrained
from helpers.logs import close_logs
from helpers.models import mask_of

pytest_plugins = ["helpers.fuxictr_checkout"]  # the fixture ``checkout``


def pytest_collection_finish():
    """Let garbage collections pass over all that is imported: a million objects that stay."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def no_log_left():
    yield
    close_logs()


@pytest.fixture
def every_kind(tmp_path):
    """A feature map with every kind of field that FuxiCTR knows."""
    write_pretrained(tmp_path, 9, 6)
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 6, "oov_idx": 8}
    features = {
        "user": categorical(11),
        "price": {"source": "", "type": "numeric"},
        "history": sequence(13, 4),
        "summed": sequence(13, 4, feature_encoder="layers.MaskedSumPooling()"),
        "item": categorical(13),
        "last_item": categorical(13, share_embedding="item"),
        "vector": {"source": "", "type": "embedding", "pretrain_dim": 5},
        "pre": categorical(9, freeze_emb=False, pretrain_usage="init", **pretrained),
        "frozen": categorical(9, freeze_emb=True, pretrain_usage="concat", **pretrained),
        "session": {"type": "meta"},
    }
    return make_feature_map(features, tmp_path, embedding_dim=4)


@pytest.fixture
def plain_map():
    """Three categorical fields."""
    return make_feature_map({"user": categorical(11), "item": categorical(7), "place": categorical(5)})


@pytest.fixture
def fixed_dropout(monkeypatch):
    """Dropout with p = 0.2 and the same mask everywhere: every third channel is dropped."""

    def dropout(x, p=0.5, training=True, inplace=False):
        return x * mask_of(x.shape[-1]) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)


@pytest.fixture
def float64(monkeypatch, fixed_dropout):
    """FuxiCTR casts labels, numbers and masks by ``.float()``; here to float64. Dropout drops the same everywhere."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def exact(float64):
    """Models are built in float64, so that they can be traced with FuxiCTR's casts to it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """The test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def double(monkeypatch):
    """FuxiCTR casts labels by ``.float()``; here to float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
