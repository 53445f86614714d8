"""Small feature maps, batches and models that the tests share."""

import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anybody imports Triton, which reads it then
from forked import run_forked
from fuxictr.features import FeatureMap

from fuxictr_me import MultiEmbedding

ROOT = Path(__file__).resolve().parent.parent
MODEL = {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0}


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


def close_logs():
    """End FuxiCTR's log, to a file of the test's folder and to its captured output, which ends with the test."""
    for handler in logging.root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
            handler.close()
    logging.root.setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def no_log_left():
    yield
    close_logs()


def make_feature_map(features, folder="unused", **params):
    """A FuxiCTR feature map of ``{field: spec}``, as its own ``load`` makes it."""
    feature_map = FeatureMap("made", str(folder))
    path = Path(folder) / "feature_map.json"
    content = {"dataset_id": "made", "labels": ["label"], "features": [{k: v} for k, v in features.items()]}
    if path.parent.is_dir():
        path.write_text(json.dumps(content))
        feature_map.load(str(path), params)
    else:
        feature_map.features.update(features)
        feature_map.labels = ["label"]
        feature_map.num_fields = feature_map.get_num_fields()
        feature_map.default_emb_dim = params.get("embedding_dim")
        feature_map.set_column_index()
    return feature_map


def categorical(vocab_size, **more):
    return {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": vocab_size, **more}


def sequence(vocab_size, max_len, **more):
    encoder = {"feature_encoder": "layers.MaskedAveragePooling()"}
    return {
        "source": "",
        "type": "sequence",
        "padding_idx": 0,
        "vocab_size": vocab_size,
        "max_len": max_len,
        **encoder,
        **more,
    }


def write_pretrained(folder, vocab_size, dim):
    """Vectors of two fields, ``pre`` and ``frozen``, and FuxiCTR's vocabulary of them."""
    np.savez(
        folder / "vectors.npz",
        key=np.array([str(i) for i in range(1, vocab_size)]),
        value=np.random.randn(vocab_size - 1, dim),
    )
    vocab = {
        "other": {"a": 1},
        "pre": {str(i): i for i in range(1, vocab_size)},
        "frozen": {str(i): i for i in range(1, vocab_size)},
    }
    (folder / "feature_vocab.json").write_text(json.dumps(vocab))


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


def make_batch(feature_map, rows=32, seed=1):
    """A batch as FuxiCTR's loaders give it."""
    random = torch.Generator().manual_seed(seed)
    batch = {}
    for field, spec in feature_map.features.items():
        if spec["type"] == "numeric":
            batch[field] = torch.randn(rows, generator=random, dtype=torch.float64)
        elif spec["type"] == "categorical":
            batch[field] = torch.randint(1, spec["vocab_size"], (rows,), generator=random)
        elif spec["type"] == "sequence":
            batch[field] = torch.randint(0, spec["vocab_size"], (rows, spec["max_len"]), generator=random)
        elif spec["type"] == "embedding":
            batch[field] = torch.randn(rows, spec["pretrain_dim"], generator=random)
    batch["label"] = torch.randint(0, 2, (rows,), generator=random).double()
    return batch


def inputs_of(feature_map, **more):
    """A batch without its labels."""
    batch = make_batch(feature_map, **more)
    return {k: v for k, v in batch.items() if k != "label"}


def gradients(model):
    """Name in the state dict -> gradient, of every trained parameter; those of a fused table in parts."""
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        table = getattr(module, "table", None)
        if isinstance(module, MultiEmbedding) and table is not None:
            whole = found.pop(f"{prefix}.table.weight")
            for m, columns in enumerate(table.columns):
                for field, rows in zip(table.fields, table.rows, strict=True):
                    name = f"{prefix}.sets.{m}.embedding_layer.embedding_layers.{field}.weight"
                    found[name] = None if whole is None else whole[rows, columns]
    return found


@pytest.fixture
def plain_map():
    """Three categorical fields."""
    return make_feature_map({"user": categorical(11), "item": categorical(7), "place": categorical(5)})


def run_cli(*arguments, cwd, **environment):
    """``python -m fuxictr_me`` in a process of its own; with variables of its own, one that begins with Python."""
    if not environment:
        return run_forked(*arguments, cwd=cwd)
    return subprocess.run(
        [sys.executable, "-m", "fuxictr_me", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def fixed_dropout(monkeypatch):
    """Dropout with p = 0.2 and the same mask everywhere: every third channel is dropped."""

    def dropout(x, p=0.5, training=True, inplace=False):
        return x * mask_of(x.shape[-1]) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)


def mask_of(width):
    return (torch.arange(width) % 3 != 1).float() / 0.8


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
