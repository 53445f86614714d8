"""Singular values of rows that arrive in batches, against numpy's of all rows at once."""

import numpy as np
import pytest
import torch

from fuxictr_me.collapse import running_gram
from fuxictr_me.collapse.running_gram import RunningGram


@pytest.mark.parametrize("batch_sizes", [[300], [7, 200, 93], [1] * 5, [2, 1]])
def test_singular_values_of_blocks_and_of_all_equal_numpy(batch_sizes, monkeypatch):
    monkeypatch.setattr(running_gram, "ROWS_AT_ONCE", 64)
    widths, rows = [5, 1, 8], sum(batch_sizes)
    blocks = [torch.randn(rows, width) * torch.logspace(0, -3, width) for width in widths]
    gram = RunningGram(widths)
    for batch in zip(*(block.split(batch_sizes) for block in blocks), strict=True):
        gram.add(batch)
    assert gram.num_rows == rows
    own, whole = gram.singular_values()
    for sigma, columns in zip([*own, whole], [*blocks, torch.cat(blocks, dim=1)], strict=True):
        expected = np.linalg.svd(columns.double().numpy(), compute_uv=False)
        assert sigma.shape == expected.shape
        np.testing.assert_allclose(sigma, expected, rtol=1e-9, atol=3e-8 * expected[0])


def test_one_block_is_the_whole_and_values_that_are_not_finite_are_refused():
    gram = RunningGram([3])
    gram.add([torch.eye(3)])
    own, whole = gram.singular_values()
    assert own[0] is whole and whole.tolist() == [1, 1, 1]
    gram.add([torch.tensor([[0.0, torch.nan, 0.0]])])
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        gram.singular_values()
