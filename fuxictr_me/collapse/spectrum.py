"""Singular values of embedding tables, and the information abundance that they give."""

import torch

CHUNK_ROWS = 16_384
GRAM_ROWS = 1 << 18


def triangular_factor(tables, exclude=()):
    """R (K, K), with RᵀR = EᵀE, of a tall matrix E, by a QR decomposition that runs down its rows.

    R has the singular values of E, and R's columns k..l those of E's columns k..l. Unlike the Gram matrix
    EᵀE it does not square the condition number, so small singular values keep their digits.

    Args:
        tables (Tensor (D, K), or a list of Tensors (D, K_m)): E, or its column blocks side by side.
        exclude (iterable of int): rows that do not count.

    Returns:
        Tensor: (min(D, K), K), float64, on the device of the tables. Extra memory is bounded: about
        3 · max(16,384, 4K) · K · 8 bytes, however large D is.

    Raises:
        ValueError: not a matrix of numbers, tables of unequal length, or entries that are not finite.
    """
    tables = [_as_matrix(table) for table in (tables if isinstance(tables, list | tuple) else [tables])]
    rows = {len(table) for table in tables}
    if len(rows) != 1:
        raise ValueError(f"tables side by side must have the same number of rows, got {sorted(rows)}")
    width = sum(table.shape[1] for table in tables)
    step = max(CHUNK_ROWS, 4 * width)
    excluded = {row % rows_total for row in exclude} if (rows_total := rows.pop()) else set()
    R = torch.zeros(0, width, dtype=torch.float64, device=tables[0].device)
    for start in range(0, rows_total, step):
        chunk = torch.cat([table[start : start + step].to(torch.float64) for table in tables], dim=1)
        if drop := [row - start for row in excluded if start <= row < start + len(chunk)]:
            keep = torch.ones(len(chunk), dtype=torch.bool, device=chunk.device)
            keep[drop] = False
            chunk = chunk[keep]
        R = torch.linalg.qr(torch.cat([R, chunk]), mode="r").R
    if not R.isfinite().all():
        bad = sum(int((~table.isfinite()).any(dim=1).sum()) for table in tables)
        raise ValueError(f"{bad} rows of the table hold NaN or infinity: it has no singular values")
    return R


@torch.no_grad()
def gram_matrix(tables: list[torch.Tensor], exclude: tuple[int, ...] = ()) -> torch.Tensor:
    """Return EᵀE (K, K) of a tall matrix E, float64, in one pass over its rows and without waiting for the device.

    A GPU multiplies matrices many times as fast as it decomposes them. The price is the squared condition number: an
    eigenvalue λ = σ² has an error of a few u · λ_max, u = 1.1e-16, so where σ is small, it has one of up to a few
    √u · σ_max = 1e-8 σ_max. IA = Σσ / max σ adds up K of them: it is off by a few K · 1e-8, about 1e-6 at K = 100, of a
    number between 1 and K. Small singular values alone have no correct digits: take ``singular_values`` for those.

    Args:
        tables (list of Tensor (D, K_m)): the column blocks of E side by side.
        exclude (iterable of int): rows that do not count.

    Returns:
        Tensor: (K, K), on the device of the tables; not finite if they are not. Extra memory: ``GRAM_ROWS`` rows.
    """
    rows = len(tables[0])
    excluded = {row % rows for row in exclude} if rows else set()
    width = sum(table.shape[1] for table in tables)
    gram = torch.zeros(width, width, dtype=torch.float64, device=tables[0].device)
    for start in range(0, rows, GRAM_ROWS):
        chunk = torch.cat([table[start : start + GRAM_ROWS] for table in tables], dim=1).to(torch.float64)
        for row in excluded:
            if start <= row < start + len(chunk):
                chunk[row - start] = 0
        gram.addmm_(chunk.T, chunk)
    return gram


def singular_values(tables, exclude=()):
    """Singular values of an embedding table, largest first.

    Args:
        tables (Tensor (D, K), or a list of Tensors (D, K_m)): the table, or M tables side by side.
        exclude (iterable of int): rows that do not count, e.g. the padding row.

    Returns:
        Tensor: (min(D, K),), float64, exact to rounding.
    """
    return torch.linalg.svdvals(triangular_factor(tables, exclude))


def abundance(sigma):
    """IA = Σσ / max σ of given singular values (paper, section 3.1); 0.0 where all are 0 or none is."""
    top = float(sigma.max()) if len(sigma) else 0.0
    return float(sigma.sum()) / top if top > 0 else 0.0


def abundance_by_gram(grams: list[torch.Tensor]) -> list[float]:
    """Return IA of many tables, from their Gram matrices; those of one size are decomposed together, on one thread.

    Matrices as small as these take longer on several.

    Args:
        grams (list of Tensor (K, K)): on a CPU, see ``gram_matrix``.

    Returns:
        list of float
    """
    found, threads = [0.0] * len(grams), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in {len(gram) for gram in grams}:
            own = [i for i, gram in enumerate(grams) if len(gram) == size]
            sigma = torch.linalg.eigvalsh(torch.stack([grams[i] for i in own])).clamp(min=0).sqrt()
            top = sigma.amax(1)
            for i, ia in zip(own, (sigma.sum(1) / top).where(top > 0, torch.zeros_like(top)).tolist(), strict=True):
                found[i] = ia
    finally:
        torch.set_num_threads(threads)
    return found


def information_abundance(tables, exclude=()):
    """Information abundance of an embedding table: IA(E) = Σσ / max σ (paper, section 3.1).

    1 ≤ IA(E) ≤ rank(E) ≤ min(D, K). A low value is a collapsed table: few directions carry it all.

    Which rows count is the caller's choice. The paper takes the whole table. A padding row of zeros changes
    nothing but D. An out-of-vocabulary row that training never met stays near its initial value.

    Args:
        tables (Tensor (D, K), or a list of Tensors (D, K_m)): the table, or M tables side by side,
            [E¹ … Eᴹ]. Any float dtype, any device; the computation is float64.
        exclude (iterable of int): rows that do not count.

    Returns:
        float: IA; 0.0 for a table of zeros or without rows, whose rank is 0.

    Raises:
        ValueError: not a matrix of numbers, or entries that are not finite.

    Example::

        >>> information_abundance(torch.eye(4))
        4.0
        >>> information_abundance(torch.ones(100, 8))  # rank one
        1.0
    """
    return abundance(singular_values(tables, exclude))


def _as_matrix(table):
    table = torch.as_tensor(table)
    if table.ndim != 2 or table.shape[1] == 0 or table.is_complex():
        raise ValueError(f"a table must be a real matrix (ids, dimensions), got shape {tuple(table.shape)}")
    return table.detach()
