"""The options of training, which FuxiCTR's scripts and its base class read for every model."""

import functools
import math
import re
import warnings

import torch
from torch import nn

from fuxictr_me.config.callback_specs import check_callbacks
from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.config.optimizer_options import OPTIMIZER, OPTIMIZER_OPTIONS
from fuxictr_me.config.options import Option, index_by_name
from fuxictr_me.config.value_kinds import (
    Boolean,
    Checked,
    Choice,
    Integer,
    Number,
    OneOrList,
    Optional,
    Share,
    Text,
    short_repr,
)
from fuxictr_me.errors import UsageError, unknown

REGRESSION_METRICS = ("MSE", "MAE", "RMSE")
GROUP_METRICS = ("gAUC", "avgAUC", "MRR", "NDCG")
METRICS = (
    "AUC",
    "logloss",
    "binary_crossentropy",
    "gAUC",
    "avgAUC",
    "MRR",
    "NDCG(k=1)",
    "NDCG(k=5)",
    *REGRESSION_METRICS,
)
LOWER_IS_BETTER = ("logloss", "binary_crossentropy", *REGRESSION_METRICS)
TASKS = ("binary_classification", "regression")
PROBABILITY_LOSSES = ("bce", "binary_crossentropy", "binary_cross_entropy")
VALUE_LOSSES = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
LOSSES = PROBABILITY_LOSSES + VALUE_LOSSES
LARGEST_SEED = 2**32 - 1  # NumPy's
ANY_CASE_ACTIVATIONS = ("relu", "sigmoid", "tanh", "softmax", "prelu", "dice")  # FuxiCTR ignores their case
NDCG = r"NDCG\((k=)?[1-9]\d{0,3}\)"
NAME = r"^[A-Za-z]\w*$"


def is_metric(name: object) -> bool:
    """Return whether FuxiCTR or fuxictr-me computes a metric of this name."""
    return isinstance(name, str) and (name in METRICS or bool(re.fullmatch(NDCG, name)))


def check_regularizer(key: str, value: object) -> None:
    """Accept None, 0, a float (L2), or FuxiCTR's ``l1(x)``, ``l2(x)``, ``l1_l2(x,y)``."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0):
        return
    if isinstance(value, float) and math.isfinite(value) and value > 0:
        return
    form = (
        re.fullmatch(r"(?:l[12]\(([^,()]+)\)|l1_l2\(([^,()]+),([^,()]+)\))", value) if isinstance(value, str) else None
    )
    if form and all(_is_weight(number) for number in form.groups() if number is not None):
        return
    hint = ""
    if isinstance(value, str) and _is_weight(value):
        hint = f" (YAML reads {value} as text; write {value if '.' in value else value.replace('e', '.e')})"
    elif isinstance(value, int) and not isinstance(value, bool):
        hint = f" (FuxiCTR ignores integers; write {value}.0)"
    raise UsageError(f"{key} must be a positive float, l1(x), l2(x) or l1_l2(x,y), got {short_repr(value)}{hint}")


def check_activation(activation: object, label: str = "activation") -> None:
    """Accept None, a module, or a name that FuxiCTR's ``get_activation`` resolves."""
    if activation is None or isinstance(activation, nn.Module):
        return
    if not isinstance(activation, str):
        raise UsageError(f"{label} must be the name of an activation such as ReLU, got {short_repr(activation)}")
    if activation not in activations() and activation.lower() not in ANY_CASE_ACTIVATIONS:
        raise unknown(label, activation, [*activations(), "Dice"])


@functools.cache
def activations() -> tuple[str, ...]:
    """Return the activations of ``torch.nn`` that need no argument and keep the shape."""
    return tuple(name for name in vars(nn.modules.activation) if name[0].isupper() and _keeps_shape(name))


def _keeps_shape(name: str) -> bool:
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            return getattr(nn, name)()(torch.zeros(2, 4)).shape == (2, 4)
        except (TypeError, AttributeError, RuntimeError, NotImplementedError, ValueError):
            return False


