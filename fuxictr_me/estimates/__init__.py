"""Estimate the memory, operations and time of a run before it starts."""

from fuxictr_me.estimates.gpus import GPUS
from fuxictr_me.estimates.plan import Plan, plan, what_would_fit
from fuxictr_me.estimates.simulate import Memory, simulate

__all__ = ["GPUS", "Memory", "Plan", "plan", "simulate", "what_would_fit"]
