"""Record the representations of any FuxiCTR model: the outputs of its modules, in the order of the calls."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from fuxictr_me.compat import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from fuxictr_me.representations.recorder import Recorder

EMBEDDING_LAYERS = (FeatureEmbedding, FeatureEmbeddingDict)
FURTHER_SET = re.compile(r"sets\.(?P<set>\d+)\.(?P<path>.+)")  # of a model that ``MultiEmbeddingOf`` has wrapped


def watch_modules(model: nn.Module, recorder: Recorder) -> Iterator[RemovableHandle]:
    """Let ``recorder`` see the outputs of all modules, inner ones first, and yield the handles of the hooks.

    A module's result is a representation if it is a tensor of two or three axes, the last two of which are flattened.
    The fields of an embedding layer are put side by side. Modules inside an embedding layer and linear terms (FuxiCTR's
    ``LogisticRegression``) are left out. A module that returns what one inside it returned is recorded once.
    Operations that belong to no module, such as a sum in ``forward``, are not seen. Where ``MultiEmbeddingOf`` averages
    the sets, their mean is recorded.
    """
    is_wrapped = hasattr(model, "merge_points")
    recorder.merges_sets = is_wrapped and len(getattr(model, "sets", ())) > 0
    if recorder.merges_sets:
        yield from _watch_merges(model, recorder)
    closed: list[str] = []
    for path, module in model.named_modules():
        if not path or any(path.startswith(f"{outer}.") for outer in closed):
            continue
        if isinstance(module, (*EMBEDDING_LAYERS, LogisticRegression)):
            closed.append(path)
        if isinstance(module, LogisticRegression):
            continue
        further = FURTHER_SET.fullmatch(path) if is_wrapped else None
        name, m = (further["path"], int(further["set"])) if further else (path, 0)
        yield module.register_forward_hook(_make_hook(recorder, name, m), with_kwargs=True)


def _watch_merges(model: Any, recorder: Recorder) -> Iterator[RemovableHandle]:
    """Record the mean over the sets at merge points that are inputs. That at outputs is recorded as the output."""
    for point in model.merge_points:
        if point.side == "input":
            module, name = model.get_submodule(point.path), f"mean before {point.path}"
            yield module.register_forward_pre_hook(_make_merge_hook(recorder, name), with_kwargs=True)


def _make_merge_hook(recorder: Recorder, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, inputs: Any, named_inputs: Any) -> None:
        x = next(leaf for leaf in tree_leaves((inputs, named_inputs)) if isinstance(leaf, Tensor))
        if x.ndim in (2, 3):
            recorder.add(name, {0: x}, x)

    return record


def _make_hook(recorder: Recorder, name: str, m: int) -> Callable[[nn.Module, Any, Any, Any], None]:
    def record(module: nn.Module, inputs: Any, named_inputs: Any, output: Any) -> None:
        x = _join_fields(output) if isinstance(module, EMBEDDING_LAYERS) else output
        x = x[0] if isinstance(x, tuple | list) and x else x
        if isinstance(x, Tensor) and x.ndim in (2, 3):
            recorder.add(name, {m: x}, x, (inputs, named_inputs))

    return record


def _join_fields(output: Any) -> Any:
    """Return the fields (B, ·) of an embedding layer's dict side by side; a tensor is returned as it is."""
    if isinstance(output, Tensor):
        return output
    fields = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.ndim > 1]
    return torch.cat([x.flatten(1) for x in fields], dim=1) if len({len(x) for x in fields}) == 1 else None
