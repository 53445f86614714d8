"""Check the settings that a model is constructed and trained with, before anything long begins.

FuxiCTR passes every key of a config on in ``**kwargs`` and ignores what nothing reads, so a misspelt key silently
becomes its default. Here it is an error; for models of other packages it is a warning.
"""

from collections.abc import Iterable

import torch

from fuxictr_me.compat import MultiTaskModel
from fuxictr_me.config.dataset_options import READING_OPTIONS
from fuxictr_me.config.known_keys import WRAPPING_KEYS, find_known_keys, find_required_keys
from fuxictr_me.config.model_options import MODEL_OPTIONS, OWN_HEADS, WRAPPING_OPTIONS
from fuxictr_me.config.model_registry import get_backbone, is_fuxictr_me_model
from fuxictr_me.config.optimizer_options import check_not_for_fuxictr, check_optimizer_settings
from fuxictr_me.config.training_options import (
    GROUP_METRICS,
    LOWER_IS_BETTER,
    METRICS,
    MULTI_TASK_OPTIONS,
    PROBABILITY_LOSSES,
    REGRESSION_METRICS,
    TASK,
    TASKS,
    TRAINING_OPTIONS,
    is_metric,
)
from fuxictr_me.config.value_kinds import Boolean, Number, Share, short_repr
from fuxictr_me.errors import UsageError, check_positive_int, unknown

MODELS = "fuxictr_me.models."


def check_model_settings(model_class: type, settings: dict) -> None:
    """Check the settings that a model is constructed with: their values, and of fuxictr-me's models also the keys.

    Args:
        model_class: a fuxictr-me model, or any FuxiCTR model, which may read any key (see ``describe_unread_keys``).
        settings: settings of a run.

    Raises:
        UsageError: an unknown key, a wrong value, or a missing key that the model needs.
    """
    if is_fuxictr_me_model(model_class):
        allowed = find_known_keys(model_class)
        for key in settings:
            if key not in allowed:
                raise unknown(f"setting of {model_class.__name__}", key, allowed)
        if isinstance(settings.get("task"), list):
            raise UsageError(f"task of {model_class.__name__}, which has one, must be text, got {settings['task']!r}")
        if isinstance(settings.get("loss"), list):
            raise UsageError(f"loss of {model_class.__name__}, which has one, must be text, got {settings['loss']!r}")
        names = {cls.__name__ for cls in model_class.__mro__ if cls.__module__.startswith(MODELS)}
        for key in settings.keys() & MODEL_OPTIONS.keys():
            if not MODEL_OPTIONS[key].models or names & MODEL_OPTIONS[key].models.keys():
                MODEL_OPTIONS[key].check(settings[key])
        check_predictions_of_sets(settings)
    else:
        check_foreign_settings(model_class, settings)
    check_training_values(settings)
    check_gpu(settings.get("gpu", -1))


def check_predictions_of_sets(settings: dict) -> None:
    """Check that options that use the prediction of each set find one, and that it is a probability.

    Raises:
        UsageError: the sets share one head, or the task is a regression.
    """
    aggregation = settings.get("aggregation", MODEL_OPTIONS["aggregation"].default)
    learns_mutually = bool(settings.get("mutual_learning_regularizer"))
    if learns_mutually and aggregation not in OWN_HEADS:
        raise UsageError(
            "mutual_learning_regularizer compares the predictions of the sets: it needs aggregation "
            f"{' or '.join(OWN_HEADS)}, with which each set has its own head, got {aggregation!r}"
        )
    if settings.get("task") == "regression" and (learns_mutually or aggregation == "confidence"):
        name = "mutual_learning_regularizer" if learns_mutually else "aggregation: confidence"
        raise UsageError(f"{name} uses the probabilities that sets predict: a regression has none")


def check_training_values(settings: dict) -> None:
    """Check the values of training settings, and that metrics, monitor, loss and task fit each other.

    Raises:
        UsageError: a value is wrong or does not fit another one.
    """
    check_training_options(settings)
    check_metrics(settings)
    check_loss_of_task(settings)
    check_optimizer_settings(settings)


