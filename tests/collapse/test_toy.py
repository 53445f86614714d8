"""The toy experiment and the gradient of a factorisation machine, against autograd."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fuxictr_me import UsageError, information_abundance
from fuxictr_me.collapse import fm_gradient, gradient_coefficients
from fuxictr_me.collapse.toy import toy, toy_data, toy_gradient


def fm_logits(tables, ids):
    e = torch.stack([table[x] for table, x in zip(tables, ids, strict=True)], dim=1)  # (B, F, K)
    gram = e @ e.transpose(1, 2)
    return torch.stack([gram[:, i, j] for i in range(len(tables)) for j in range(i + 1, len(tables))]).sum(dim=0)


def fm_batch(rows=64, widths=(9, 50, 3, 20), dim=6):
    """Tables, ids and labels; field 2 has fewer ids than dimensions, field 3 has rank 2."""
    tables = [torch.randn(width, dim, dtype=torch.float64) for width in widths]
    tables[3] = tables[3][:, :2] @ torch.randn(2, dim, dtype=torch.float64)
    ids = [torch.randint(0, width - 1, (rows,)) for width in widths]
    return tables, ids, torch.randint(0, 2, (rows,)).double()


def autograd_and_error(tables, ids, y):
    E1 = tables[0].clone().requires_grad_()
    logits = fm_logits([E1, *tables[1:]], ids)
    binary_cross_entropy_with_logits(logits, y).backward()
    return E1.grad, ((logits.sigmoid() - y) / len(y)).detach()


def test_the_partners_singular_vectors_add_up_to_the_gradient():
    tables, ids, y = fm_batch()
    grad, error = autograd_and_error(tables, ids, y)
    partners = list(zip(tables[1:], ids[1:], strict=True))
    assert grad.abs().max() > 1e-3 and (grad[-1] == 0).all()  # the last id is in no row
    torch.testing.assert_close(fm_gradient(error, ids[0], 9, partners), grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("partner", [1, 2, 3])
def test_coefficients_are_those_of_the_svd_and_of_the_gradient(partner):
    tables, ids, y = fm_batch()
    _, error = autograd_and_error(tables, ids, y)
    alpha, sigma, V = gradient_coefficients(error, ids[0], 9, tables[partner], ids[partner])
    U, S, Vt = np.linalg.svd(tables[partner].numpy(), full_matrices=False)
    np.testing.assert_allclose(sigma, S, rtol=1e-9, atol=1e-12)
    expected = np.zeros((9, len(S)))
    for row, x1 in enumerate(ids[0]):
        expected[x1] += error[row].item() * U[ids[partner][row]]
    rank = 2 if partner == 3 else len(S)
    signs = np.sign((Vt * V.numpy().T).sum(axis=1))[:rank]
    np.testing.assert_allclose(alpha[:, :rank], signs * expected[:, :rank], rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(V.numpy()[:, :rank] * signs, Vt[:rank].T, rtol=1e-8, atol=1e-10)

    alone = [tables[0], tables[partner]]  # the other way: α_k = ⟨∂L/∂e₁, v_k⟩ / σ_k
    grad, error = autograd_and_error(alone, [ids[0], ids[partner]], y)
    alpha, sigma, V = gradient_coefficients(error, ids[0], 9, tables[partner], ids[partner])
    torch.testing.assert_close((grad @ V / sigma)[:, :rank], alpha[:, :rank], rtol=1e-9, atol=1e-12)


def test_a_partner_of_zeros_gives_no_gradient():
    error, ids = torch.ones(3).double(), torch.tensor([0, 1, 1])
    alpha, sigma, _ = gradient_coefficients(error, ids, 2, torch.zeros(5, 4), torch.tensor([0, 3, 4]))
    assert (alpha == 0).all() and (sigma == 0).all()


def every_row(data):
    x1, x2 = (x.flatten() for x in torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij"))
    return [x1, x2, data.x3.flatten()], data.y.flatten()


@pytest.mark.parametrize("d3", [1, 3, 100])
def test_its_gradient_is_autograds_and_the_identitys(d3):
    data = toy_data(d3, dim=5, seed=3)
    ids, y = every_row(data)
    grad, error = autograd_and_error([data.E1, data.E2, data.E3], ids, y)
    e3 = data.E3[data.x3]
    got = toy_gradient(data.E1, data.E2 + e3, torch.einsum("bk,abk->ab", data.E2, e3), data.y)
    torch.testing.assert_close(got, grad, rtol=1e-9, atol=1e-14)
    identity = fm_gradient(error, ids[0], 100, [(data.E2, ids[1]), (data.E3, ids[2])])
    torch.testing.assert_close(identity, grad, rtol=1e-9, atol=1e-14)


def test_trajectory_is_that_of_sgd():
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


def test_data_is_drawn_as_the_paper_says():
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


def test_a_field_of_few_ids_collapses_what_interacts_with_it():
    for seed in range(4):
        few, many = (toy(d3, iterations=400, seed=seed) for d3 in (3, 100))
        assert few[0] == many[0] and few[-1] < many[-1] - 0.15 and few[-1] < few[0] - 0.5


@pytest.mark.parametrize("settings", [{"d3": 0}, {"d3": 3, "dim": 0}, {"d3": 2.5}])
def test_wrong_sizes_are_named(settings):
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
