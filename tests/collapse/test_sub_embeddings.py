"""Sub-embeddings against numpy's SVD of the tall products, and their blocks against the host's interactions."""

import itertools

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import CrossNetMix, CrossNetV2, InnerProductInteraction

from fuxictr_me import UsageError
from fuxictr_me.collapse import (
    block_norms,
    cross_blocks,
    ffm_blocks,
    fmfm_blocks,
    fwfm_blocks,
    information_abundance,
    low_rank_cross_weight,
    sub_embedding_abundance,
    triangular_factor,
)
from fuxictr_me.nn import CrossNetwork

PAIRS = list(itertools.permutations(range(4), 2))


def svd_abundance(matrix):
    sigma = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return sigma.sum() / sigma.max()


def pair_logits(e, blocks):
    """⟨E_i^{→j} of a row, e_j⟩ of each pair i < j: (B, F(F - 1)/2)."""
    pairs = itertools.combinations(range(e.shape[1]), 2)
    return torch.stack([((e[:, i] @ blocks[i][j].T) * e[:, j]).sum(dim=-1) for i, j in pairs], dim=1)


@pytest.mark.parametrize("dims", [[4, 4, 4], [2, 5, 3]])
def test_abundance_equals_that_of_the_tall_product(dims):
    tables = [torch.randn(rows, dim) for rows, dim in zip((500, 3, 40), dims, strict=True)]
    weight = torch.randn(sum(dims), sum(dims))
    blocks = cross_blocks(weight, dims)
    got = sub_embedding_abundance([triangular_factor(table) for table in tables], blocks)
    starts = np.cumsum([0, *dims])
    for i, j in itertools.product(range(3), repeat=2):
        W = weight.numpy()[starts[j] : starts[j + 1], starts[i] : starts[i + 1]]
        expected = svd_abundance(tables[i].numpy().astype(np.float64) @ W.T.astype(np.float64))
        assert got[i, j].item() == pytest.approx(expected, rel=1e-10)


def test_known_abundances():
    eye, rank_one, zero = torch.eye(3), torch.ones(3, 3), torch.zeros(3, 3)
    factors = [triangular_factor(torch.linalg.qr(torch.randn(50, 3)).Q), None]
    got = sub_embedding_abundance(factors, [[rank_one, eye], [eye, eye]])
    np.testing.assert_allclose(got, [[1, 3], [np.nan, np.nan]], rtol=1e-6)
    got = sub_embedding_abundance([eye] * 2, [[None, zero], [eye, None]])
    np.testing.assert_array_equal(got, [[np.nan, 0], [3, np.nan]])


def test_blocks_that_do_not_fit_the_factors_are_refused():
    with pytest.raises(ValueError, match="2 factors need as many rows and columns of blocks"):
        sub_embedding_abundance([torch.eye(2)] * 2, torch.randn(3, 3, 2, 2))
    with pytest.raises(ValueError, match="from field 0 to field 1, or the factor of field 0, is not finite"):
        sub_embedding_abundance([torch.eye(2)] * 2, [[None, torch.full((2, 2), torch.nan)], [None, None]])
    with pytest.raises(UsageError, match=r"of fields of \[2, 3\] must be square, got \(5, 4\)"):
        cross_blocks(torch.ones(5, 4), [2, 3])


def test_cross_blocks_sum_to_the_first_cross_layer_of_fuxictr():
    dims = [2, 4, 3]
    layer = CrossNetV2(sum(dims), num_layers=1)
    x = torch.randn(6, sum(dims))
    e = x.split(dims, dim=1)
    blocks = cross_blocks(layer.cross_layers[0].weight, dims)
    seen = torch.cat([sum(e[i] @ blocks[i][j].T for i in range(3)) for j in range(3)], dim=1)
    expected = x + x * (seen + layer.cross_layers[0].bias)
    torch.testing.assert_close(layer(x), expected)


def test_low_rank_weight_is_the_jacobian_of_the_fuxictr_layer_at_zero():
    layer = CrossNetMix(5, layer_num=1, low_rank=3, num_experts=2).double()
    W = low_rank_cross_weight(layer.U_list[0], layer.C_list[0], layer.V_list[0])
    assert W.shape == (5, 5) and not W.requires_grad
    for d in range(5):  # x_d · (W x)_d has the Hessian δ_da W_db + δ_db W_da
        hessian = torch.autograd.functional.hessian(lambda x, d=d: layer(x[None])[d], torch.zeros(5).double())
        expected = torch.zeros(5, 5).double()
        expected[d] += W[d]
        expected[:, d] += W[d]
        torch.testing.assert_close(hessian, expected)