def check_training_options(settings: dict) -> None:
    """Check each training setting on its own. An entry of ``dataset_config.yaml`` may have such settings, too.

    Raises:
        UsageError: a value is wrong.
    """
    for key, option in (TRAINING_OPTIONS | READING_OPTIONS).items():
        if key in settings:
            option.check(settings[key])
    watched = _monitor_weights(settings) if "monitor" in settings else ()
    for kind, names in (("metric", settings.get("metrics", ())), ("monitor", watched)):
        for name in names:
            if not is_metric(name):
                raise unknown(kind, name, METRICS)


def check_foreign_settings(model_class: type, settings: dict) -> None:
    """Check the settings of a model from another package: required keys, those of ``MultiEmbeddingOf``, and tasks.

    Raises:
        UsageError: a key is missing, or a value is wrong or does not fit another one.
    """
    if lacking := [key for key in find_required_keys(model_class) if key not in settings]:
        raise UsageError(f"the model reads {', '.join(lacking)} and has no default for it: set it in the config")
    if not isinstance(settings.get("embedding_dim", 1), int):
        raise UsageError(f"embedding_dim of a FuxiCTR model must be an integer, got {settings['embedding_dim']!r}")
    check_not_for_fuxictr(model_class, settings)
    _check_no_own_heads(model_class, settings)
    taken = WRAPPING_KEYS & find_known_keys(model_class)  # keywords of the class itself; none if it is wrapped
    for key in WRAPPING_OPTIONS.keys() & settings.keys() - taken:
        WRAPPING_OPTIONS[key].check(settings[key])
    if settings.get("num_sets") is not None:
        sets = check_positive_int("num_sets", settings["num_sets"])
        if sets > 1 and taken and "num_sets" not in taken:
            raise UsageError(
                f"num_sets: the model takes {', '.join(sorted(taken))} itself and cannot be wrapped: rename it"
            )
    task = settings.get("task", TASKS[0])
    if not issubclass(model_class, MultiTaskModel):
        TASK.check("task", task)
        return
    for key, option in MULTI_TASK_OPTIONS.items():
        if key in settings:
            option.check(settings[key])
    for each in _as_list(task):
        TASK.check("task", each)
    num_tasks = settings.get("num_tasks", 1)
    for key in ("task", "loss"):
        if isinstance(settings.get(key), list) and len(settings[key]) != num_tasks:
            raise UsageError(f"{key} lists {len(settings[key])}, but num_tasks is {num_tasks}")
    if settings.get("task_sets") and settings.get("num_sets") not in (None, 1 + num_tasks):
        raise UsageError(f"task_sets: one set for all tasks and one for each task make num_sets {1 + num_tasks}")


def check_labels(model_class: type, settings: dict, labels: list[str]) -> None:
    """Check that the data have one label for each task: FuxiCTR pairs them in order, and ignores surplus labels.

    Raises:
        UsageError: another number of labels than of tasks.
    """
    if issubclass(model_class, MultiTaskModel):
        num_tasks = settings.get("num_tasks", 1)
        if len(labels) != num_tasks:
            raise UsageError(f"num_tasks is {num_tasks}, but the data have {len(labels)} labels: {', '.join(labels)}")
    elif len(labels) != 1:
        name = get_backbone(model_class).__name__
        raise UsageError(f"{name} has one task, but the data have {len(labels)} labels: {', '.join(labels) or 'none'}")


def check_metrics(settings: dict) -> None:
    """Check that ``metrics`` and ``monitor`` name metrics that are computed and fit the task.

    Group metrics need a ``group_id``. ``task: regression`` has MSE, MAE and RMSE, of which less is better. The other
    metrics belong to ``task: binary_classification``.

    Raises:
        UsageError: an unknown metric, or one that does not fit the task, the group or ``monitor_mode``.
    """
    metrics, weights = settings.get("metrics", ["AUC"]), _monitor_weights(settings)
    TRAINING_OPTIONS["metrics"].check(metrics)
    regression = _is_regression(settings.get("task", TASKS[0]))
    for kind, names in (("metric", metrics), ("monitor", weights)):
        for name in names:
            if not is_metric(name):
                raise unknown(kind, name, REGRESSION_METRICS if regression else METRICS)
            if (name in REGRESSION_METRICS) != regression:
                fit = ", ".join(REGRESSION_METRICS) if regression else "AUC, logloss and group metrics"
                task = "regression" if regression else "binary_classification"
                raise UsageError(f"{kind} {name} does not fit task {task}, which has {fit}")
            if name.startswith(GROUP_METRICS) and not settings.get("group_id"):
                raise UsageError(f"{kind} {name!r} is computed per group: set group_id")
    if len(set(metrics)) < len(metrics):
        raise UsageError(f"metrics names one twice: {', '.join(metrics)}")
    for name, weight in weights.items():
        if not Number().accepts(weight):
            raise UsageError(f"the weight of monitor {name!r} must be a number, got {short_repr(weight)}")
    _check_monitor_mode(settings)


