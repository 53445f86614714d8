"""Why a field collapses with its partners: the gradient of a factorisation machine (paper, beside figure 4).

For a logit of Σ_{i<j} ⟨e_i, e_j⟩ plus terms without field 1, an id x₁ gets

    ∂L/∂e₁ = Σ_{rows with x₁} ∂L/∂logit · Σ_{i≥2} e_i = Σ_{i≥2} Σ_k α_{i,k} σ_{i,k} v_{i,k}

with E_i = U_i diag(σ_i) V_iᵀ and α_{i,k} = Σ_{rows with x₁} ∂L/∂logit · U_i[x_i, k]. The gradient lies along the
partners' right singular vectors, weighted by their singular values, so their dominant directions dominate it.
"""

import torch

from fuxictr_me.collapse.spectrum import triangular_factor


@torch.no_grad()
def gradient_coefficients(error, ids, num_ids, table, partner_ids):
    """α, σ and V of one partner in the gradient of each id of field 1.

    Args:
        error (Tensor): (B,), ∂L/∂logit of each row of the batch; (ŷ - y)/B for the mean cross-entropy.
        ids (Tensor): (B,), x₁ of each row.
        num_ids (int): D₁.
        table (Tensor): E_i (D_i, K); only its looked-up rows and its triangular factor are formed.
        partner_ids (Tensor): (B,), x_i of each row.

    Returns:
        (Tensor, Tensor, Tensor): α (D₁, n), σ (n,) largest first, V (K, n), n = min(D_i, K), float64.
        α is 0 where σ is 0. The sign of each v_k, and with it that of α_k, is arbitrary.
    """
    _, sigma, Vt = torch.linalg.svd(triangular_factor(table), full_matrices=False)
    U = table[partner_ids].to(torch.float64) @ Vt.T / sigma  # (B, n), the rows of U_i = E_i V_i diag(1/σ_i)
    U = torch.where(sigma > 0, U, 0)
    alpha = torch.zeros(num_ids, len(sigma), dtype=torch.float64, device=U.device)
    return alpha.index_add_(0, ids, error.to(torch.float64)[:, None] * U), sigma, Vt.T


def fm_gradient(error, ids, num_ids, partners):
    """∂L/∂E₁ = Σ_{i≥2} α_i diag(σ_i) V_iᵀ: what autograd gives, put together out of the partners' SVDs.

    Args:
        error (Tensor): (B,), ∂L/∂logit of each row of the batch.
        ids (Tensor): (B,), x₁ of each row.
        num_ids (int): D₁.
        partners (list of (Tensor, Tensor)): of each other field, its table (D_i, K) and its ids (B,).

    Returns:
        Tensor: (D₁, K), float64.

    Example::

        >>> partner = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # one row of the batch, x₁ = 0, x₂ = 1
        >>> fm_gradient(torch.tensor([0.5]), torch.tensor([0]), 1, [(partner, torch.tensor([1]))])
        tensor([[0., 2.]], dtype=torch.float64)
    """
    total = 0
    for table, partner_ids in partners:
        alpha, sigma, V = gradient_coefficients(error, ids, num_ids, table, partner_ids)
        total = total + alpha * sigma @ V.T
    return total
