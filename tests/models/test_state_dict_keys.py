"""Checkpoints of earlier versions must load: names and shapes of all weights are pinned in state_dict_keys.json.

No other test pins them. If a change is intended, describe in CHANGELOG.md how old checkpoints are converted.
"""

import json
from pathlib import Path

import pytest
from helpers.families import FAMILIES, build
from helpers.feature_maps import categorical, make_feature_map
from helpers.toy_models import Tower

from fuxictr_me import Mixed_ME, MultiEmbeddingOf

PINNED = json.loads((Path(__file__).parent / "state_dict_keys.json").read_text())
OPTIONS = {
    Mixed_ME: {
        "interactions": ["DNN", "DCNv2", "DCNv2", "FinalMLP", "NFwFM", "PNN", "xDeepFM"],
        "hidden_units": [6, 5],
        "num_cross_layers": 1,
        "cin_hidden_units": [3],
        "stream_hidden_units": [4],
    }
}


@pytest.fixture
def two_fields():
    return make_feature_map({"user": categorical(11), "item": categorical(7)}, embedding_dim=4)


def shapes_of(model):
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("model_class", [*FAMILIES, Mixed_ME])
def test_names_and_shapes_of_weights_stay_the_same(two_fields, model_class, fused):
    num_sets = None if model_class is Mixed_ME else 2
    model = build(model_class, two_fields, num_sets, fused_embedding=fused, **OPTIONS.get(model_class, {}))
    assert list(shapes_of(model).items()) == list(PINNED[model_class.__name__].items())


def test_names_and_shapes_of_a_wrapped_model_stay_the_same(two_fields):
    model = MultiEmbeddingOf(Tower, num_sets=2)(two_fields, verbose=0, model_root="unused", metrics=["AUC"])
    assert list(shapes_of(model).items()) == list(PINNED["MultiEmbeddingOf"].items())