def _is_weight(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _check_loss(label: str, value: object) -> None:
    if isinstance(value, str):
        Choice(*LOSSES).check(label, value)
    elif value is None or not callable(value):
        raise UsageError(f"{label} must be the name of a loss such as binary_crossentropy, got {short_repr(value)}")


def _check_gpu_number(label: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < -1:
        raise UsageError(f"{label} must be -1 (CPU) or a device number, got {short_repr(value)}")


def _check_monitor(label: str, value: object) -> None:
    if not isinstance(value, str | dict) or not value:
        raise UsageError(f"{label} must be a metric, or a weight for each of several, got {short_repr(value)}")


def _check_metrics_list(label: str, value: object) -> None:
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{label} must be a list such as ['AUC', 'logloss'], got {short_repr(value)}")


REGULARIZER = Checked(
    "a positive float, l1(x), l2(x) or l1_l2(x,y)",
    check_regularizer,
    {
        "anyOf": [
            {"type": "null"},
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^(l[12]\([^,()]+\)|l1_l2\([^,()]+,[^,()]+\))$"},
        ]
    },
)
ACTIVATIONS = OneOrList(
    Checked(
        "the name of an activation",
        lambda label, value: check_activation(value, label),
        {"anyOf": [{"type": "null"}, {"type": "string", "pattern": NAME}]},
    )
)
DROPOUT = OneOrList(Share())
INITIALIZER = Checked(
    "like nn.init.xavier_normal_",
    lambda label, value: check_initializer(value, label),
    {"type": "string", "pattern": r"^(paper|partial\(.+\)|(torch\.)?nn\.init\.\w+)$"},
)
LOSS = Checked(f"one of {', '.join(LOSSES)}", _check_loss, {"enum": list(LOSSES)})
TASK = Choice(*TASKS)
SEED = Integer(0, LARGEST_SEED)
METRIC_SCHEMA = {"anyOf": [{"enum": list(METRICS)}, {"type": "string", "pattern": rf"^{NDCG}$"}]}

TRAINING_OPTIONS = index_by_name(
    Option("model", Text("the name of a model"), "a model of fuxictr-me, of FuxiCTR's zoo, or `package.module:Class`"),
    Option("dataset_id", Text(), "entry of `dataset_config.yaml`"),
    Option("model_id", Text(), "name of the experiment, which FuxiCTR sets"),
    Option("model_root", Text("a path"), "folder of checkpoints, logs and results", "./checkpoints/"),
    Option(
        "gpu",
        Checked("-1 or a device number", _check_gpu_number, {"type": "integer", "minimum": -1}),
        "CUDA device, -1 for the CPU; the command's `--gpu` replaces it",
        -1,
    ),
    Option("seed", SEED, "seed of the weights, of dropout and of the order of rows", 2024),
    Option("epochs", Integer(1), "maximum number of passes over the training data", 1),
    Option("task", OneOrList(TASK), "`binary_classification` or `regression`; a list for a multi-task model", TASKS[0]),
    Option(
        "loss",
        OneOrList(LOSS),
        "the loss to minimise, such as `binary_crossentropy` or `mse_loss`; a list for a multi-task model",
        "binary_crossentropy",
    ),
    OPTIMIZER,
    Option("learning_rate", Number(above=0), "learning rate of the optimizer", 1e-3),
    *OPTIMIZER_OPTIONS.values(),
    Option(
        "embedding_regularizer",
        REGULARIZER,
        "penalty on embeddings: a float (L2), `l1(x)`, `l2(x)`, `l1_l2(x,y)`",
        None,
    ),
    Option("net_regularizer", REGULARIZER, "the same on all other weights", None),
    Option(
        "metrics",
        Checked(
            "a list of metrics",
            _check_metrics_list,
            {"type": "array", "items": METRIC_SCHEMA, "minItems": 1, "uniqueItems": True},
        ),
        "metrics of every evaluation: `AUC`, `logloss`, `gAUC`, `avgAUC`, `MRR`, `NDCG(k=5)`; for a regression "
        "`MSE`, `MAE`, `RMSE`",
        ["AUC", "logloss"],
    ),
    Option(
        "monitor",
        Checked(
            "a metric, or weights of several",
            _check_monitor,
            {
                "anyOf": [
                    METRIC_SCHEMA,
                    {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 1},
                ]
            },
        ),
        "the metric that chooses the best weights, or weights of several metrics",
        "AUC",
    ),
    Option("monitor_mode", Choice("max", "min"), "whether more of it is better (`max`) or less (`min`)", "max"),
    Option("early_stop_patience", Integer(1), "evaluations without a better `monitor` after which training stops", 2),
    Option("eval_steps", Optional(Integer(1)), "steps between evaluations; `null` evaluates after each epoch", None),
    Option("save_best_only", Boolean(), "whether only the best weights are kept", True),
    Option("reduce_lr_on_plateau", Boolean(), "whether the learning rate falls when `monitor` does not improve", True),
    Option("max_gradient_norm", Number(above=0), "norm above which gradients are scaled down", 10.0),
    Option("verbose", Integer(0), "0 shows no progress bar", 1),
    Option(
        "callbacks",
        Checked("a list of callbacks", check_callbacks, {"type": ["array", "object", "string", "null"]}),
        "`[InformationAbundance]` measures collapse during training; see [Callbacks](../docs/callbacks.md)",
        None,
    ),
    Option(
        "embedding_dim",
        OneOrList(Integer(1)),
        "K of one set; a list such as `[10, 10, 20]` gives each set its own dimension, and determines the number of "
        "sets",
        10,
    ),
)

MULTI_TASK_OPTIONS = index_by_name(Option("num_tasks", Integer(1), "number of tasks of a multi-task model", 1))
