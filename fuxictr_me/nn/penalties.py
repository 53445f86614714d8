"""Penalties on the training loss that keep embedding sets, or the directions within one, different.

The first three are ablations of the paper's authors' code (the fourth, on cross weights, is
``CrossNetwork.distance_from_orthogonal``); the others are beyond the paper, as is ``spectral_balance``, which is on
whole tables. All are differentiable scalars.
"""

import itertools

import torch
from torch import Tensor

HSIC_ROWS = 1_024  # of a batch; a kernel has their square of entries, for each set


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


def set_hsic(h: Tensor) -> Tensor:
    """Return the Hilbert-Schmidt independence criterion between the representations of two sets, over pairs of sets.

    tr(K⁽ᵐ⁾ H K⁽ⁿ⁾ H) / (n - 1)², mean over m < n, with H = I - 11ᵀ/n: the estimate of Gretton, Bousquet, Smola &
    Schölkopf, "Measuring statistical dependence with Hilbert-Schmidt norms" (2005). Unlike a covariance, it also sees
    dependence that is not linear. DESMIL (arXiv 2207.07910) measures with it how far the interests of a user depend
    on each other; as a penalty between embedding sets, the choices that follow are fuxictr-me's.

    The kernel is Gaussian, K_ij = exp(-‖h_i - h_j‖² / s), where s is the mean of ‖h_i - h_j‖² over pairs of different
    rows, separately for each set. The result thus lies between 0 and 1 and does not depend on the scale of h. The
    gradient includes that of s, because otherwise the penalty would seem to fall when h shrinks.

    Only the first 1,024 rows of a batch count, because the kernels need M n² numbers. The result is 0 for a batch of
    one row.

    Args:
        h: (B, M, H).
    """
    n, num_sets = min(len(h), HSIC_ROWS), h.shape[1]
    if n == 1:
        return h.new_zeros(())
    with torch.autocast(h.device.type, enabled=False):  # differences of squares need all digits
        h = h[:n].to(torch.promote_types(h.dtype, torch.float32)).transpose(0, 1)
        h = h - h.mean(dim=1, keepdim=True)
        squares = h.square().sum(dim=2)  # not the products' diagonal, whose gradient PyTorch 2.13 compiles wrongly
        distances = (squares.unsqueeze(2) + squares.unsqueeze(1) - 2 * h @ h.transpose(1, 2)).clamp_min(0)  # (M, n, n)
        s = distances.sum(dim=(1, 2), keepdim=True) / (n * (n - 1))
        K = torch.exp(-distances / s.clamp_min(torch.finfo(s.dtype).tiny))
        K = K - K.mean(dim=1, keepdim=True)
        K = (K - K.mean(dim=2, keepdim=True)).flatten(1)  # HKH; H is idempotent
        of_pairs = (K @ K.T).triu(1)  # (M, M)
        return of_pairs.sum() / (num_sets * (num_sets - 1) / 2) / (n - 1) ** 2
