"""A penalty on whole embedding tables that makes their singular values equal."""

from typing import Any

import torch
from torch import Tensor, nn

from fuxictr_me.nn.embedding_sets import MultiEmbedding


def spectral_balance(embedding: MultiEmbedding) -> Tensor:
    """Return ``spectral_imbalance`` of the tables of an embedding layer, mean over fields and sets, ().

    The aim, a table whose singular values are equal, is that of DirectSpec (Peng et al., "Balancing Embedding Spectrum
    for Recommendation", arXiv 2406.12032). The measure is not: it is the distance of the participation ratio (see
    ``fuxictr_me.collapse.participation_ratio``) from its maximum.
    """
    return torch.cat([spectral_imbalance(E).flatten() for E in trained_tables(embedding)]).mean()


def spectral_imbalance(E: Tensor) -> Tensor:
    """Return ‖G / tr(G) - I / K‖²_F with G = EᵀE, which is Σσ⁴ / (Σσ²)² - 1 / K.

    It is 0 if all K singular values are equal, and 1 - 1/K if only one is not 0. It does not depend on the scale of E,
    so its gradient is inversely proportional to the scale: the embeddings of FuxiCTR's initialiser, of 1e-4, get a
    large one. A row of zeros, such as a padding row, neither counts nor gets a gradient.

    Args:
        E: (..., D, K).

    Returns:
        (...).
    """
    with torch.autocast(E.device.type, enabled=False):
        trace = E.square().sum(dim=(-2, -1), keepdim=True)
        G = E.transpose(-1, -2) @ E / trace.clamp_min(torch.finfo(E.dtype).tiny)
        return (G - torch.eye(E.shape[-1], dtype=G.dtype, device=G.device) / E.shape[-1]).square().sum(dim=(-2, -1))


def trained_tables(embedding: MultiEmbedding) -> list[Tensor]:
    """Return the tables that ids are looked up in, with gradient, each (D, K) of one set or (M, D, K) of all sets.

    Pretrained tables and the weights of numeric fields are left out. A table that fields share is listed once.
    """
    tables, fused = [], embedding.table
    if fused is not None:  # split, because the backward pass of a slice would allocate a gradient of the whole table
        for rows in fused.weight.split([rows.stop - rows.start for rows in fused.rows]):
            if len(set(fused.dims)) == 1:
                tables.append(rows.unflatten(1, (len(fused.dims), -1)).transpose(0, 1))
            else:
                tables.extend(rows.split(fused.dims, dim=1))
    sets: Any = embedding.sets
    others = {
        id(layer): layer.weight
        for embedding_set in sets
        for layer in embedding_set.embedding_layer.embedding_layers.values()
        if type(layer) is nn.Embedding and layer.weight.requires_grad
    }
    return tables + list(others.values())
