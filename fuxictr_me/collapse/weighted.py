"""The spectrum of a table as the data sees it: each row counted as often as its id occurs.

This is *not* the information abundance of the paper, which takes each id of the table once. With c the number
of occurrences of each id, the singular values of diag(√c) E are those of the matrix of all rows that the data
looks up. Frequent ids dominate it, and ids that never occur, which only weight decay moves, do not count.
"""

import torch

from fuxictr_me.collapse.spectrum import CHUNK_ROWS, abundance, triangular_factor
from fuxictr_me.errors import UsageError


def id_counts(batches, num_ids):
    """How often each id of each field occurs, from one pass over batches.

    Args:
        batches (iterable of dict): column -> ids, (B,) or sequences (B, L), as FuxiCTR's loaders give them.
        num_ids (dict): field -> D, the number of rows of its table; other columns are left alone.

    Returns:
        dict: field -> Tensor (D,), int64, on the CPU. Sequences are counted with their padding; leave it out
        by ``exclude`` of the functions below.

    Raises:
        UsageError: a field that the batches lack, or an id past its table.
    """
    counts = {field: torch.zeros(rows, dtype=torch.int64) for field, rows in num_ids.items()}
    for batch in batches:
        for field, total in counts.items():
            if field not in batch:
                raise UsageError(f"the batches have no field {field!r} (their columns: {', '.join(batch)})")
            ids = torch.as_tensor(batch[field]).long().flatten()
            if len(ids) and not 0 <= ids.min() <= ids.max() < len(total):
                found = f"ids from {ids.min()} to {ids.max()}"
                raise UsageError(f"field {field!r} has {found}, but its table holds 0 to {len(total) - 1}")
            total += torch.bincount(ids, minlength=len(total)).cpu()
    return counts


def weighted_triangular_factor(tables, counts, exclude=()):
    """R (K, K), with RᵀR = Eᵀ diag(c) E, by a QR decomposition that runs down the rows.

    Args:
        tables (Tensor (D, K), or a list of Tensors (D, K_m)): E, or its column blocks side by side.
        counts (Tensor (D,)): c, how often each id occurs; any numbers of 0 or more.
        exclude (iterable of int): rows that do not count, e.g. the padding row.

    Returns:
        Tensor: (≤ K, K), float64, on the device of the tables. Extra memory is bounded, as with
        ``triangular_factor``.

    Raises:
        ValueError: counts that are not one finite number of 0 or more for each row, or tables that
            ``triangular_factor`` refuses.
    """
    tables = list(tables) if isinstance(tables, list | tuple) else [tables]
    roots = torch.as_tensor(counts).to(tables[0].device, torch.float64).sqrt()
    if roots.shape != tables[0].shape[:1] or not roots.isfinite().all():
        raise ValueError(f"counts must be {len(tables[0])} numbers of 0 or more, one for each row of the table")
    roots[list(exclude)] = 0
    width = sum(table.shape[1] for table in tables)
    R = torch.zeros(0, width, dtype=torch.float64, device=roots.device)
    step = max(CHUNK_ROWS, 4 * width)
    for parts in zip(roots.split(step), *(table.detach().split(step) for table in tables), strict=True):
        root, *rows = parts
        chunk = torch.cat([part.to(torch.float64) for part in rows], dim=1) * root[:, None]
        R = triangular_factor(torch.cat([R, chunk]))
    return R


def weighted_singular_values(tables, counts, exclude=()):
    """Singular values of diag(√c) E, largest first: those of the matrix of all rows that the data looks up.

    Args, memory and errors as ``weighted_triangular_factor``.

    Returns:
        Tensor: (≤ K,), float64.
    """
    return torch.linalg.svdvals(weighted_triangular_factor(tables, counts, exclude))


def weighted_abundance(tables, counts, exclude=()):
    """Σσ / max σ of diag(√c) E: abundance by frequency, *not* the paper's information abundance.

    Args, memory and errors as ``weighted_triangular_factor``.

    Returns:
        float: 0.0 where no id occurs or all rows that occur are 0.

    Example::

        >>> weighted_abundance(torch.eye(3), torch.tensor([4, 1, 0]))  # σ = 2, 1, 0
        1.5
    """
    return abundance(weighted_singular_values(tables, counts, exclude))
