"""Interaction modules: each computes all M embedding sets in one pass, (B, M, ·) -> (B, M, ·)."""

from fuxictr_me.interactions.cross_network import CrossNetwork, CrossNetworkMix
from fuxictr_me.interactions.mlp import SetMLP
from fuxictr_me.interactions.sets import SetLinear

__all__ = ["CrossNetwork", "CrossNetworkMix", "SetLinear", "SetMLP"]
