"""Find the embedding layer in a checkpoint that fits one of ours."""

from fuxictr_me.errors import UsageError


def find_layer(own, state_dict, prefer=""):
    """The one embedding layer of a checkpoint whose fields and shapes are those of ``own``.

    Args:
        own (dict): state dict of a FuxiCTR ``FeatureEmbeddingDict``.
        state_dict (dict): of a whole model.
        prefer (str): part of the name of the layer that is taken where several fit.

    Returns:
        dict: names as in ``own`` -> Tensor.

    Raises:
        UsageError: none fits, or several do.
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
        raise UsageError(_why_none_fits(own, state_dict, prefixes, fitting))
    return {key: state_dict[fitting[0] + key] for key in own}


def _why_none_fits(own, state_dict, prefixes, fitting):
    if len(fitting) > 1:
        return f"several embedding layers of the checkpoint fit: {', '.join(fitting)}"
    if not prefixes:
        return f"the checkpoint has no embedding layer with {next(iter(own))!r}"
    for key, tensor in own.items():
        found = state_dict.get(prefixes[0] + key)
        if found is None or found.shape != tensor.shape:
            has = "nothing" if found is None else tuple(found.shape)
            return f"{prefixes[0] + key!r} does not fit: the checkpoint has {has}, here is {tuple(tensor.shape)}"
    return "the checkpoint does not fit"
