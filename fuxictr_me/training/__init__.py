"""What makes a step, an evaluation and a run fast, and equal to FuxiCTR's."""

from fuxictr_me.training.compilation import CompiledOrEager
from fuxictr_me.training.loop import FastTraining
from fuxictr_me.training.optimizer import build_optimizer
from fuxictr_me.training.precision import PRECISIONS, autocast
from fuxictr_me.training.step import check_updates, split_parameters
from fuxictr_me.training.table_updates import UPDATES

__all__ = [
    "PRECISIONS",
    "UPDATES",
    "CompiledOrEager",
    "FastTraining",
    "autocast",
    "build_optimizer",
    "check_updates",
    "split_parameters",
]
