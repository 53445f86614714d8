"""Pairs of models that must stay equal during training, and batches of rare ids."""

import torch

from fuxictr_me.training.catch_up import WINDOW
from helpers.batches import make_batch
from helpers.plain_models import PAIRS, SETTINGS, plain_models


def two_models(family, feature_map, num_sets=3, dtype=torch.float64, **settings):
    """Return a fast and a plain model of a family with equal weights."""
    our_class, plain_class, options = PAIRS[family]
    updates = settings.pop("embedding_updates", "dense")
    settings = {**SETTINGS, **options, **settings}
    ours = our_class(feature_map, num_sets=num_sets, embedding_updates=updates, **settings).to(dtype)
    plain = plain_class(feature_map, num_sets=num_sets, **settings).to(dtype)
    plain_models.copy_weights(ours, plain)
    for model in (ours, plain):
        model.train()
        model._max_gradient_norm = 10.0
    return ours, plain


def difference(ours, plain):
    """Return the largest difference between two models' weights."""
    mine, theirs = plain_models.to_plain(ours.state_dict(), plain), plain.state_dict()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in theirs)


def rare_batches(feature_map, steps):
    """Yield (step, batch) with a few ids each. User 1 occurs in step 205 and then only in step 205 + WINDOW + 60."""
    for step in range(steps):
        batch = make_batch(feature_map, rows=6, seed=step)
        batch["user"] = batch["user"].clamp(min=2)
        if step in (205, 205 + WINDOW + 60):
            batch["user"][0] = 1
        yield step, batch
