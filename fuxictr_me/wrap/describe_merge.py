"""What a merge means, in words."""


def describe(model, split):
    """Where the sets of a model are merged, and what is shared, a line each.

    Args:
        model (nn.Module): set 0.
        split (Split)

    Returns:
        str
    """
    lines = [f"Merge points: {', '.join(map(str, split.points))}"]
    for point in split.points:
        kind = type(model.get_submodule(point.path)).__name__
        way = "goes into" if point.side == "input" else "comes out of"
        behind = "behind a hidden layer" if split.hidden[point] else "with no hidden layer before it"
        lines.append(f"{point}: what {way} {point.path} ({kind}) is averaged over the sets, {behind}")
    lines.append(f"Of each set: {_modules(model, split.of_a_set)}")
    lines.append(f"There once, behind the merge: {_modules(model, split.head) or 'nothing, logits are averaged'}")
    return "\n".join(f"  {line}" for line in lines)


def _modules(model, names):
    """The outermost modules whose trained parameters are all among ``names``, and parameters that lie beside others."""
    left, found = set(names), []
    for path, module in model.named_modules():
        trained = {name for name, p in module.named_parameters(prefix=path) if p.requires_grad}
        if path and not path.startswith("sets.") and trained and trained <= left:
            found.append(path)
            left -= trained
    return ", ".join([*found, *sorted(left)])
