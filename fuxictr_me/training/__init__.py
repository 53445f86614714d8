"""What makes a step, an evaluation and a run fast, and equal to FuxiCTR's."""

from fuxictr_me.training.loop import FastTraining
from fuxictr_me.training.optimizer import build_optimizer
from fuxictr_me.training.rows import UPDATES
from fuxictr_me.training.step import check_updates, split_parameters

__all__ = ["UPDATES", "FastTraining", "build_optimizer", "check_updates", "split_parameters"]
