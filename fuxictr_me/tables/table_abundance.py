"""Information abundance of all fields of a model."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fuxictr_me.collapse.spectrum import abundance, abundance_by_gram, gram_matrix, triangular_factor
from fuxictr_me.tables.find_tables import FieldTables

Abundance = tuple[list[float], float]  # IA(E¹) … IA(Eᴹ), and IA([E¹ … Eᴹ])


def abundance_of_fields(fields: Sequence[FieldTables], by_gram: bool | None = None) -> list[Abundance | ValueError]:
    """Return ``abundance_of_sets`` of all fields of a model; fields on a GPU share one transfer to the CPU.

    Args:
        fields: the tables of each field.
        by_gram: whether to compute as on a GPU: the fields' Gram matrices are computed where the tables lie, and their
            eigenvalues, the squares of the singular values, on the CPU. IA is then exact to about K · 1e-8, see
            ``gram_matrix``. None: if the tables lie on a GPU.

    Returns:
        For each field its abundance, or a ValueError for tables with entries that are not finite.
    """
    chosen = [i for i, tables in enumerate(fields) if (tables.sets[0].is_cuda if by_gram is None else by_gram)]
    grams = _copy_to_cpu([gram_matrix(fields[i].sets, fields[i].exclude) for i in chosen])
    finite = {i: gram for i, gram in zip(chosen, grams, strict=True) if gram.isfinite().all()}
    parts = [part for i, gram in finite.items() for part in (*_diagonal_blocks(gram, fields[i].dims), gram)]
    measured = iter(abundance_by_gram(parts))
    return [
        ([next(measured) for _ in tables.dims], next(measured)) if i in finite else _abundance_or_error(tables)
        for i, tables in enumerate(fields)
    ]


def abundance_of_sets(tables: FieldTables) -> Abundance:
    """Return the IA of every set, and of all sets side by side, from one pass over the tables of a field.

    Raises:
        ValueError: if entries are not finite.
    """
    R = triangular_factor(tables.sets, tables.exclude)
    blocks = R.split(tables.dims, dim=1)
    return [abundance(torch.linalg.svdvals(block)) for block in blocks], abundance(torch.linalg.svdvals(R))


def _diagonal_blocks(gram: Tensor, dims: list[int]) -> list[Tensor]:
    """Cut the Gram matrices of column blocks, ``dims`` columns each, out of that of all blocks side by side."""
    ends = itertools.accumulate(dims)
    return [gram[end - dim : end, end - dim : end] for dim, end in zip(dims, ends, strict=True)]


def _copy_to_cpu(tensors: list[Tensor]) -> list[Tensor]:
    """Copy tensors in one transfer."""
    if not tensors:
        return []
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    return [part.view(x.shape) for part, x in zip(flat.split([x.numel() for x in tensors]), tensors, strict=True)]


def _abundance_or_error(tables: FieldTables) -> Abundance | ValueError:
    try:
        return abundance_of_sets(tables)
    except ValueError as error:
        return error
