"""The former home of ``fuxictr_me.config.training``; to be removed once nothing imports it."""

from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.config.model_options import check_merge
from fuxictr_me.config.training import (
    check_bool,
    check_dropout,
    check_foreign_settings,
    check_gpu,
    check_labels,
    check_loss_of_task,
    check_metrics,
    check_model_settings,
    check_optimizer_and_loss,
    check_positive_number,
    check_task,
    check_weight,
    counted_metrics,
)
from fuxictr_me.config.training_options import GROUP_METRICS, METRICS, TASKS, check_activation, check_regularizer

__all__ = [
    "GROUP_METRICS",
    "METRICS",
    "TASKS",
    "check_activation",
    "check_bool",
    "check_dropout",
    "check_foreign_settings",
    "check_gpu",
    "check_initializer",
    "check_labels",
    "check_loss_of_task",
    "check_merge",
    "check_metrics",
    "check_model_settings",
    "check_optimizer_and_loss",
    "check_positive_number",
    "check_regularizer",
    "check_task",
    "check_weight",
    "counted_metrics",
]
