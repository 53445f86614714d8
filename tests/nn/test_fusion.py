"""Sets with their own heads: confidence-weighted fusion and mutual learning, against plain loops over rows and sets."""

import itertools

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build, single_model
from helpers.models import gradients

from fuxictr_me import DNN_ME, DCNv2_ME, UsageError, xDeepFM_ME
from fuxictr_me.config.model_options import OWN_HEADS
from fuxictr_me.nn.fusion import FUSIONS, average_logits, binary_entropy, fuse_by_confidence
from fuxictr_me.nn.penalties import mutual_learning

REGRESSION = {"task": "regression", "loss": "mse_loss", "metrics": ["MSE"], "monitor": "MSE", "monitor_mode": "min"}
LOGITS = torch.randn(7, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
EXTREMES = torch.tensor(list(itertools.product([-100.0, -20, 0, 1e-8, 20, 100], repeat=3))).unsqueeze(-1)


def plain_probability(logit):
    return 1 / (1 + np.exp(-logit))


def plain_confidence_fusion(logits):
    """(B, M) -> the probability of each row."""
    fused = []
    for row in logits:
        p = [plain_probability(z) for z in row]
        confidence = [q * np.log(q) + (1 - q) * np.log(1 - q) for q in p]
        total = sum(np.exp(c) for c in confidence)
        fused.append(sum(np.exp(c) / total * q for c, q in zip(confidence, p, strict=True)))
    return np.array(fused)


def plain_mutual_learning(logits):
    """(B, M) -> a number."""

    def divergence(p, q):
        return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))

    values = []
    for row in logits:
        for a, b in itertools.combinations([plain_probability(z) for z in row], 2):
            values.append((divergence(a, b) + divergence(b, a)) / 2)
    return np.mean(values)


def logits_of_sets(model, batch):
    """Return the logits of single models with the weights of each set: (B, M)."""
    settings = {"use_linear_term": True} if getattr(model, "lr_layer", None) else {}
    singles = [single_model(model, m, **settings).double().train(model.training) for m in range(model.num_sets)]
    return np.stack([torch.logit(single(batch)["y_pred"]).detach().numpy()[:, 0] for single in singles], axis=1)


