"""Training steps and evaluations that have FuxiCTR's values and take less time."""

from fuxictr_me.training.compilation import CompiledOrEager
from fuxictr_me.training.loop import FastTraining
from fuxictr_me.training.optimizer import build_optimizer
from fuxictr_me.training.parameters import split_parameters
from fuxictr_me.training.precision import PRECISIONS, autocast
from fuxictr_me.training.step import check_updates
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
