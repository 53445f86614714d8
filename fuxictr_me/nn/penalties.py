"""Penalties on the training loss that keep embedding sets, or the directions within one, different.

The first three are ablations of the paper's authors' code (the fourth, on cross weights, is
``CrossNetwork.distance_from_orthogonal``); the others are beyond the paper. All are differentiable scalars.
"""

import itertools

import torch
from torch import Tensor


def norm_alignment(norms: Tensor) -> Tensor:
    """Return the mean over layers and field pairs of the across-set variance of ‖W⁽ᵐ⁾_{i→j}‖²_F.

    It makes sets alike (paper, figure 8d).

    Args:
        norms: (M, L, F, F), squared Frobenius norms.
    """
    return norms.var(dim=0, unbiased=False).mean()


def space_similarity(e: Tensor) -> Tensor:
    """Return the mean squared singular value of E⁽ᵐ⁾ᵀ E⁽ⁿ⁾ of a batch, over pairs of sets.

    As in the authors' code, the k-th largest singular values are averaged over the fields before they are
    squared: mean_{m<n, k} (mean_i σ_k(E_i⁽ᵐ⁾ᵀ E_i⁽ⁿ⁾))². With one field that is ‖E⁽ᵐ⁾ᵀE⁽ⁿ⁾‖²_F / K.

    Args:
        e: (B, M, F, K), the embeddings of the batch.
    """
    e = e.permute(1, 2, 0, 3)  # (M, F, B, K)
    first, second = torch.combinations(torch.arange(len(e), device=e.device)).T
    products = e[first].transpose(-1, -2) @ e[second]  # (M(M - 1)/2, F, K, K)
    return torch.linalg.svdvals(products).mean(dim=1).square().mean()


def singular_value_variance(e: Tensor) -> Tensor:
    """Return the variance of S / mean(S), S the singular values of a batch's embeddings; mean over fields and sets.

    It is low if the directions of an embedding are used evenly (authors' code, for one set), and 0 for a batch with
    one singular value per field.

    Args:
        e: (B, M, F, K).
    """
    S = torch.linalg.svdvals(e.permute(1, 2, 0, 3))  # (M, F, min(B, K))
    if S.shape[-1] == 1:
        return e.new_zeros(())
    return (S / S.mean(dim=-1, keepdim=True)).var(dim=-1).mean()


def set_covariance(h: Tensor) -> Tensor:
    """Return the mean squared covariance between the representations of two sets, over pairs of sets.

    (1/H²) Σ_{ab} Cov(h_a⁽ᵐ⁾, h_b⁽ⁿ⁾)², mean over m < n, with the batch's covariance over B - 1. It is 0 for a batch of
    one row.

    After the cross-experts covariance loss of "Crocodile: Cross Experts Covariance for Disentangled Learning in
    Multi-Domain Recommendation" (arXiv 2405.12706). By summaries of the paper, which are all that we could see, that
    loss is (1/d²) Σ ‖(O⁽ᵖ⁾ - Ō⁽ᵖ⁾)ᵀ (O⁽q⁾ - Ō⁽q⁾)‖₁ over pairs of experts: absolute entries instead of squared ones, a
    sum over pairs instead of the mean, and a sum over the rows of the batch instead of the covariance.

    Args:
        h: (B, M, H).
    """
    if len(h) == 1:
        return h.new_zeros(())
    centred = (h - h.mean(dim=0)).transpose(0, 1)  # (M, B, H)
    pairs = list(itertools.combinations(centred, 2))
    total = h.new_zeros(())
    for first, second in pairs:
        total = total + (first.T @ second / (len(h) - 1)).square().mean()
    return total / len(pairs)


def mutual_learning(logits: Tensor) -> Tensor:
    """Return the symmetric Kullback-Leibler divergence between the predictions of two sets, over pairs of sets.

    ½ [KL(p⁽ᵐ⁾ ‖ p⁽ⁿ⁾) + KL(p⁽ⁿ⁾ ‖ p⁽ᵐ⁾)] of p = sigmoid(z), mean over m < n and over the rows. For Bernoulli
    variables it equals ½ (p⁽ᵐ⁾ - p⁽ⁿ⁾) (z⁽ᵐ⁾ - z⁽ⁿ⁾). The mean of that over pairs is the covariance of p and z over the
    sets, with M - 1.

    After CETNet, "A Collaborative Ensemble Framework for CTR Prediction" (arXiv 2411.13700), in which two models learn
    from each other. We could not see its formulas; that the divergence is symmetric is from a summary of the paper. The
    mean over pairs of more than two models, and gradients to both sides, are our choice. Whether each model there has a
    loss of its own beside that of the fused prediction, we do not know; here only the fused prediction has one.

    Args:
        logits: z, (B, M, 1), M ≥ 2.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))  # of bfloat16 under autocast
    p = torch.sigmoid(z)
    products = (p - p.mean(dim=1, keepdim=True)) * (z - z.mean(dim=1, keepdim=True))
    return products.sum(dim=1).mean() / (z.shape[1] - 1)
