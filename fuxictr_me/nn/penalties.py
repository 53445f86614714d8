"""What can be added to the training loss to keep embedding sets, or directions in one, apart.

The first three are ablations of the paper's authors' code (the fourth, on cross weights, is
``CrossNetwork.distance_from_orthogonal``); the last is beyond the paper. All are differentiable.
"""

import itertools

import torch


def norm_alignment(norms):
    """Mean over layers and field pairs of the across-set variance of ‖W⁽ᵐ⁾_{i→j}‖²_F (figure 8d: forces sets alike).

    Args:
        norms (Tensor): (M, L, F, F), squared Frobenius norms.

    Returns:
        Tensor: ().
    """
    return norms.var(dim=0, unbiased=False).mean()


def space_similarity(e):
    """Mean squared singular value of E⁽ᵐ⁾ᵀ E⁽ⁿ⁾ of a batch, over pairs of sets.

    As in the authors' code, the k-th largest singular values are averaged over the fields before they are
    squared: mean_{m<n, k} (mean_i σ_k(E_i⁽ᵐ⁾ᵀ E_i⁽ⁿ⁾))². With one field that is ‖E⁽ᵐ⁾ᵀE⁽ⁿ⁾‖²_F / K.

    Args:
        e (Tensor): (B, M, F, K), the batch's embeddings.

    Returns:
        Tensor: ().
    """
    e = e.permute(1, 2, 0, 3)  # (M, F, B, K)
    first, second = torch.combinations(torch.arange(len(e), device=e.device)).T
    products = e[first].transpose(-1, -2) @ e[second]  # (M(M - 1)/2, F, K, K)
    return torch.linalg.svdvals(products).mean(dim=1).square().mean()


def singular_value_variance(e):
    """Variance of S / mean(S), S the singular values of a batch's embeddings of a field; mean over fields and sets.

    Low where the directions of an embedding are used evenly (authors' code, for one set). Of a batch with
    one singular value a field it is 0.

    Args:
        e (Tensor): (B, M, F, K).

    Returns:
        Tensor: ().
    """
    S = torch.linalg.svdvals(e.permute(1, 2, 0, 3))  # (M, F, min(B, K))
    if S.shape[-1] == 1:
        return e.new_zeros(())
    return (S / S.mean(dim=-1, keepdim=True)).var(dim=-1).mean()


def set_covariance(h):
    """Mean squared covariance between the representations of two sets, over pairs of sets.

    (1/H²) Σ_{ab} Cov(h_a⁽ᵐ⁾, h_b⁽ⁿ⁾)², mean over m < n, with the batch's covariance over B - 1: a penalty in
    the manner of "Crocodile: Cross Experts Covariance" (arXiv 2405.12706), squared rather than absolute. Of a
    batch of one row it is 0.

    Args:
        h (Tensor): (B, M, H).

    Returns:
        Tensor: ().
    """
    if len(h) == 1:
        return h.new_zeros(())
    centred = (h - h.mean(dim=0)).transpose(0, 1)  # (M, B, H)
    pairs = list(itertools.combinations(centred, 2))
    covariances = (m.T @ n / (len(h) - 1) for m, n in pairs)
    return sum(C.square().mean() for C in covariances) / len(pairs)
