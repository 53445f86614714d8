"""Layers. An interaction module computes all M embedding sets in one pass, (B, M, ·) -> (B, M, ·).

Letters in shapes: B rows of a batch, M sets (``num_sets``), F fields (``num_fields``), K dimensions of an embedding,
S heads (``num_heads``). ``field_dims`` is the width of each field, with the sum ΣK.
"""

from fuxictr_me.nn.cin import CompressedInteraction
from fuxictr_me.nn.cross_network import CrossNetwork, CrossNetworkMix
from fuxictr_me.nn.field_weighted import FieldWeightedFM
from fuxictr_me.nn.inner_product import InnerProduct
from fuxictr_me.nn.mlp import MLP
from fuxictr_me.nn.set_linear import PerChannel, SetLinear, require_one_dim
from fuxictr_me.nn.shared_interaction import SharedBySets

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
