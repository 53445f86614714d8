"""Small feature maps with fields of every kind."""

import json
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

MODEL = {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0}


def make_feature_map(features, folder="unused", **params):
    """Make a FuxiCTR feature map of ``{field: spec}``, as its ``load`` does."""
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
    """Write pretrained vectors of two fields, ``pre`` and ``frozen``, and FuxiCTR's vocabulary of them."""
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
