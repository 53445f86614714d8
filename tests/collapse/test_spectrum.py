"""Singular values and information abundance, against numpy's SVD and on matrices with known values."""

import numpy as np
import pytest
import torch

from fuxictr_me import information_abundance, singular_values
from fuxictr_me.collapse import triangular_factor
from fuxictr_me.collapse.spectrum import CHUNK_ROWS


def svd_abundance(matrix):
    sigma = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return sigma.sum() / sigma.max()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 4), (4, 1), (200, 40), (40, 200), (2 * CHUNK_ROWS + 7, 12)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_singular_values_equal_those_of_numpy(shape, dtype):
    table = torch.randn(shape).to(dtype)
    expected = np.linalg.svd(table.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_values(table).numpy(), expected, rtol=1e-11)
    assert information_abundance(table) == pytest.approx(svd_abundance(table.double().numpy()), rel=1e-12)


def test_abundance_of_known_matrices():
    orthogonal = np.linalg.qr(np.random.randn(5000, 16))[0]
    assert information_abundance(orthogonal) == pytest.approx(16, rel=1e-12)
    assert information_abundance(np.outer(np.random.randn(40_000), np.random.randn(300))) == pytest.approx(1, abs=1e-9)
    assert information_abundance(torch.eye(4)) == 4.0
    scaled = torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0]))
    assert information_abundance(scaled) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e30])
def test_abundance_does_not_depend_on_scale(scale):
    table = torch.randn(300, 8, dtype=torch.float64)
    assert information_abundance(table * scale) == pytest.approx(information_abundance(table), rel=1e-12)


def test_abundance_of_an_ill_conditioned_float32_table():
    left, right = (np.linalg.qr(np.random.randn(n, 20))[0] for n in (5000, 20))
    table = (left * np.logspace(0, -6, 20)) @ right.T
    expected = np.logspace(0, -6, 20).sum()
    assert information_abundance(table) == pytest.approx(expected, rel=1e-10)
    assert information_abundance(table.astype(np.float32)) == pytest.approx(expected, rel=1e-4)


def test_zero_and_empty_tables_have_rank_zero():
    assert information_abundance(torch.zeros(10, 3)) == 0.0
    assert information_abundance(torch.empty(0, 3)) == 0.0
    assert information_abundance(torch.ones(1, 3), exclude=[0]) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_rows_are_counted(bad):
    table = torch.randn(CHUNK_ROWS + 50, 3)
    table[[4, CHUNK_ROWS + 3], 1] = bad
    with pytest.raises(ValueError, match="2 rows of the table hold NaN or infinity"):
        information_abundance(table)


@pytest.mark.parametrize("bad", [torch.randn(3), torch.randn(3, 2, 2), torch.randn(3, 0), torch.randn(3, 2) * 1j])
def test_tensors_that_are_not_matrices_are_refused(bad):
    with pytest.raises(ValueError, match="real matrix"):
        information_abundance(bad)
    with pytest.raises(ValueError, match="same number of rows"):
        information_abundance([torch.ones(3, 2), torch.ones(4, 2)])


def test_excluded_rows_do_not_count():
    table = torch.randn(2 * CHUNK_ROWS, 6)
    kept = torch.cat([table[1:CHUNK_ROWS], table[CHUNK_ROWS + 1 : -1]])
    expected = information_abundance(kept)
    assert information_abundance(table, exclude=(0, CHUNK_ROWS, -1)) == pytest.approx(expected, rel=1e-12)
    assert information_abundance(table) != pytest.approx(expected, rel=1e-6)


def test_tables_side_by_side_need_not_be_concatenated():
    sets = [torch.randn(500, k) for k in (3, 5, 2)]
    assert information_abundance(sets) == pytest.approx(svd_abundance(torch.cat(sets, 1).double().numpy()), rel=1e-12)
    R = triangular_factor(sets)
    for columns, table in zip(R.split([3, 5, 2], dim=1), sets, strict=True):
        torch.testing.assert_close(torch.linalg.svdvals(columns), singular_values(table), rtol=1e-12, atol=0)


def test_extra_memory_is_bounded(monkeypatch):
    largest = []
    qr = torch.linalg.qr

    def spy(matrix, mode):
        largest.append(matrix.numel())
        return qr(matrix, mode=mode)

    monkeypatch.setattr(torch.linalg, "qr", spy)
    information_abundance(torch.randn(10 * CHUNK_ROWS, 8))
    assert len(largest) == 10 and max(largest) <= (CHUNK_ROWS + 8) * 8
