"""Singular values of embedding tables, and information abundance, which is computed from them."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

CHUNK_ROWS = 16_384
GRAM_ROWS = 1 << 18

Tables = Tensor | Sequence[Tensor]  # one table (D, K), or tables (D, K_m) side by side


def as_list(tables: Tables) -> list[Tensor]:
    """Return one table, or several side by side, as a list."""
    return list(tables) if isinstance(tables, list | tuple) else [torch.as_tensor(tables)]


def triangular_factor(tables: Tables, exclude: Iterable[int] = ()) -> Tensor:
    """Return R (K, K) with RᵀR = EᵀE of a tall matrix E, by a QR decomposition that proceeds chunk by chunk.

    R has the singular values of E, and any columns k..l of R have those of the columns k..l of E. Unlike the Gram
    matrix EᵀE, R does not square the condition number, so small singular values keep their digits.

    Args:
        tables: E (D, K), or its column blocks (D, K_m) side by side.
        exclude: rows to leave out.

    Returns:
        (min(D, K), K), float64, on the device of the tables. The extra memory is about 3 · max(16,384, 4K) · K · 8
        bytes, however large D is.

    Raises:
        ValueError: if a table is not a real matrix, if tables have unequal lengths, or if entries are not finite.
    """
    columns = [_check_matrix(table) for table in as_list(tables)]
    lengths = {len(table) for table in columns}
    if len(lengths) != 1:
        raise ValueError(f"tables side by side must have the same number of rows, got {sorted(lengths)}")
    num_rows, width = lengths.pop(), sum(table.shape[1] for table in columns)
    step, excluded = max(CHUNK_ROWS, 4 * width), _positive_rows(exclude, num_rows)
    R = torch.zeros(0, width, dtype=torch.float64, device=columns[0].device)
    for start in range(0, num_rows, step):
        chunk = torch.cat([table[start : start + step].to(torch.float64) for table in columns], dim=1)
        if drop := [row - start for row in excluded if start <= row < start + len(chunk)]:
            keep = torch.ones(len(chunk), dtype=torch.bool, device=chunk.device)
            keep[drop] = False
            chunk = chunk[keep]
        R = torch.linalg.qr(torch.cat([R, chunk]), mode="r").R
    if not R.isfinite().all():
        bad = sum(int((~table.isfinite()).any(dim=1).sum()) for table in columns)
        raise ValueError(f"{bad} rows of the table hold NaN or infinity: it has no singular values")
    return R


@torch.no_grad()
def gram_matrix(tables: Sequence[Tensor], exclude: Iterable[int] = ()) -> Tensor:
    """Return EᵀE (K, K) of a tall matrix E, float64, in one pass over its rows and without waiting for the device.

    A GPU multiplies matrices many times as fast as it decomposes them. The price is the squared condition number: an
    eigenvalue λ = σ² has an error of a few u · λ_max, u = 1.1e-16, so a small σ has an error of up to a few
    √u · σ_max = 1e-8 σ_max. IA = Σσ / max σ adds up K of them: its error is a few K · 1e-8, about 1e-6 at K = 100, of a
    number between 1 and K. Small singular values by themselves have no correct digits; use ``singular_values`` for
    those.

    Args:
        tables: the column blocks (D, K_m) of E.
        exclude: rows to leave out.

    Returns:
        (K, K), on the device of the tables; not finite if they are not. The extra memory is ``GRAM_ROWS`` rows.
    """
    num_rows, width = len(tables[0]), sum(table.shape[1] for table in tables)
    excluded = _positive_rows(exclude, num_rows)
    gram = torch.zeros(width, width, dtype=torch.float64, device=tables[0].device)
    for start in range(0, num_rows, GRAM_ROWS):
        chunk = torch.cat([table[start : start + GRAM_ROWS] for table in tables], dim=1).to(torch.float64)
        for row in excluded:
            if start <= row < start + len(chunk):
                chunk[row - start] = 0
        gram.addmm_(chunk.T, chunk)
    return gram


def singular_values(tables: Tables, exclude: Iterable[int] = ()) -> Tensor:
    """Return the singular values of an embedding table, largest first.

    Args:
        tables: the table (D, K), or M tables (D, K_m) side by side.
        exclude: rows to leave out, e.g. the padding row.

    Returns:
        (min(D, K),), float64, exact to rounding.
    """
    return torch.linalg.svdvals(triangular_factor(tables, exclude))


def abundance(sigma: Tensor) -> float:
    """Return IA = Σσ / max σ of given singular values (paper, section 3.1); 0.0 if all are 0 or there is none."""
    top = float(sigma.max()) if len(sigma) else 0.0
    return float(sigma.sum()) / top if top > 0 else 0.0


def abundance_by_gram(grams: Sequence[Tensor]) -> list[float]:
    """Return the IA of many tables from their Gram matrices (K, K) on the CPU, see ``gram_matrix``.

    Matrices of one size are decomposed together, on one thread: small matrices take longer on several.
    """
    result, threads = [0.0] * len(grams), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in {len(gram) for gram in grams}:
            positions = [i for i, gram in enumerate(grams) if len(gram) == size]
            sigma = torch.linalg.eigvalsh(torch.stack([grams[i] for i in positions])).clamp(min=0).sqrt()
            top = sigma.amax(1)
            values = (sigma.sum(1) / top).where(top > 0, torch.zeros_like(top)).tolist()
            for i, ia in zip(positions, values, strict=True):
                result[i] = ia
    finally:
        torch.set_num_threads(threads)
    return result


def information_abundance(tables: Tables, exclude: Iterable[int] = ()) -> float:
    """Return the information abundance of an embedding table: IA(E) = Σσ / max σ (paper, section 3.1).

    1 ≤ IA(E) ≤ rank(E) ≤ min(D, K). A low value means a collapsed table: a few directions carry it all.

    The caller chooses which rows count. The paper uses the whole table. A padding row of zeros changes only D. An
    out-of-vocabulary row that training never reads stays near its initial value.

    Args:
        tables: the table (D, K), or M tables side by side, [E¹ … Eᴹ]. Any float dtype and device; the computation is
            float64.
        exclude: rows to leave out.

    Returns:
        IA; 0.0 for a table of zeros or without rows, whose rank is 0.

    Raises:
        ValueError: if a table is not a real matrix, or if entries are not finite.

    Example::

        >>> information_abundance(torch.eye(4))
        4.0
        >>> information_abundance(torch.ones(100, 8))  # rank one
        1.0
    """
    return abundance(singular_values(tables, exclude))


def _positive_rows(rows: Iterable[int], num_rows: int) -> set[int]:
    """Return row numbers with negative ones counted from the end."""
    return {row % num_rows for row in rows} if num_rows else set()


def _check_matrix(table: Tensor) -> Tensor:
    table = torch.as_tensor(table)
    if table.ndim != 2 or table.shape[1] == 0 or table.is_complex():
        raise ValueError(f"a table must be a real matrix (ids, dimensions), got shape {tuple(table.shape)}")
    return table.detach()
