"""Former home of the interaction modules; scripts and configs that import it from here keep working."""

from fuxictr_me.nn import (
    MLP,
    CompressedInteraction,
    CrossNetwork,
    CrossNetworkMix,
    FieldWeightedFM,
    InnerProduct,
    PerChannel,
    SetLinear,
    SharedBySets,
    require_one_dim,
)

__all__ = [
    "MLP",
    "CompressedInteraction",
    "CrossNetwork",
    "CrossNetworkMix",
    "FieldWeightedFM",
    "InnerProduct",
    "PerChannel",
    "SetLinear",
    "SharedBySets",
    "require_one_dim",
]
