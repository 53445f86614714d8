"""The fast models equal multi-embedding written on FuxiCTR's layers (benchmarks/plain.py), in float64."""

import re

import pytest
import torch
from helpers.batches import make_batch
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.paths import ROOT
from helpers.plain_models import PAIRS, SETTINGS, plain_models

FAMILIES = pytest.mark.parametrize("family", list(PAIRS))
SETS = pytest.mark.parametrize("num_sets", [1, 2, 4])
L2 = {"embedding_regularizer": 0.02, "net_regularizer": 0.01}


pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def feature_map():
    features = {
        "user": categorical(11),
        "item": categorical(7),
        "place": categorical(5, embedding_dim=6),
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(9, 2),
    }
    return make_feature_map(features)


def build(family, feature_map, num_sets, **settings):
    """The fast and the plain model, with equal weights and with running statistics that matter."""
    our_class, plain_class, options = PAIRS[family]
    settings = {**SETTINGS, **options, **settings}
    ours, plain = (cls(feature_map, num_sets=num_sets, **settings).double() for cls in (our_class, plain_class))
    for name, tensor in ours.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and not name.startswith("embedding_layer"):
            tensor += 0.3 * torch.randn_like(tensor)
    plain_models.copy_weights(ours, plain)
    return ours, plain


def assert_equal(mine, theirs):
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@FAMILIES
@SETS
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_equal(feature_map, family, num_sets, training):
    batch = make_batch(feature_map)
    mine, theirs = (model.train(training)(batch)["y_pred"] for model in build(family, feature_map, num_sets))
    assert mine.dtype == torch.float64 and mine.std() > 1e-3
    assert_equal(mine, theirs)


@FAMILIES
@SETS
def test_gradient_of_every_parameter_is_equal(feature_map, family, num_sets):
    ours, plain = build(family, feature_map, num_sets)
    batch = make_batch(feature_map)
    for model in (ours, plain):
        model.train()
        model.compute_loss(model(batch), model.get_labels(batch)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.grad)  # so the state dict names and shapes the gradients
    mine, theirs = plain_models.to_plain(ours.state_dict(), plain), plain.state_dict()
    assert all(gradient.abs().max() > 0 for gradient in theirs.values())
    assert_equal(mine, theirs)


@FAMILIES
@SETS
@pytest.mark.parametrize("max_gradient_norm", [0.5, 1000.0])
def test_steps_of_fuxictr_are_equal(feature_map, family, num_sets, max_gradient_norm):
    ours, plain = build(family, feature_map, num_sets, **L2)
    for model in (ours, plain):
        model.train()
        model._max_gradient_norm = max_gradient_norm
    for seed in range(3):
        mine, theirs = (model.train_step(make_batch(feature_map, seed=seed)) for model in (ours, plain))
        assert_equal(mine.detach(), theirs.detach())
    assert_equal(plain_models.to_plain(ours.state_dict(), plain), dict(plain.state_dict()))


@FAMILIES
def test_evaluation_is_equal(feature_map, family):
    batches = [make_batch(feature_map, seed=seed) for seed in (1, 2)]
    mine, theirs = (model.evaluate(batches) for model in build(family, feature_map, 3))
    assert mine.keys() == {"AUC", "logloss"}
    assert mine == pytest.approx(theirs, abs=1e-12)


def test_models_that_do_not_correspond_are_refused(feature_map):
    ours, _ = build("DCNv2", feature_map, 2)
    with pytest.raises(KeyError, match="crossnets"):
        plain_models.copy_weights(ours, plain_models.PlainDNNME(feature_map, num_sets=2, **SETTINGS))
    deeper = {**SETTINGS, **PAIRS["DCNv2"][2], "num_cross_layers": 4}
    with pytest.raises(RuntimeError, match=r"Missing key.*crossnets\.0\.cross_layers\.3"):
        plain_models.copy_weights(ours, plain_models.PlainDCNv2ME(feature_map, num_sets=2, **deeper))


def test_plain_models_use_fuxictrs_layers_only():
    source = (ROOT / "benchmarks" / "plain.py").read_text()
    assert not re.search(r"^\s*(from|import) fuxictr_me", source, flags=re.MULTILINE)