@pytest.mark.parametrize("shape", [(6,), (4, 4)])
def test_fwfm_blocks_keep_the_abundance_of_each_field(shape):
    e, weights = torch.randn(7, 4, 3), torch.randn(shape)
    blocks = fwfm_blocks(weights, 3)
    inner = InnerProductInteraction(4, output="inner_product")(e)
    of_pairs = weights if weights.ndim == 1 else weights[tuple(torch.triu_indices(4, 4, offset=1))]
    torch.testing.assert_close(pair_logits(e, blocks), inner * of_pairs)
    tables = [torch.randn(20, 3) for _ in range(4)]
    got = sub_embedding_abundance([triangular_factor(table) for table in tables], blocks)
    for i, j in PAIRS:
        assert got[i, j].item() == pytest.approx(information_abundance(tables[i]), rel=1e-6)
    assert got.diagonal().isnan().all() == (weights.ndim == 1)
    absent = sub_embedding_abundance([torch.eye(3)] * 4, fwfm_blocks(torch.zeros(shape), 3))
    assert (absent[tuple(zip(*PAIRS, strict=True))] == 0).all()


@pytest.mark.parametrize("shape", [(6, 3, 3), (6, 3)])
def test_fmfm_blocks_reproduce_the_logit_from_either_side(shape):
    e, weight = torch.randn(7, 4, 3), torch.randn(shape)
    i, j = torch.triu_indices(4, 4, offset=1)  # as FuxiCTR's FmFM goes
    left = (e[:, i].unsqueeze(2) @ weight).squeeze(2) if weight.ndim == 3 else e[:, i] * weight
    expected = (left * e[:, j]).sum(dim=-1)
    blocks = fmfm_blocks(weight)
    torch.testing.assert_close(pair_logits(e, blocks), expected)
    from_the_right = [
        ((e[:, b] @ blocks[b][a].T) * e[:, a]).sum(dim=-1) for a, b in itertools.combinations(range(4), 2)
    ]
    torch.testing.assert_close(torch.stack(from_the_right, dim=1), expected)
    assert all(blocks[k][k] is None for k in range(4))


def test_weights_that_are_not_one_per_pair_are_refused():
    with pytest.raises(UsageError, match="5 weights are not one for each pair of fields"):
        fmfm_blocks(torch.ones(5, 3, 3))
    with pytest.raises(UsageError, match=r"must be \(F, F\), or a vector of pairs, got \(1, 6\)"):
        fwfm_blocks(torch.ones(1, 6), 3)


def test_ffm_blocks_select_the_table_for_the_partner():
    layers = [[torch.randn(30, 2) for _field in range(4)] for _layer in range(3)]  # FuxiCTR's FFM: (F - 1) x F
    factors = [triangular_factor([layer[i] for layer in layers]) for i in range(4)]
    got = sub_embedding_abundance(factors, ffm_blocks(4, 2))
    for i, j in itertools.combinations(range(4), 2):  # its ffm_interaction: v_ij from layer j - 1, v_ji from layer i
        assert got[i, j].item() == pytest.approx(svd_abundance(layers[j - 1][i]), rel=1e-10)
        assert got[j, i].item() == pytest.approx(svd_abundance(layers[i][j]), rel=1e-10)
    assert got.diagonal().isnan().all()


def test_ffm_blocks_select_the_slots_of_the_wide_table_of_ffmv2():
    wide = [torch.randn(30, 6, dtype=torch.float64) for _field in range(4)]
    e = torch.stack([table.view(30, 3, 2)[:9] for table in wide], dim=1)  # (B, F, F - 1, K)
    upper = torch.triu(torch.ones(4, 3), 0).bool().unsqueeze(-1)  # as FuxiCTR's FFMv2 goes
    lower = torch.tril(torch.ones(4, 3), -1).bool().T.unsqueeze(-1)
    products = e.masked_select(upper) * e.transpose(1, 2).masked_select(lower)
    blocks = ffm_blocks(4, 2)
    sub = [[None if W is None else wide[i][:9] @ W.T for W in row] for i, row in enumerate(blocks)]
    ours = torch.stack([(sub[i][j] * sub[j][i]).sum(dim=-1) for i, j in itertools.combinations(range(4), 2)], dim=1)
    torch.testing.assert_close(ours, products.view(9, 6, 2).sum(dim=-1))


def test_block_norms():
    dims = [2, 5, 3]
    weight = torch.randn(10, 10)
    got = block_norms(cross_blocks(weight, dims))
    starts = np.cumsum([0, *dims])
    for i, j in itertools.product(range(3), repeat=2):
        W = weight.numpy()[starts[j] : starts[j + 1], starts[i] : starts[i + 1]]
        assert got[i, j].item() == pytest.approx(np.sqrt((W.astype(np.float64) ** 2).sum()), rel=1e-12)
    assert block_norms(fwfm_blocks(torch.tensor([3.0]), 4)).nan_to_num(-1).tolist() == [[-1, 6], [6, -1]]


def test_block_norms_equal_those_of_the_cross_network():
    network = CrossNetwork(2, [3, 3, 3], num_layers=1)
    network.init_paper_weights()
    for m in range(2):
        ours = block_norms(cross_blocks(network.effective_weights()[0][m], [3, 3, 3]))
        expected = network.field_pair_norms()[m, 0].detach().double().T  # there j comes before i
        torch.testing.assert_close(ours.square(), expected, rtol=1e-5, atol=0)
