"""Find the embedding layer in a checkpoint whose fields and shapes match a given layer."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from fuxictr_me.errors import UsageError


def find_matching_layer(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], prefer: str = ""
) -> dict[str, Tensor]:
    """Return the one embedding layer of a checkpoint whose fields and shapes are those of ``own``.

    Args:
        own: state dict of a FuxiCTR ``FeatureEmbeddingDict``.
        state_dict: of a whole model.
        prefer: part of the name of the layer that is chosen if several fit.

    Returns:
        Names as in ``own`` -> Tensor.

    Raises:
        UsageError: if no layer fits, or several do.
    """
    first = next(iter(own))
    prefixes = [key[: -len(first)] for key in state_dict if ("." + key).endswith("." + first)]
    fitting = [
        prefix
        for prefix in prefixes
        if all(prefix + k in state_dict and state_dict[prefix + k].shape == v.shape for k, v in own.items())
    ]
    if preferred := [prefix for prefix in fitting if prefer and prefer in prefix]:
        fitting = preferred
    if len(fitting) != 1:
        raise UsageError(_explain_misfit(own, state_dict, prefixes, fitting))
    return {key: state_dict[fitting[0] + key] for key in own}


def _explain_misfit(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], prefixes: Sequence[str], fitting: Sequence[str]
) -> str:
    if len(fitting) > 1:
        return f"several embedding layers of the checkpoint fit: {', '.join(fitting)}"
    if not prefixes:
        return f"the checkpoint has no embedding layer with {next(iter(own))!r}"
    for key, tensor in own.items():
        stored = state_dict.get(prefixes[0] + key)
        if stored is None or stored.shape != tensor.shape:
            shape = "nothing" if stored is None else tuple(stored.shape)
            return f"{prefixes[0] + key!r} does not fit: the checkpoint has {shape}, here is {tuple(tensor.shape)}"
    return "the checkpoint does not fit"
