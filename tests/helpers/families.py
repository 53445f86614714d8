"""All model families at a small size, and single-embedding models with the weights of one set."""

import pytest

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, NFwFM_ME, xDeepFM_ME
from helpers.feature_maps import MODEL

HIDDEN = [6, 5]
FAMILIES = {
    DNN_ME: {"hidden_units": HIDDEN},
    PNN_ME: {"hidden_units": HIDDEN, "concat_embeddings": True},
    NFwFM_ME: {"hidden_units": HIDDEN},
    xDeepFM_ME: {"dnn_hidden_units": HIDDEN, "cin_hidden_units": [3, 2]},
    DCNv2_ME: {"stacked_dnn_hidden_units": HIDDEN, "num_cross_layers": 2},
    FinalMLP_ME: {"mlp1_hidden_units": HIDDEN, "mlp2_hidden_units": [4, 3]},
}
EVERY_FAMILY = pytest.mark.parametrize("model_class", list(FAMILIES))


def build(model_class, feature_map, num_sets=3, dropout=0, batch_norm=True, **more):
    """Build a small model whose embeddings are not tiny."""
    if model_class is FinalMLP_ME:
        layers = {f"mlp{i}_{key}": v for i in (1, 2) for key, v in (("dropout", dropout), ("batch_norm", batch_norm))}
    else:
        layers = {"net_dropout": dropout, "batch_norm": batch_norm}
    settings = {"embedding_dim": 4, "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}
    settings |= {**FAMILIES.get(model_class, {}), **layers, **MODEL, "model_root": "unused", **more}
    return model_class(feature_map, num_sets=num_sets, **settings)


def single_model(model, m, **settings):
    """Build a single-embedding model with the weights of set ``m`` of ``model`` and ``settings`` (of ``build``)."""
    dim = model.embedding_layer.embedding_dims[m]
    single = build(type(model), model.feature_map, 1, **{**settings, "embedding_dim": dim})
    single.load_state_dict(weights_of_set(model, m, single.state_dict()))
    return single


def weights_of_set(model, m, wanted):
    """Return the state dict of set ``m``: its part of tensors that hold several sets."""
    group = next(g for g, sets in enumerate(model.groups) if sets.start <= m < sets.stop)
    sets, weights = model.groups[group], model.state_dict()
    own = {}
    for key, like in wanted.items():
        source = key.replace("embedding_layer.sets.0.", f"embedding_layer.sets.{m}.")
        for part in ("interaction", "projection"):
            source = source.replace(f"{part}.0.", f"{part}.{group}.")
        value = weights[source]
        if value.shape != like.shape:
            count = model.num_sets if source.startswith("head.") else sets.stop - sets.start
            value = value.chunk(count)[m if source.startswith("head.") else m - sets.start]
        own[key] = value.clone()
    return own
