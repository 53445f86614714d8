"""Old import path of the interaction modules, which keeps working. New code imports ``fuxictr_me.nn``."""

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
