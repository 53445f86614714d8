"""Gradients of a model by name, and the fixed dropout mask of tests."""

import torch

from fuxictr_me import MultiEmbedding


def gradients(model):
    """Return the gradient of every trained parameter by its name in the state dict; fused tables are cut into parts."""
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in model.named_modules():
        table = getattr(module, "table", None)
        if isinstance(module, MultiEmbedding) and table is not None:
            whole = found.pop(f"{prefix}.table.weight")
            for m, columns in enumerate(table.columns):
                for field, rows in zip(table.fields, table.rows, strict=True):
                    name = f"{prefix}.sets.{m}.embedding_layer.embedding_layers.{field}.weight"
                    found[name] = None if whole is None else whole[rows, columns]
    return found


def mask_of(width):
    """Return a dropout mask of rate 0.2 that drops every third channel."""
    return (torch.arange(width) % 3 != 1).float() / 0.8