def list_computed_metrics(settings: dict) -> list[str]:
    """Return ``metrics``, followed by those of ``monitor`` that are not among them.

    Early stopping computes them in any case. This way results also contain the metric that chose the best weights.
    """
    metrics = list(settings.get("metrics", ["AUC"]))
    return metrics + [name for name in _monitor_weights(settings) if name not in metrics]


def check_loss_of_task(settings: dict) -> None:
    """Raise a UsageError if a loss of probabilities is set for a regression."""
    tasks = settings.get("task", TASKS[0])
    losses = settings.get("loss", "binary_crossentropy" if "task" in settings else None)
    for position, loss in enumerate(_as_list(losses)):
        task = tasks[min(position, len(tasks) - 1)] if isinstance(tasks, list) else tasks
        if task == "regression" and loss in PROBABILITY_LOSSES:
            raise UsageError(f"loss {loss} is for probabilities: a regression has mse_loss, l1_loss or huber_loss")


def check_weight(key: str, value: object) -> None:
    """Accept a finite number of 0 or more, such as the weight of a penalty."""
    Number(low=0).check(key, value)


def check_bool(key: str, value: object) -> None:
    """Accept True or False. Text such as ``'False'`` would count as true."""
    Boolean().check(key, value)


def check_gpu(gpu: int) -> None:
    """Accept -1, or an existing CUDA device. FuxiCTR would silently fall back to the CPU."""
    TRAINING_OPTIONS["gpu"].check(gpu)
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu >= available:
        has = f"devices 0 to {available - 1}" if available else "no CUDA device"
        raise UsageError(f"gpu {gpu} does not exist: torch {torch.__version__} sees {has}; use -1 for the CPU")


def check_dropout(rate: object) -> None:
    """Accept a number from 0 to below 1."""
    Share().check("a dropout rate", rate)


def _check_no_own_heads(model_class: type, settings: dict) -> None:
    """Refuse options with which each set has its own head. Without this, only a warning says that nothing reads them.

    Raises:
        UsageError: such an option is set, and the class does not read it itself.
    """
    own_heads = settings.get("aggregation") in OWN_HEADS
    used = {"aggregation": own_heads, "mutual_learning_regularizer": settings.get("mutual_learning_regularizer")}
    for key in [key for key, value in used.items() if value and key not in find_known_keys(model_class)]:
        raise UsageError(
            f"{key}: {short_repr(settings[key])} needs one of fuxictr-me's models; the sets of "
            f"{get_backbone(model_class).__name__} share one head (merge: logits averages the logits of whole models)"
        )


def _monitor_weights(settings: dict) -> dict:
    monitor = settings.get("monitor", "AUC")
    TRAINING_OPTIONS["monitor"].check(monitor)
    return monitor if isinstance(monitor, dict) else {monitor: 1}


def _check_monitor_mode(settings: dict) -> None:
    """Check that a metric of which less is better has ``monitor_mode: min``, or the worst weights would be kept."""
    monitor, mode = settings.get("monitor", "AUC"), settings.get("monitor_mode", "max")
    if isinstance(monitor, str) and (better := "min" if monitor in LOWER_IS_BETTER else "max") != mode:
        raise UsageError(f"monitor {monitor} needs monitor_mode: {better}, got {mode}")


def _is_regression(task: str | Iterable[str]) -> bool:
    kinds = {task} if isinstance(task, str) else set(task)
    if len(kinds) > 1:
        raise UsageError("task lists regression and binary_classification: no metric is of both")
    return "regression" in kinds


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]
