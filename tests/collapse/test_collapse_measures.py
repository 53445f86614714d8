"""Measures of collapse, weighted spectra and spaces of sets, against numpy and scipy."""

import doctest
import importlib
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import subspace_angles
from torch.linalg import svdvals

from fuxictr_me import UsageError
from fuxictr_me.collapse import (
    alpha_req,
    block_norms,
    effective_rank,
    id_counts,
    information_abundance,
    participation_ratio,
    principal_angles,
    singular_values,
    stable_rank,
    table_space_similarity,
    triangular_factor,
    variance_of_norms,
    weighted_abundance,
    weighted_triangular_factor,
)
from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.nn.penalties import norm_alignment, space_similarity

OF_SPECTRA = (effective_rank, stable_rank, participation_ratio, alpha_req)


@pytest.mark.parametrize("name", ["measures", "weighted", "sub_embeddings", "between_sets", "collapse_law", "spectrum"])
def test_examples_in_docstrings_are_correct(name):
    module = importlib.import_module(f"fuxictr_me.collapse.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch})
    assert result.attempted and not result.failed


def test_measures_of_singular_values_equal_their_formulas():
    table = torch.randn(500, 12) * torch.logspace(0, -2, 12)
    sigma = np.linalg.svd(table.double().numpy(), compute_uv=False)
    eigenvalues = np.linalg.eigvalsh(table.double().numpy().T @ table.double().numpy())
    got = singular_values(table)
    assert effective_rank(got) == pytest.approx(np.exp(stats.entropy(sigma)), rel=1e-12)
    squares = np.linalg.norm(table.double()) ** 2, np.linalg.norm(table.double(), 2) ** 2
    assert stable_rank(got) == pytest.approx(squares[0] / squares[1], rel=1e-12)
    assert participation_ratio(got) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-12)
    slope = stats.linregress(np.log(range(1, 13)), np.log(sigma**2)).slope
    assert alpha_req(got) == pytest.approx(-slope, rel=1e-11)


@pytest.mark.parametrize("measure", OF_SPECTRA)
@pytest.mark.parametrize("scale", [1e-200, 1e-4, 1e200])
def test_neither_order_nor_scale_matters(measure, scale):
    sigma = torch.tensor([5.0, 3.0, 2.0, 0.5], dtype=torch.float64)
    assert measure(sigma[[2, 0, 3, 1]] * scale) == pytest.approx(measure(sigma), rel=1e-12)


def test_known_spectra():
    flat, single, zero = torch.full((7,), 3.0), torch.tensor([3.0, 0.0, 0.0]), torch.zeros(4)
    for measure in OF_SPECTRA[:3]:
        assert measure(flat) == pytest.approx(7, rel=1e-12)
        assert measure(single) == 1.0
        assert measure(zero) == measure(zero[:0]) == 0.0
    assert alpha_req(flat) == pytest.approx(0, abs=1e-12)
    assert all(np.isnan(alpha_req(sigma)) for sigma in (single, zero, zero[:0]))
    power_law = torch.arange(1, 40).double() ** -0.75
    assert alpha_req(power_law) == pytest.approx(1.5, rel=1e-12)
    assert alpha_req(torch.cat([power_law, torch.tensor([1e-9, 0.0])])) == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize("measure", OF_SPECTRA)
@pytest.mark.parametrize("bad", [[1.0, float("nan")], [float("inf"), 1.0], [1.0, -1.0], [[1.0]]])
def test_vectors_that_are_not_spectra_are_refused(measure, bad):
    with pytest.raises(ValueError, match="finite numbers of 0 or more"):
        measure(torch.tensor(bad))


