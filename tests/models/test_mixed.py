"""Sets with different interaction modules, against the single models of their interactions and plain formulas."""

import pytest
import torch
from helpers.batches import make_batch
from helpers.families import FAMILIES, HIDDEN, build
from helpers.feature_maps import MODEL, categorical, make_feature_map

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, Mixed_ME, NFwFM_ME, UsageError
from fuxictr_me.nn.aggregation import AGGREGATIONS

SMALL = {
    "hidden_units": HIDDEN,
    "num_cross_layers": 2,
    "cin_hidden_units": [3, 2],
    "stream_hidden_units": [4, 6],
    "num_heads": 2,
    "batch_norm": True,
    "embedding_dim": 4,
    "embedding_initializer": "partial(nn.init.normal_, std=0.5)",
    "model_root": "unused",
}


def build_mixed(feature_map, interactions, **more):
    return Mixed_ME(feature_map, interactions=interactions, **{**SMALL, **MODEL, **more})


def compute_representation(model, batch):
    X = model.get_inputs(batch)
    return model.represent(model.embed(X), X)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "model_class"), [("DNN", DNN_ME), ("DCNv2", DCNv2_ME), ("PNN", PNN_ME), ("NFwFM", NFwFM_ME)]
)
def test_a_set_of_a_mixed_model_equals_the_single_model(plain_map, name, model_class, training):
    interactions = ["FinalMLP", name, name, "xDeepFM"]
    model = build_mixed(plain_map, interactions, concat_embeddings=True).train(training)
    assert [(g.start, g.stop) for g in model.groups] == [(0, 1), (1, 3), (3, 4)]
    batch = make_batch(plain_map)
    h, weights = compute_representation(model, batch), model.state_dict()
    for m in (1, 2):
        single = build(model_class, plain_map, 1).train(training)
        own = {}
        for key, like in single.state_dict().items():
            source = key.replace("sets.0.", f"sets.{m}.").replace("projection.0", "projection.1")
            source = source.replace("interaction.0.", "interaction.1.inner.")
            value = weights[source]
            own[key] = value if value.shape == like.shape else value.chunk(2)[m - 1]
        single.load_state_dict(own)
        torch.testing.assert_close(h[:, m : m + 1], compute_representation(single, batch), rtol=1e-5, atol=1e-6)


def test_streams_and_cin_feed_one_projection(plain_map):
    model = build_mixed(plain_map, ["FinalMLP", "xDeepFM"], batch_norm=False).eval()
    batch, w = make_batch(plain_map), model.state_dict()
    e = model.embed(model.get_inputs(batch))
    streams = []
    for s in range(2):
        x = e[0][:, 0]
        for layer in (0, 2):
            at = f"interaction.0.inner.streams.{s}.{layer}"
            x = torch.relu(x @ w[f"{at}.weight"][0].T + w[f"{at}.bias"][0])
        streams.append(x)
    W = w["interaction.0.inner.bilinear.weight"][0]
    parts = [(x @ W[p] * y).sum(1) for p, (x, y) in enumerate(zip(*(s.split(3, dim=1) for s in streams), strict=True))]
    fused = torch.cat([*streams, torch.stack(parts, dim=1)], dim=1)
    cin = model.interaction[1].inner.cin(e[1].unflatten(-1, (3, 4)))[:, 0]
    crossed = torch.cat([cin, e[1][:, 0]], dim=1)
    h = 0
    for g, x in enumerate((fused, crossed)):
        at = f"projection.{g}.branches.0.0"
        h = h + torch.relu(x @ w[f"{at}.weight"][0].T + w[f"{at}.bias"][0]) / 2
    h = torch.relu(h @ w["head.towers.0.0.weight"][0].T + w["head.towers.0.0.bias"][0])
    logit = h @ w["head.join.fc.weight"][0].T + w["head.join.fc.bias"][0]
    torch.testing.assert_close(model(batch)["y_pred"], torch.sigmoid(logit), rtol=1e-5, atol=1e-6)


def test_parameters_are_counted_as_by_hand(plain_map):
    model = build_mixed(
        plain_map, ["DCNv2", "FinalMLP", "PNN", "xDeepFM", "NFwFM", "DNN"], embedding_dim=[4, 4, 4, 4, 4, 6]
    )

    def projection(width):
        return width * 6 + 6 + 12

    cross = 2 * (12 * 12 + 12)
    streams = 2 * (12 * 4 + 4 + 8 + 4 * 6 + 6 + 12) + 2 * 3 * 3
    cin = (3 * 9 + 3) + (2 * 9 + 2)
    networks = cross + projection(12) + streams + projection(6 + 6 + 2) + projection(3) + cin + projection(5 + 12)
    networks += 9 + 8 + projection(4) + projection(18)
    head = 6 * 5 + 5 + 10 + 5 + 1
    assert model.num_parameters() == 5 * 23 * 4 + 23 * 6 + networks + head


@pytest.mark.parametrize("aggregation", [*AGGREGATIONS])
def test_mixed_sets_train_with_every_aggregation(plain_map, aggregation):
    dims = [4, 4, 6, 2, 4, 4]
    model = build_mixed(
        plain_map,
        ["DCNv2", "DCNv2", "FinalMLP", "PNN", "NFwFM", "xDeepFM"],
        embedding_dim=dims,
        aggregation=aggregation,
        set_covariance_regularizer=0.1,
    ).train()
    batch = make_batch(plain_map)
    model.compute_loss(model(batch), model.get_labels(batch)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if "embedding_layer" in name:
            assert parameter.grad.abs().sum() > 0, name
    model._max_gradient_norm = 10.0
    first = model.train_step(batch).item()
    assert min(model.train_step(batch).item() for _ in range(20)) < first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interactions": []}, "interactions must be a list of one name for each set, got []"),
        ({"interactions": "DCNv2"}, "interactions must be a list of one name for each set, got 'DCNv2'"),
        ({"interactions": ["DCNv2", "FinalMPL"]}, "unknown interaction 'FinalMPL'; did you mean 'FinalMLP'"),
        ({"interactions": ["DNN", "PNN"], "num_sets": 3}, "interactions names 2 sets, num_sets is 3"),
        ({"interactions": ["DNN", "PNN"], "embedding_dim": [4, 4, 4]}, "names 3 sets, num_sets is 2"),
        ({"interactions": ["DNN", "PNN"], "shared_interaction": True}, "needs one interaction for all sets"),
        ({"interactions": ["DNN", "xDeepFM"], "cin_hidden_units": [0]}, "each of cin_hidden_units must be an integer"),
        ({"interactions": ["DNN", "FinalMLP"], "num_heads": 5}, "num_heads must divide the last hidden units"),
        ({"interactions": ["DNN", "PNN"], "concat_embeddings": None}, "concat_embeddings must be True or False"),
    ],
)
def test_impossible_settings_are_refused(plain_map, settings, message):
    with pytest.raises(UsageError) as caught:
        build_mixed(plain_map, **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_interactions_that_multiply_fields_need_fields_of_one_dimension():
    feature_map = make_feature_map({"user": categorical(11, embedding_dim=6), "item": categorical(7)})
    build_mixed(feature_map, ["DNN", "DCNv2", "FinalMLP"])
    with pytest.raises(UsageError, match=r"inner products need fields of one dimension, got \[4, 6\]"):
        build_mixed(feature_map, ["DNN", "PNN"])


def test_every_family_can_be_mixed(plain_map):
    names = [cls.__name__.removesuffix("_ME") for cls in FAMILIES]
    assert build_mixed(plain_map, names).num_sets == len(FAMILIES)