def test_predictions_are_weighted_by_negative_entropy():
    expected = plain_confidence_fusion(LOGITS[..., 0].numpy())
    found = torch.sigmoid(fuse_by_confidence(LOGITS))[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.abs(found - torch.sigmoid(average_logits(LOGITS))[:, 0].numpy()).max() > 0.01
    sure_and_not = torch.tensor([[[4.0], [0.1]]], dtype=torch.float64)
    assert torch.sigmoid(fuse_by_confidence(sure_and_not)) > torch.sigmoid(sure_and_not).mean()


def test_the_divergence_between_predictions_is_its_formula():
    assert mutual_learning(LOGITS).item() == pytest.approx(plain_mutual_learning(LOGITS[..., 0].numpy()), rel=1e-12)
    assert mutual_learning(LOGITS[:, :1].expand(-1, 3, -1)) < 1e-30


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_have_finite_results_and_gradients(dtype):
    z = EXTREMES.to(dtype).detach().clone().requires_grad_()
    fused, penalty = fuse_by_confidence(z), mutual_learning(z)
    assert fused.isfinite().all() and penalty.isfinite() and (binary_entropy(z) >= 0).all()
    (fused.sum() + penalty).backward()
    assert z.grad.isfinite().all()
    one_hundred = torch.full((1, 3, 1), 100.0, dtype=dtype)
    assert fuse_by_confidence(one_hundred).item() == pytest.approx(100)
    opposite = torch.tensor([[[100.0], [-100.0]]], dtype=dtype)
    assert fuse_by_confidence(opposite).item() == pytest.approx(0) and mutual_learning(opposite).item() == 100


def test_gradients_pass_through_the_weights_and_to_both_sides():
    z = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(fuse_by_confidence, z) and torch.autograd.gradcheck(mutual_learning, z)


def test_bfloat16_logits_are_fused_in_float32():
    z = LOGITS.bfloat16()
    assert torch.equal(fuse_by_confidence(z), fuse_by_confidence(z.float()))
    assert torch.equal(mutual_learning(z), mutual_learning(z.float()))


def test_every_aggregation_with_own_heads_has_a_fusion():
    assert set(FUSIONS) == set(OWN_HEADS)


@EVERY_FAMILY
@pytest.mark.parametrize("training", [True, False])
def test_a_model_fuses_the_predictions_of_single_models(plain_map, model_class, training):
    settings = {"use_linear_term": True} if model_class is xDeepFM_ME else {}
    model = build(model_class, plain_map, aggregation="confidence", **settings).double().train(training)
    batch = make_batch(plain_map)
    expected = plain_confidence_fusion(logits_of_sets(model, batch))
    y_pred = model(batch)["y_pred"]
    np.testing.assert_allclose(y_pred[:, 0].detach().numpy(), expected, rtol=1e-9)
    model.compute_loss({"y_pred": y_pred}, model.get_labels(batch).double()).backward()
    for name, gradient in gradients(model).items():
        assert gradient is not None and gradient.isfinite().all(), name
        assert "embedding" not in name or gradient.abs().sum() > 0, name


@EVERY_FAMILY
@pytest.mark.parametrize("aggregation", OWN_HEADS)
def test_mutual_learning_is_added_to_the_training_loss(plain_map, model_class, aggregation):
    settings = {"aggregation": aggregation, **({"use_linear_term": True} if model_class is xDeepFM_ME else {})}
    plain = build(model_class, plain_map, **settings).double().train()
    model = build(model_class, plain_map, mutual_learning_regularizer=0.3, **settings).double().train()
    model.load_state_dict(plain.state_dict())
    batch = make_batch(plain_map)
    expected = 0.3 * plain_mutual_learning(logits_of_sets(model, batch))
    result, without = model(batch), plain(batch)
    y = model.get_labels(batch).double()
    assert list(result["penalties"]) == ["mutual_learning"] and torch.equal(result["y_pred"], without["y_pred"])
    assert expected > 1e-4 and result["penalties"]["mutual_learning"].item() == pytest.approx(expected, rel=1e-8)
    added = model.compute_loss(result, y) - plain.compute_loss(without, y)
    assert added.item() == pytest.approx(expected, rel=1e-8)
    assert "penalties" not in model.eval()(batch)


def test_mutual_learning_draws_the_predictions_of_sets_together(plain_map):
    settings, spreads = {"aggregation": "confidence", "learning_rate": 1e-2}, []
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        model = build(DNN_ME, plain_map, mutual_learning_regularizer=weight, **settings).train()
        model._max_gradient_norm = 10.0
        for seed in range(30):
            model.train_step(make_batch(plain_map, seed=seed))
        spreads.append(logits_of_sets(model.double().eval(), make_batch(plain_map)).std(axis=1).mean())
    assert spreads[1] < spreads[0] / 2


class OwnLogit(DNN_ME):
    """A model whose ``logit`` does not tell the sets apart."""

    def logit(self, h, e, X):
        return super().logit(h, e, X) + 1


@pytest.mark.parametrize(
    ("model_class", "settings", "message"),
    [
        (DNN_ME, {"num_sets": 1, "aggregation": "confidence"}, "confidence needs two sets or more, got num_sets 1"),
        (DNN_ME, {"nonlinear_projection": False, "aggregation": "confidence"}, "would be activated by itself anyway"),
        (
            DCNv2_ME,
            {"mutual_learning_regularizer": 0.1},
            "it needs aggregation ensemble or confidence, with which each set has its own head, got 'mean'",
        ),
        (
            DNN_ME,
            {**REGRESSION, "aggregation": "confidence"},
            "aggregation: confidence uses the probabilities that sets predict: a regression has none",
        ),
        (
            DNN_ME,
            {**REGRESSION, "aggregation": "ensemble", "mutual_learning_regularizer": 0.1},
            "mutual_learning_regularizer uses the probabilities that sets predict: a regression has none",
        ),
        (
            OwnLogit,
            {"aggregation": "ensemble", "mutual_learning_regularizer": 0.1},
            "needs the logit of each set: OwnLogit must define set_logits instead of logit",
        ),
    ],
)
def test_predictions_that_cannot_be_used_are_refused_with_a_reason(plain_map, model_class, settings, message):
    with pytest.raises(UsageError) as caught:
        build(model_class, plain_map, **{"num_sets": 3, **settings})
    assert message in str(caught.value) and "\n" not in str(caught.value)
