"""Options of training: those that FuxiCTR's scripts and its base class read, whatever the model."""

import functools
import math
import re
import warnings

import torch
from torch import nn

from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.config.options import Option, table
from fuxictr_me.config.value_kinds import (
    Boolean,
    Checked,
    Choice,
    Either,
    Integer,
    ListOf,
    Number,
    Share,
    Text,
    optional,
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
NOT_FOR_TRAINING = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # a closure, sparse gradients, matrices alone
OPTIMIZERS = ("adam", *(name for name in vars(torch.optim) if name[0].isupper() and name not in NOT_FOR_TRAINING))
LARGEST_SEED = 2**32 - 1  # NumPy's


def is_metric(name: object) -> bool:
    """Return whether FuxiCTR, or this package, computes a metric of this name."""
    return isinstance(name, str) and (name in METRICS or bool(re.fullmatch(r"NDCG\((k=)?[1-9]\d{0,3}\)", name)))


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
    """Accept None, a module, or a name that FuxiCTR's ``get_activation`` makes a module of."""
    if activation is None or isinstance(activation, nn.Module):
        return
    if not isinstance(activation, str):
        raise UsageError(f"{label} must be the name of an activation such as ReLU, got {short_repr(activation)}")
    if activation not in activations() and activation.lower() not in IN_ANY_CASE:
        raise unknown(label, activation, [*activations(), "Dice"])


IN_ANY_CASE = ("relu", "sigmoid", "tanh", "softmax", "prelu", "dice")  # as FuxiCTR reads them


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


def _check_callbacks(label: str, value: object) -> None:
    from fuxictr_me.training.callbacks.from_config import check_callbacks  # which imports this package

    check_callbacks(value)


REGULARIZER = Checked(
    "a positive float, l1(x), l2(x) or l1_l2(x,y)", check_regularizer, {"type": ["number", "string", "null"]}
)
ACTIVATION = Checked(
    "the name of an activation", lambda label, value: check_activation(value, label), {"type": ["string", "null"]}
)
ACTIVATIONS = Either(ACTIVATION, ListOf(ACTIVATION))
DROPOUT = Either(Share(), ListOf(Share()))
INITIALIZER = Checked(
    "like nn.init.xavier_normal_", lambda label, value: check_initializer(value, label), {"type": "string"}
)
LOSS = Checked(f"one of {', '.join(LOSSES)}", _check_loss, {"enum": list(LOSSES)})
TASK = Choice(*TASKS)
SEED = Integer(0, LARGEST_SEED)
PATH_OF_ROOT = Text("a path")

TRAINING_OPTIONS = table(
    Option("model", Text("the name of a model"), "a model of fuxictr-me, of FuxiCTR's zoo, or `package.module:Class`"),
    Option("dataset_id", Text(), "entry of `dataset_config.yaml`"),
    Option("model_id", Text(), "the experiment's name, which FuxiCTR sets"),
    Option("model_root", PATH_OF_ROOT, "folder of checkpoints, logs and results", "./checkpoints/"),
    Option(
        "gpu",
        Checked("-1 or a device number", _check_gpu_number, {"type": "integer", "minimum": -1}),
        "CUDA device; `--gpu` says it",
        -1,
    ),
    Option("seed", SEED, "of weights, dropout and the order of rows", 2024),
    Option("epochs", Integer(1), "passes over the training data, at most", 1),
    Option("task", Either(TASK, ListOf(TASK)), "what is predicted; a list for a multi-task model", TASKS[0]),
    Option(
        "loss", Either(LOSS, ListOf(LOSS)), "what is minimised; a list for a multi-task model", "binary_crossentropy"
    ),
    Option(
        "optimizer",
        Checked("a class of torch.optim", lambda label, value: check_optimizer(value), {"type": "string"}),
        "a class of `torch.optim`",
        "adam",
    ),
    Option("learning_rate", Number(), "of the optimizer", 1e-3),
    Option("embedding_regularizer", REGULARIZER, "of embeddings: a float is L2", None),
    Option("net_regularizer", REGULARIZER, "of all other weights", None),
    Option(
        "metrics",
        Checked("a list of metrics", _check_metrics_list, {"type": "array", "items": {"type": "string"}}),
        "what is computed",
        ["AUC", "logloss"],
    ),
    Option(
        "monitor",
        Checked("a metric, or weights of several", _check_monitor, {"type": ["string", "object"]}),
        "the metric that chooses the best weights",
        "AUC",
    ),
    Option("monitor_mode", Choice("max", "min"), "whether more of it is better, or less", "max"),
    Option("early_stop_patience", Integer(1), "evaluations without a better monitor before training stops", 2),
    Option("eval_steps", optional(Integer(1)), "steps from one evaluation to the next; null: an epoch", None),
    Option("save_best_only", Boolean(), "whether only the best weights are kept", True),
    Option("reduce_lr_on_plateau", Boolean(), "whether the learning rate falls where the monitor does not rise", True),
    Option("max_gradient_norm", Number(), "above which gradients are scaled down", 10.0),
    Option("verbose", Integer(0), "0: no progress bar", 1),
    Option(
        "callbacks",
        Checked("a list of callbacks", _check_callbacks, {"type": ["array", "null"]}),
        "called while a model trains",
        None,
    ),
    Option(
        "embedding_dim",
        Either(Integer(1), ListOf(Integer(1))),
        "width of an embedding; a list gives each set its own",
        10,
    ),
)

MULTI_TASK_OPTIONS = table(Option("num_tasks", Integer(1), "of a multi-task model", 1))


def check_optimizer(optimizer: object) -> None:
    """Accept ``adam``, or a class of ``torch.optim`` that trains with dense gradients and one step at a time."""
    if isinstance(optimizer, str) and (optimizer.lower() == "adam" or optimizer in OPTIMIZERS):
        return
    if isinstance(optimizer, str) and optimizer in NOT_FOR_TRAINING:
        raise UsageError(f"optimizer {optimizer} cannot train these models: choose one such as adam, SGD or Adagrad")
    if not isinstance(optimizer, str):
        raise UsageError(f"optimizer must be the name of one such as adam, got {short_repr(optimizer)}")
    raise unknown("optimizer", optimizer, OPTIMIZERS[1:])
