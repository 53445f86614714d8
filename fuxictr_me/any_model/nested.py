"""Tensors inside what modules take and give: tuples, lists, dicts of them."""

import torch


def tensors(value):
    """All tensors in ``value``, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for part in value for tensor in tensors(part)]


def with_tensors(value, replacements):
    """``value``, its tensors replaced in order by what the iterator ``replacements`` gives."""
    if isinstance(value, torch.Tensor):
        return next(replacements)
    if isinstance(value, dict):
        return type(value)((key, with_tensors(part, replacements)) for key, part in value.items())
    if isinstance(value, list | tuple):
        parts = [with_tensors(part, replacements) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
