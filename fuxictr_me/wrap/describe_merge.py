"""Describe in words where the sets of a model are merged."""

from collections.abc import Iterable

from torch import nn

from fuxictr_me.wrap.merge_points import ModelSplit


def describe_merge(model: nn.Module, split: ModelSplit) -> str:
    """Return lines that say where the sets of a model (set 0) are merged, and what they share."""
    lines = [f"Merge points: {', '.join(map(str, split.points))}"]
    for point in split.points:
        kind = type(model.get_submodule(point.path)).__name__
        side = "the input" if point.side == "input" else "the output"
        hidden = "behind a hidden layer" if split.hidden[point] else "with no hidden layer before it"
        lines.append(f"{point}: {side} of {point.path} ({kind}) is averaged over the sets, {hidden}")
    lines.append(f"In every set: {_name_modules(model, split.set_parameters)}")
    lines.append(
        f"Once, behind the merge: {_name_modules(model, split.head_parameters) or 'nothing, logits are averaged'}"
    )
    return "\n".join(f"  {line}" for line in lines)


def _name_modules(model: nn.Module, names: Iterable[str]) -> str:
    """Return the outermost modules whose trained parameters are all among ``names``, and the remaining parameters."""
    left, modules = set(names), []
    for path, module in model.named_modules():
        trained = {name for name, p in module.named_parameters(prefix=path) if p.requires_grad}
        if path and not path.startswith("sets.") and trained and trained <= left:
            modules.append(path)
            left -= trained
    return ", ".join([*modules, *sorted(left)])
