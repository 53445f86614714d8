"""Other measures of collapse than information abundance: of singular values, and of the rows of a table.

All but ``uniformity`` take singular values in any order (``singular_values(table)``), do not depend on their
scale, and are float64 inside. On K equal singular values all but ``alpha_req`` give K; on a single one, 1.
"""

import torch

from fuxictr_me.collapse.spectrum import CHUNK_ROWS

NEGLIGIBLE = 1e-6  # σ / max σ below which a direction is taken for the rounding of a float32 table


def effective_rank(sigma):
    """exp(H(p)), p = σ / Σσ, H the Shannon entropy: between 1 and the rank.

    Roy & Vetterli, "The effective rank" (EUSIPCO 2007); RankMe (arXiv 2210.02885) is the same with 1e-7
    added to each p.

    Args:
        sigma (Tensor): (n,), singular values.

    Returns:
        float: 0.0 where all are 0 or none is.

    Raises:
        ValueError: negative, NaN or infinite values.

    Example::

        >>> round(effective_rank(torch.tensor([2.0, 1.0, 1.0])), 6)  # H = 1.5 log 2
        2.828427
    """
    p = _relative(sigma)
    p = p / p.sum()
    return float(torch.special.entr(p).sum().exp()) if len(p) else 0.0


def stable_rank(sigma):
    """Σσ² / max σ², or ‖E‖²_F / ‖E‖²₂: between 1 and the rank (Rudelson & Vershynin, arXiv math/0503442).

    Args, returns and raises as ``effective_rank``.

    Example::

        >>> stable_rank(torch.tensor([2.0, 1.0, 1.0]))  # 6 / 4
        1.5
    """
    return float(_relative(sigma).square().sum())


def participation_ratio(sigma):
    """(Σλ)² / Σλ², λ = σ²: between 1 and the rank, as though so many λ were equal and the rest 0.

    Of the uncentred EᵀE; Gao et al., "A theory of multineuronal dimensionality" (bioRxiv 214262), take the
    covariance. Args, returns and raises as ``effective_rank``.

    Example::

        >>> participation_ratio(torch.tensor([2.0, 1.0, 1.0]))  # (4 + 1 + 1)² / (16 + 1 + 1)
        2.0
    """
    eigenvalues = _relative(sigma).square()
    return float(eigenvalues.sum().square() / eigenvalues.square().sum()) if len(eigenvalues) else 0.0


def alpha_req(sigma):
    """α of the power law λ_k ∝ k^(-α), λ = σ² by size: how steeply the spectrum falls; 0 where it is flat.

    α-ReQ (Agrawal, Mondal, Ghosh & Richards, NeurIPS 2022; first in arXiv 2202.05808). The fit is least
    squares of log λ_k on log k over all k with σ_k above 1e-6 of the largest. Two things differ from theirs:
    they fit a middle range of the hundreds of eigenvalues that their networks have, and theirs are of the
    centred covariance; singular values of a table are of the uncentred EᵀE.

    Args:
        sigma (Tensor): (n,), singular values.

    Returns:
        float: α; NaN where fewer than two singular values count, for a line needs two points.

    Raises:
        ValueError: negative, NaN or infinite values.

    Example::

        >>> round(alpha_req(torch.tensor([4.0, 2.0, 4 / 3, 1.0])), 6)  # σ_k = 4 / k, λ_k = 16 / k²
        2.0
    """
    sigma = _relative(sigma)
    sigma = sigma[sigma > NEGLIGIBLE]
    if len(sigma) < 2:
        return float("nan")
    y = 2 * sigma.sort(descending=True).values.log()
    x = torch.arange(1, len(y) + 1, dtype=torch.float64, device=y.device).log()
    x = x - x.mean()
    return -float(x @ y / (x @ x))


@torch.no_grad()
def uniformity(table, sample=2_048, seed=0, exclude=()):
    """log mean exp(-2 ‖x - y‖²) over pairs of rows, each divided by its norm.

    Wang & Isola, "Alignment and uniformity on the hypersphere" (arXiv 2005.10242), t = 2. From 0, where all
    rows point one way, down to about -4, where they spread evenly over a sphere of many dimensions; never
    below -8.

    Of a table with more than ``sample`` rows this is an estimate, from the pairs of a random sample of
    them. Rows of zeros have no direction and do not count.

    Args:
        table (Tensor (D, K)): any float dtype, any device.
        sample (int): number of rows, drawn without replacement; time and memory grow with its square
            (2,048: 17 MB).
        seed (int): of the draw, which leaves torch's random state as it was.
        exclude (iterable of int): rows that do not count, e.g. the padding row.

    Returns:
        float: 0.0 for fewer than two rows.

    Raises:
        ValueError: not a matrix, or entries that are not finite.

    Example::

        >>> round(uniformity(torch.tensor([[1.0, 0.0], [0.0, 3.0]])), 6)  # one pair, ‖x - y‖² = 2
        -4.0
    """
    if table.ndim != 2:
        raise ValueError(f"a table must be a matrix (ids, dimensions), got shape {tuple(table.shape)}")
    norms = torch.cat([chunk.to(torch.float64).norm(dim=1) for chunk in table.split(CHUNK_ROWS)])
    if not norms.isfinite().all():
        raise ValueError(f"{int((~norms.isfinite()).sum())} rows of the table hold NaN or infinity")
    norms[list(exclude)] = 0
    rows = norms.nonzero().squeeze(1)
    if len(rows) > sample:
        drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:sample]
        rows = rows[drawn.to(rows.device)]
    if len(rows) < 2:
        return 0.0
    x = table[rows].to(torch.float64) / norms[rows, None]
    return float(torch.pdist(x).square().mul(-2).exp().mean().log())


def _relative(sigma):
    """σ / max σ, float64, without those of a spectrum of zeros."""
    sigma = torch.as_tensor(sigma).detach().to(torch.float64)
    if sigma.ndim != 1 or not sigma.isfinite().all() or (sigma < 0).any():
        raise ValueError("singular values must be a vector of finite numbers of 0 or more")
    return sigma / sigma.max() if sigma.any() else sigma[:0]
