"""Interaction modules: each computes all M embedding sets in one pass, (B, M, ·) -> (B, M, ·)."""

from fuxictr_me.interactions.cin import CompressedInteraction
from fuxictr_me.interactions.cross_network import CrossNetwork, CrossNetworkMix
from fuxictr_me.interactions.field_weighted import FieldWeightedFM
from fuxictr_me.interactions.inner_product import InnerProduct
from fuxictr_me.interactions.mlp import MLP
from fuxictr_me.interactions.sets import PerChannel, SetLinear, require_one_dim
from fuxictr_me.interactions.shared import SharedBySets

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
