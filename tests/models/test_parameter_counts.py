"""Parameters of the paper's models at the paper's sizes, counted by hand from the paper's description.

Field sizes are those that the widely used pre-processings of the two data sets give (ids rarer than 10 merged on
Criteo, 5 on Avazu): 39 fields with 1.09 million ids, 22 with 2.02 million, as in the paper.
"""

import json

import pytest
import torch
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.paths import ROOT

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, NFwFM_ME, xDeepFM_ME

CRITEO, AVAZU = (
    list(json.loads((ROOT / "dataset_configs" / name / "vocabulary.json").read_text()).values())
    for name in ("criteo_paper", "avazu_paper")
)
SIZES = [(1, 1), (1, 2), (1, 4), (1, 10), (2, 1), (4, 1), (10, 1)]  # sets, times the base dimension
FAST = {("criteo", 1, 1), ("criteo", 1, 4), ("criteo", 2, 1), ("avazu", 2, 1)}

MLP_OPTIONS = {"net_dropout": 0.2, "batch_norm": True}
STREAMS = {f"mlp{i}_{key}": v for i in (1, 2) for key, v in (("dropout", 0.2), ("batch_norm", True))}
MODELS = {
    DNN_ME: {"hidden_units": [400, 400], **MLP_OPTIONS},
    PNN_ME: {"hidden_units": [400, 400], **MLP_OPTIONS},
    NFwFM_ME: {"hidden_units": [400, 400], **MLP_OPTIONS},
    xDeepFM_ME: {"dnn_hidden_units": [400, 400], "cin_hidden_units": [16, 16], **MLP_OPTIONS},
    DCNv2_ME: {"stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, **MLP_OPTIONS},
    FinalMLP_ME: {"mlp1_hidden_units": [400, 400], "mlp2_hidden_units": [400, 400], **STREAMS},
}


def hidden_layer(inputs):
    """Count a Linear to 400 and its BatchNorm1d (every hidden layer of the paper has one)."""
    return inputs * 400 + 400 + 2 * 400


def count_by_hand(model_class, ids, n, sets, K):
    """Count for n fields with ``ids`` ids and ``sets`` sets of dimension K."""
    tables, logit = sets * ids * K, 400 + 1
    rest = hidden_layer(400) + logit  # MLP2, shared
    if model_class is DNN_ME:
        return tables + sets * hidden_layer(n * K) + rest
    if model_class is PNN_ME:
        products = n * (n - 1) // 2
        return tables + sets * hidden_layer(products + (n * K if sets == 1 else 0)) + rest
    if model_class is NFwFM_ME:
        return tables + sets * (n * n + 2 * K + hidden_layer(K)) + rest
    if model_class is xDeepFM_ME:
        cin = (n * n * 16 + 16) + (n * 16 * 16 + 16)  # a 1x1 convolution over products of x0 and a layer's maps
        return tables + sets * (cin + hidden_layer(n * K)) + rest + (32 + 1)
    if model_class is DCNv2_ME:
        return tables + sets * (4 * ((n * K) ** 2 + n * K) + hidden_layer(n * K)) + rest
    streams = 2 * (hidden_layer(n * K) + hidden_layer(400))
    return tables + sets * streams + 2 * logit + 400 * 400  # w_x, w_y, W


@pytest.mark.parametrize("model_class", list(MODELS))
@pytest.mark.parametrize(
    ("data", "sets", "times"),
    [
        pytest.param(data, *size, marks=() if (data, *size) in FAST else pytest.mark.slow)
        for data in ("criteo", "avazu")
        for size in SIZES
    ],
)
def test_models_of_the_paper_have_its_numbers_of_parameters(model_class, data, sets, times, monkeypatch):
    field_sizes = CRITEO if data == "criteo" else AVAZU
    base = 50 if model_class is NFwFM_ME else 10
    feature_map = make_feature_map({f"f{i}": categorical(size) for i, size in enumerate(field_sizes)})
    monkeypatch.setattr(model_class, "model_to_device", lambda self: None)  # no weights: up to 10 GB of them
    settings = {**MODEL, **MODELS[model_class], "model_root": "unused", "embedding_dim": base * times}
    with torch.device("meta"):
        model = model_class(feature_map, num_sets=sets, **settings)
    expected = count_by_hand(model_class, sum(field_sizes), len(field_sizes), sets, base * times)
    assert model.num_parameters() == expected
    assert model.num_parameters() - model.num_parameters(count_embedding=False) == sets * times * base * sum(
        field_sizes
    )


def test_field_sizes_sum_to_those_of_the_paper():
    assert len(CRITEO) == 39 and sum(CRITEO) == pytest.approx(1.08e6, rel=0.01)
    assert len(AVAZU) == 22 and sum(AVAZU) == pytest.approx(2.02e6, rel=0.01)
