"""The spectrum of a table as the data reads it: each row counts as often as its id occurs.

This is *not* the information abundance of the paper, which counts each id of the table once. With c the number
of occurrences of each id, the singular values of diag(√c) E are those of the matrix of all rows that the data
looks up. Frequent ids dominate it. Ids that never occur, which only weight decay changes, do not count.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fuxictr_me.collapse.spectrum import CHUNK_ROWS, Tables, abundance, as_list, triangular_factor
from fuxictr_me.errors import UsageError


def id_counts(batches: Iterable[Mapping[str, Tensor]], num_ids: Mapping[str, int]) -> dict[str, Tensor]:
    """Count how often each id of each field occurs, in one pass over batches.

    Args:
        batches: column -> ids, (B,) or sequences (B, L), as FuxiCTR's loaders yield them.
        num_ids: field -> D, the number of rows of its table. Other columns are ignored.

    Returns:
        field -> (D,), int64, on the CPU. Padding of sequences is counted, too; leave it out with ``exclude`` of the
        functions below.

    Raises:
        UsageError: if the batches lack a field, or an id is outside its table.
    """
    counts = {field: torch.zeros(rows, dtype=torch.int64) for field, rows in num_ids.items()}
    for batch in batches:
        for field, total in counts.items():
            if field not in batch:
                raise UsageError(f"the batches have no field {field!r} (their columns: {', '.join(batch)})")
            ids = torch.as_tensor(batch[field]).long().flatten()
            if len(ids) and not 0 <= ids.min() <= ids.max() < len(total):
                raise UsageError(
                    f"field {field!r} has ids from {ids.min()} to {ids.max()}, "
                    f"but its table holds 0 to {len(total) - 1}"
                )
            total += torch.bincount(ids, minlength=len(total)).cpu()
    return counts


def weighted_triangular_factor(tables: Tables, counts: Tensor, exclude: Iterable[int] = ()) -> Tensor:
    """Return R (≤ K, K) with RᵀR = Eᵀ diag(c) E, whose singular values are those of all rows that the data looks up.

    Args:
        tables: E (D, K), or its column blocks (D, K_m) side by side.
        counts: c (D,), how often each id occurs; any numbers of 0 or more.
        exclude: rows to leave out, e.g. the padding row.

    Returns:
        (≤ K, K), float64, on the device of the tables. The extra memory is bounded as in ``triangular_factor``.

    Raises:
        ValueError: if the counts are not one finite number of 0 or more per row, or for tables that
            ``triangular_factor`` refuses.
    """
    columns = as_list(tables)
    roots = torch.as_tensor(counts).to(columns[0].device, torch.float64).sqrt()
    if roots.shape != columns[0].shape[:1] or not roots.isfinite().all():
        raise ValueError(f"counts must be {len(columns[0])} numbers of 0 or more, one for each row of the table")
    roots[list(exclude)] = 0
    width = sum(table.shape[1] for table in columns)
    R = torch.zeros(0, width, dtype=torch.float64, device=roots.device)
    step = max(CHUNK_ROWS, 4 * width)
    for root, *rows in zip(roots.split(step), *(table.detach().split(step) for table in columns), strict=True):
        chunk = torch.cat([part.to(torch.float64) for part in rows], dim=1) * root[:, None]
        R = triangular_factor(torch.cat([R, chunk]))
    return R


def weighted_abundance(tables: Tables, counts: Tensor, exclude: Iterable[int] = ()) -> float:
    """Return Σσ / max σ of diag(√c) E: abundance by frequency, *not* the paper's information abundance.

    Arguments, memory and errors are those of ``weighted_triangular_factor``.

    Returns:
        The abundance; 0.0 if no id occurs or all rows that occur are 0.

    Example::

        >>> weighted_abundance(torch.eye(3), torch.tensor([4, 1, 0]))  # σ = 2, 1, 0
        1.5
    """
    return abundance(torch.linalg.svdvals(weighted_triangular_factor(tables, counts, exclude)))
