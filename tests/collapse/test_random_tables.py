"""Information abundance of random tables: drawn, and from Bartlett's factor."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.embedding_layers import INITIALIZER
from torch import nn

from fuxictr_me.collapse import information_abundance, random_abundance
from fuxictr_me.collapse.random_tables import DRAWN_ROWS, bartlett_factor, is_centred, random_reference


@pytest.mark.parametrize("initializer", [INITIALIZER, nn.init.xavier_uniform_, partial(nn.init.uniform_, a=-1, b=1)])
def test_bartlett_factor_has_the_abundance_of_a_random_table(initializer):
    """Bartlett's factor against whole tables, also of uniform entries; IA varies by less than 1% between draws."""
    assert is_centred(initializer)
    D, dim = 20_000, 16
    drawn = [random_abundance(D, [dim], initializer, seed) for seed in range(5)]
    by_factor = [information_abundance(bartlett_factor(D, dim, seed)) for seed in range(5)]
    assert np.mean(by_factor) == pytest.approx(np.mean(drawn), rel=0.005)
    assert max(drawn) / min(drawn) < 1.02


def test_bartlett_factor_has_the_moments_of_a_gaussian_table():
    R = torch.stack([bartlett_factor(50, 3, seed) for seed in range(4_000)])
    products = R.transpose(1, 2) @ R  # E[RᵀR] = 50 I, with standard deviations √100 and √50 of one entry
    assert torch.equal(R.tril(-1), torch.zeros_like(R))
    torch.testing.assert_close(products.mean(dim=0), 50.0 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.8)
    torch.testing.assert_close(products.var(dim=0)[0], torch.tensor([100.0, 50.0, 50.0]).double(), rtol=0.1, atol=0)


def test_random_reference_draws_small_tables_and_those_not_centred():
    small = random_reference(500, (3, 4), INITIALIZER)
    assert small.ia == random_abundance(500, [3, 4], INITIALIZER) and small.rms == pytest.approx(1e-4, rel=0.05)
    assert not is_centred(nn.init.orthogonal_) and not is_centred(nn.init.uniform_)
    assert not is_centred(partial(nn.init.normal_, mean=1.0))
    tall = DRAWN_ROWS + 1
    assert random_reference(tall, (4,), nn.init.uniform_).ia == random_abundance(tall, [4], nn.init.uniform_)
    assert random_reference(tall, (4,), nn.init.uniform_).ia < 2 < random_reference(tall, (4,), INITIALIZER).ia
    xavier = random_reference(tall, (4,), nn.init.xavier_normal_)
    assert xavier.rms == pytest.approx((2 / (tall + 4)) ** 0.5, rel=0.02)


def test_random_reference_is_seeded_and_leaves_the_random_state():
    initializer = torch.nn.init.normal_
    before = torch.random.get_rng_state()
    one = random_abundance(50, [4, 4], initializer)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one == random_abundance(50, [4, 4], initializer) != random_abundance(50, [4, 4], initializer, seed=1)
    many = [random_abundance(2000, [16], initializer, seed=s) for s in range(3)]
    expected = [information_abundance(np.random.randn(2000, 16)) for _ in range(3)]
    assert np.mean(many) == pytest.approx(np.mean(expected), rel=0.02)
