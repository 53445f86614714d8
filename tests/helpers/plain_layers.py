"""Plain layers and a plain Adam step, to compare models with."""

import math

import torch

from helpers.batches import make_batch
from helpers.models import gradients, mask_of

HIDDEN = [6, 5]


L2_EMBEDDING, L2_NETWORK, LEARNING_RATE = 0.02, 0.01, 1e-3


def plain_hidden_layer(x, weight, bias, scale, shift, running, training):
    """Compute Linear, BatchNorm1d, ReLU, Dropout: (B, in) -> (B, out)."""
    z = x @ weight.T + bias
    if training:
        mean, variance = z.mean(0), ((z - z.mean(0)) ** 2).mean(0)
    else:
        mean, variance = running
    z = (z - mean) / torch.sqrt(variance + 1e-5) * scale + shift
    z = torch.where(z > 0, z, torch.zeros_like(z))
    return z * mask_of(z.shape[-1]) if training else z


def plain_adam_step(weights, gradients):
    """Compute the first step of Adam after clipping the norm of all gradients to 10."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    updated = {}
    for name, gradient in gradients.items():
        g = gradient * min(1.0, 10 / (norm + 1e-6))
        first, second = 0.1 * g / (1 - 0.9), 0.001 * g**2 / (1 - 0.999)
        updated[name] = weights[name] - LEARNING_RATE * first / (torch.sqrt(second) + 1e-8)
    return updated


def read_parts(model, feature_map):
    """Return a batch, its features and labels, the weights by name, and the names of trained parameters."""
    batch = make_batch(feature_map, rows=32)
    X = {field: batch[field] for field in feature_map.features}
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    trained = list(gradients(model))
    return batch, X, batch["label"].float().view(-1, 1), weights, trained