def test_weighted_spectrum_equals_that_of_the_looked_up_rows():
    table = torch.randn(40, 6)
    ids = torch.randint(0, 30, (900,)) ** 2 // 30  # frequent small ids, and none above 28
    counts = id_counts([{"item": ids}], {"item": 40})["item"]
    looked_up = np.linalg.svd(table[ids].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(svdvals(weighted_triangular_factor(table, counts)), looked_up, rtol=1e-12)
    expected = looked_up.sum() / looked_up.max()
    assert weighted_abundance(table, counts) == pytest.approx(expected, rel=1e-12)
    assert weighted_abundance(table, 1e6 * counts) == pytest.approx(expected, rel=1e-12)
    assert weighted_abundance(table, counts) != pytest.approx(information_abundance(table), rel=1e-3)
    without = np.linalg.svd(table[ids[ids != 1]].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(svdvals(weighted_triangular_factor(table, counts, exclude=[1])), without, rtol=1e-12)


def test_weighted_factor_of_tall_tables_side_by_side():
    sets = [torch.randn(2 * CHUNK_ROWS + 5, 3), torch.randn(2 * CHUNK_ROWS + 5, 2, dtype=torch.float64)]
    counts = torch.randint(0, 50, (len(sets[0]),))
    whole = torch.cat([table.double() for table in sets], dim=1).numpy()
    R = weighted_triangular_factor(sets, counts)
    assert R.shape == (5, 5) and R.dtype == torch.float64
    np.testing.assert_allclose(R.T @ R, whole.T @ (counts.numpy()[:, None] * whole), rtol=1e-10)
    unweighted = weighted_triangular_factor(sets, torch.ones(len(whole)))
    np.testing.assert_allclose(svdvals(unweighted), np.linalg.svd(whole, compute_uv=False), rtol=1e-12)


def test_zero_counts_give_zero_and_wrong_counts_are_refused():
    assert weighted_abundance(torch.ones(3, 2), torch.zeros(3)) == weighted_abundance(torch.ones(0, 2), []) == 0.0
    for wrong in ([1, 2], [1, -1, 2], [1, float("nan"), 2], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="counts must be 3 numbers"):
            weighted_abundance(torch.ones(3, 2), torch.tensor(wrong))


def test_ids_are_counted_over_batches():
    random = np.random.default_rng(0)
    batches = [
        {"user": torch.tensor(random.integers(0, 9, 20)), "seen": random.integers(0, 6, (20, 3)), "label": None}
        for _ in range(4)
    ]
    counts = id_counts(batches, {"user": 11, "seen": 6})
    for field, rows in (("user", 11), ("seen", 6)):
        expected = Counter(int(i) for batch in batches for i in np.asarray(batch[field]).ravel())
        assert counts[field].tolist() == [expected[i] for i in range(rows)]
    assert id_counts([], {"user": 2})["user"].tolist() == [0, 0]
    with pytest.raises(UsageError, match=r"no field 'place' \(their columns: user, seen, label\)"):
        id_counts(batches, {"place": 3})
    with pytest.raises(UsageError, match="field 'user' has ids from 0 to 8, but its table holds 0 to 4"):
        id_counts(batches, {"user": 5})


def random_tables(rows, *widths):
    return [torch.randn(rows, width, dtype=torch.float64) for width in widths]


@pytest.mark.parametrize("shape", [(50, 4, 4), (50, 3, 6), (50, 6, 3), (7, 5, 4), (5, 8, 3), (2 * CHUNK_ROWS, 3, 2)])
def test_principal_angles_equal_those_of_scipy(shape):
    A, B = random_tables(*shape)
    got = principal_angles(A, B)
    np.testing.assert_allclose(got, subspace_angles(A, B), atol=1e-7 if shape[0] < 9 else 1e-10)
    factor = triangular_factor([A, B])
    np.testing.assert_allclose(principal_angles(*factor.split(list(shape[1:]), dim=1)), got, atol=1e-7)


def test_principal_angles_of_known_spaces():
    basis = torch.linalg.qr(torch.randn(100, 6, dtype=torch.float64)).Q
    wanted = torch.tensor([1.5, 0.4, 1e-8], dtype=torch.float64)
    turned = basis[:, :3] * wanted.cos() + basis[:, 3:] * wanted.sin()
    mixed = turned @ torch.randn(3, 3, dtype=torch.float64)
    np.testing.assert_allclose(principal_angles(basis[:, :3], mixed), wanted, rtol=1e-6)
    torch.testing.assert_close(principal_angles(basis[:, :3], basis[:, 3:]), torch.full((3,), torch.pi / 2).double())
    assert principal_angles(basis, basis @ torch.randn(6, 6).double()).abs().max() < 1e-10


def test_principal_angles_of_rank_deficient_and_empty_spaces():
    A, B, left, right = random_tables(60, 4, 3, 2, 5)
    deficient = (left @ right[:2]).float()  # rank 2 of 5, to the rounding of float32
    got = principal_angles(deficient, A)
    np.testing.assert_allclose(got, subspace_angles(left, A), atol=1e-5)
    assert len(got) == 2
    assert principal_angles(torch.zeros(60, 3), B).shape == (0,)
    assert principal_angles(B[:0], B[:0]).shape == (0,)


def test_space_similarity_of_tables_equals_the_penalty_on_a_batch_of_all_rows():
    e = torch.randn(200, 3, 2, 4, dtype=torch.float64)  # (D, M, F, K)
    fields = [list(e[:, :, f].unbind(1)) for f in range(2)]
    of_pairs = [
        np.mean([np.linalg.svd((sets[m].T @ sets[n]).numpy(), compute_uv=False) for sets in fields], axis=0)
        for m, n in ((0, 1), (0, 2), (1, 2))
    ]
    expected = np.mean(np.square(of_pairs))
    assert table_space_similarity(fields) == pytest.approx(expected, rel=1e-10)
    assert space_similarity(e).item() == pytest.approx(expected, rel=1e-10)
    factors = [triangular_factor(sets).split(4, dim=1) for sets in fields]
    assert table_space_similarity(factors) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "fields", [[], [random_tables(9, 4)], [random_tables(9, 4, 5)], [random_tables(9, 4, 4), random_tables(9, 2, 2)]]
)
def test_space_similarity_needs_sets_of_one_dimension(fields):
    with pytest.raises(ValueError, match="same number of tables, 2 or more, of one dimension"):
        table_space_similarity(fields)


def test_the_penalty_averages_the_variance_of_norms():
    blocks = torch.randn(3, 5, 5, 4, 4, dtype=torch.float64)  # (M, F, F, K, K)
    norms = torch.stack([block_norms(of_set) for of_set in blocks])
    got = variance_of_norms(norms)
    expected = np.var([[[(W**2).sum() for W in row] for row in of_set] for of_set in blocks.numpy()], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    assert got.mean().item() == pytest.approx(norm_alignment(norms[:, None].square()).item(), rel=1e-12)
