"""The toy experiment, against autograd and SGD."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fuxictr_me import UsageError, information_abundance
from fuxictr_me.collapse.toy import toy, toy_data, toy_gradient


def fm_logits(tables, ids):
    e = torch.stack([table[x] for table, x in zip(tables, ids, strict=True)], dim=1)  # (B, F, K)
    gram = e @ e.transpose(1, 2)
    return torch.stack([gram[:, i, j] for i in range(len(tables)) for j in range(i + 1, len(tables))]).sum(dim=0)


def gradient_by_autograd(tables, ids, y):
    E1 = tables[0].clone().requires_grad_()
    binary_cross_entropy_with_logits(fm_logits([E1, *tables[1:]], ids), y).backward()
    return E1.grad


def every_row(data):
    x1, x2 = (x.flatten() for x in torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij"))
    return [x1, x2, data.x3.flatten()], data.y.flatten()


@pytest.mark.parametrize("d3", [1, 3, 100])
def test_toy_gradient_equals_autograd(d3):
    data = toy_data(d3, dim=5, seed=3)
    ids, y = every_row(data)
    expected = gradient_by_autograd([data.E1, data.E2, data.E3], ids, y)
    e3 = data.E3[data.x3]
    got = toy_gradient(data.E1, data.E2 + e3, torch.einsum("bk,abk->ab", data.E2, e3), data.y)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-14)


def test_trajectory_equals_sgd():
    data = toy_data(3, seed=1)
    ids, y = every_row(data)
    E1 = torch.nn.Parameter(data.E1.clone())
    optimizer = torch.optim.SGD([E1], lr=2.0)
    expected = [information_abundance(E1)]
    for _ in range(4):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(fm_logits([E1, data.E2, data.E3], ids), y).backward()
        optimizer.step()
        expected.append(information_abundance(E1))
    np.testing.assert_allclose(toy(3, iterations=4, lr=2.0, seed=1), expected, rtol=1e-9)
    assert len(set(expected)) == 5


def test_data_has_the_distribution_of_the_paper():
    state = torch.get_rng_state()
    few, many = toy_data(3, seed=5), toy_data(100, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(getattr(few, name), getattr(many, name)) for name in ("E1", "E2", "y"))
    assert few.E1.shape == few.E2.shape == many.E3.shape == (100, 10) and few.E3.shape == (3, 10)
    assert few.x3.shape == few.y.shape == (100, 100)
    for ids, count in ((few.x3, 3), (many.x3, 100), (few.y.long(), 2)):
        occurrences = torch.bincount(ids.flatten(), minlength=count)
        assert len(occurrences) == count and (occurrences - 10_000 / count).abs().max() < 5 * (10_000 / count) ** 0.5
    assert few.E1.std() == pytest.approx(1, abs=0.1) and few.E1.mean() == pytest.approx(0, abs=0.1)
    assert not torch.equal(few.E1, toy_data(3, seed=6).E1)


def test_a_field_with_few_ids_makes_its_partner_collapse():
    for seed in range(4):
        few, many = (toy(d3, iterations=400, seed=seed) for d3 in (3, 100))
        assert few[0] == many[0] and few[-1] < many[-1] - 0.15 and few[-1] < few[0] - 0.5


@pytest.mark.parametrize("settings", [{"d3": 0}, {"d3": 3, "dim": 0}, {"d3": 2.5}])
def test_wrong_sizes_are_refused(settings):
    with pytest.raises(UsageError, match="must be an integer of 1 or more"):
        toy(**settings, iterations=1)


def test_the_picture_is_written_as_png_and_svg(tmp_path):
    pytest.importorskip("matplotlib")
    from fuxictr_me.reports.collapse.toy_figure import draw_toy

    runs = {d3: [toy(d3, iterations=20, seed=seed) for seed in range(2)] for d3 in (3, 100)}
    png, svg = draw_toy(runs, tmp_path / "toy.png")
    assert (png.name, svg.name) == ("toy.png", "toy.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text(encoding="utf-8")
    assert all(color in text.lower() for color in ("#d55e00", "#0072b2")) and "#009e73" not in text.lower()
