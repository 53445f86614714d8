"""Other measures of collapse than information abundance, computed from singular values.

All take singular values in any order (``singular_values(table)``), do not depend on their scale, and compute in
float64. Of K equal singular values all but ``alpha_req`` give K; of a single one, 1.
"""

import torch
from torch import Tensor

NEGLIGIBLE = 1e-6  # below this σ / max σ, a direction may be the rounding of a float32 table


def effective_rank(sigma: Tensor) -> float:
    """Return exp(H(p)) with p = σ / Σσ and H the Shannon entropy: between 1 and the rank.

    Roy & Vetterli, "The effective rank" (EUSIPCO 2007); RankMe (arXiv 2210.02885) is the same with 1e-7
    added to each p.

    Args:
        sigma: (n,), singular values.

    Returns:
        The effective rank; 0.0 if all singular values are 0 or there is none.

    Raises:
        ValueError: if a value is negative, NaN or infinite.

    Example::

        >>> round(effective_rank(torch.tensor([2.0, 1.0, 1.0])), 6)  # H = 1.5 log 2
        2.828427
    """
    p = _relative(sigma)
    p = p / p.sum()
    return float(torch.special.entr(p).sum().exp()) if len(p) else 0.0


def stable_rank(sigma: Tensor) -> float:
    """Return Σσ² / max σ² = ‖E‖²_F / ‖E‖²₂: between 1 and the rank (Rudelson & Vershynin, arXiv math/0503442).

    Argument, result and errors are those of ``effective_rank``.

    Example::

        >>> stable_rank(torch.tensor([2.0, 1.0, 1.0]))  # 6 / 4
        1.5
    """
    return float(_relative(sigma).square().sum())


def participation_ratio(sigma: Tensor) -> float:
    """Return (Σλ)² / Σλ² with λ = σ²: between 1 and the rank, the number of equal λ with the same ratio.

    It is computed from the uncentred EᵀE; Gao et al., "A theory of multineuronal dimensionality" (bioRxiv 214262), use
    the covariance. Argument, result and errors are those of ``effective_rank``.

    Example::

        >>> participation_ratio(torch.tensor([2.0, 1.0, 1.0]))  # (4 + 1 + 1)² / (16 + 1 + 1)
        2.0
    """
    eigenvalues = _relative(sigma).square()
    return float(eigenvalues.sum().square() / eigenvalues.square().sum()) if len(eigenvalues) else 0.0


def alpha_req(sigma: Tensor) -> float:
    """Return α of the power law λ_k ∝ k^(-α), λ = σ² by size: the steepness of the spectrum; 0 if it is flat.

    α-ReQ (Agrawal, Mondal, Ghosh & Richards, NeurIPS 2022; first in arXiv 2202.05808). The fit is least
    squares of log λ_k on log k over all k with σ_k above 1e-6 of the largest. Two things differ from the original:
    it fits a middle range of the hundreds of eigenvalues that networks have, and it uses the centred covariance;
    singular values of a table belong to the uncentred EᵀE.

    Args:
        sigma: (n,), singular values.

    Returns:
        α; NaN if fewer than two singular values count, because a line needs two points.

    Raises:
        ValueError: if a value is negative, NaN or infinite.

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


def _relative(sigma: Tensor) -> Tensor:
    """Return σ / max σ in float64; an empty vector if all are 0."""
    sigma = torch.as_tensor(sigma).detach().to(torch.float64)
    if sigma.ndim != 1 or not sigma.isfinite().all() or (sigma < 0).any():
        raise ValueError("singular values must be a vector of finite numbers of 0 or more")
    return sigma / sigma.max() if sigma.any() else sigma[:0]
