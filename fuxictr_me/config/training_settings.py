"""Check the settings that a model is constructed and trained with, before anything long begins.

FuxiCTR hands every key of a config to everyone in ``**kwargs`` and ignores what nobody reads, so a misspelt key is
silently its default. Here it is an error; for a model that is not of this package, a warning.
"""

import inspect
from collections.abc import Iterable

import torch

from fuxictr_me.compat import MultiTaskModel
from fuxictr_me.config.known_keys import WRAPPING_KEYS, find_known_keys, find_required_keys
from fuxictr_me.config.model_options import MODEL_OPTIONS, WRAPPING_OPTIONS
from fuxictr_me.config.options import READING_OPTIONS
from fuxictr_me.config.training_options import (
    GROUP_METRICS,
    LOWER_IS_BETTER,
    METRICS,
    MULTI_TASK_OPTIONS,
    PROBABILITY_LOSSES,
    REGRESSION_METRICS,
    TASKS,
    TRAINING_OPTIONS,
    check_optimizer,
    is_metric,
)
from fuxictr_me.config.value_kinds import Boolean, Number, Share, short_repr
from fuxictr_me.errors import UsageError, check_positive_int, unknown

MODELS = "fuxictr_me.models."


def check_model_settings(model_class: type, settings: dict) -> None:
    """Refuse impossible values among what a model is constructed with; of this package's models unknown keys, too.

    Args:
        model_class: of this package, or any FuxiCTR model, which may read any key (see ``describe_unread_keys``).
        settings: of a run.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    if getattr(model_class, "names_its_settings", False):
        allowed = find_known_keys(model_class)
        for key in settings:
            if key not in allowed:
                raise unknown(f"setting of {model_class.__name__}", key, allowed)
        if isinstance(settings.get("task"), list):
            raise UsageError(f"task of {model_class.__name__}, which has one, must be text, got {settings['task']!r}")
        if isinstance(settings.get("loss"), list):
            raise UsageError(f"loss of {model_class.__name__}, which has one, must be text, got {settings['loss']!r}")
        for key in _declared_here(model_class) & settings.keys() & MODEL_OPTIONS.keys():
            MODEL_OPTIONS[key].check(settings[key])
        check_training_values(settings)
    else:
        check_foreign_settings(model_class, settings)
        check_training_values(settings)
    check_gpu(settings.get("gpu", -1))


def check_training_values(settings: dict) -> None:
    """Check the values of training settings that hold for every model.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    check_training_options(settings)
    check_metrics(settings)
    check_loss_of_task(settings)


def check_training_options(settings: dict) -> None:
    """Check each training setting by itself, as it may stand in an entry of ``dataset_config.yaml``, too.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
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
    """Check the keys that a model of FuxiCTR's needs, those of ``MultiEmbeddingOf``, and the tasks of several.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    if lacking := [key for key in find_required_keys(model_class) if key not in settings]:
        raise UsageError(f"the model reads {', '.join(lacking)} and has no default for it: set it in the config")
    if not isinstance(settings.get("embedding_dim", 1), int):
        raise UsageError(f"embedding_dim of a FuxiCTR model must be an integer, got {settings['embedding_dim']!r}")
    own = WRAPPING_KEYS & find_known_keys(model_class)  # none of a class that is wrapped
    for key in WRAPPING_OPTIONS.keys() & settings.keys() - own:
        WRAPPING_OPTIONS[key].check(settings[key])
    if settings.get("num_sets") is not None:
        sets = check_positive_int("num_sets", settings["num_sets"])
        if sets > 1 and own and "num_sets" not in own:
            raise UsageError(
                f"num_sets: the model takes {', '.join(sorted(own))} itself and cannot be wrapped: rename it"
            )
    task = settings.get("task", TASKS[0])
    if not issubclass(model_class, MultiTaskModel):
        TRAINING_OPTIONS["task"].kind.kinds[0].check("task", task)
        return
    for key, option in MULTI_TASK_OPTIONS.items():
        if key in settings:
            option.check(settings[key])
    for one in _as_list(task):
        check_task(one)
    num_tasks = settings.get("num_tasks", 1)
    for key in ("task", "loss"):
        if isinstance(settings.get(key), list) and len(settings[key]) != num_tasks:
            raise UsageError(f"{key} lists {len(settings[key])}, but num_tasks is {num_tasks}")
    if settings.get("task_sets") and settings.get("num_sets") not in (None, 1 + num_tasks):
        raise UsageError(f"task_sets: one set for all tasks and one a task make num_sets {1 + num_tasks}")


def check_labels(model_class: type, settings: dict, labels: list[str]) -> None:
    """Check that the data have one label for each task: FuxiCTR pairs them in order, and ignores those that are left.

    Raises:
        UsageError: another number of labels than of tasks.
    """
    if issubclass(model_class, MultiTaskModel):
        num_tasks = settings.get("num_tasks", 1)
        if len(labels) != num_tasks:
            raise UsageError(f"num_tasks is {num_tasks}, but the data have {len(labels)} labels: {', '.join(labels)}")
    elif len(labels) != 1:
        name = getattr(model_class, "_backbone", model_class).__name__
        raise UsageError(f"{name} has one task, but the data have {len(labels)} labels: {', '.join(labels) or 'none'}")


def check_metrics(settings: dict) -> None:
    """Check that ``metrics`` and ``monitor`` name metrics that are computed and fit the task.

    Group metrics need a ``group_id``. ``task: regression`` has MSE, MAE and RMSE, of which less is better; a
    classification has the others.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
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
                raise UsageError(f"{kind} {name!r} is computed a group: set group_id")
    if len(set(metrics)) < len(metrics):
        raise UsageError(f"metrics names one twice: {', '.join(metrics)}")
    for name, weight in weights.items():
        if not Number("a number").accepts(weight):
            raise UsageError(f"the weight of monitor {name!r} must be a number, got {short_repr(weight)}")
    _check_monitor_mode(settings)


def list_computed_metrics(settings: dict) -> list[str]:
    """Return ``metrics``, and after them those that ``monitor`` watches and that are not among them.

    Early stopping computes them in any case. Results then hold them too, so that what chose the best weights is seen.
    """
    metrics = list(settings.get("metrics", ["AUC"]))
    return metrics + [name for name in _monitor_weights(settings) if name not in metrics]


def check_loss_of_task(settings: dict) -> None:
    """Refuse a loss of probabilities for a regression.

    Raises:
        UsageError: with losses that fit.
    """
    tasks, losses = (
        settings.get("task", TASKS[0]),
        settings.get("loss", "binary_crossentropy" if "task" in settings else None),
    )
    for position, loss in enumerate(_as_list(losses)):
        task = tasks[min(position, len(tasks) - 1)] if isinstance(tasks, list) else tasks
        if task == "regression" and loss in PROBABILITY_LOSSES:
            raise UsageError(f"loss {loss} is for probabilities: a regression has mse_loss, l1_loss or huber_loss")


def check_task(task: object) -> None:
    """Accept ``binary_classification`` or ``regression``."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)


def check_positive_number(key: str, value: object) -> None:
    """Accept a finite number above 0; text such as ``1e-3``, which YAML does not read as a number, is named."""
    Number().check(key, value)


def check_weight(key: str, value: object) -> None:
    """Accept a finite number of 0 or more, e.g. of a penalty."""
    Number("a number of 0 or more").check(key, value)


def check_bool(key: str, value: object) -> None:
    """Accept True or False; text such as ``'False'`` would count as true."""
    Boolean().check(key, value)


def check_gpu(gpu: object) -> None:
    """Accept -1, or a CUDA device that is there; FuxiCTR would fall back to the CPU in silence."""
    TRAINING_OPTIONS["gpu"].check(gpu)
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu >= available:
        has = f"devices 0 to {available - 1}" if available else "no CUDA device"
        raise UsageError(f"gpu {gpu} is not there: torch {torch.__version__} sees {has}; use -1 for the CPU")


def check_dropout(rate: object) -> None:
    """Accept a number from 0 to below 1."""
    Share().check("a dropout rate", rate)


def check_optimizer_and_loss(optimizer: object, loss: object) -> None:
    """Accept names that FuxiCTR's ``get_optimizer`` and ``get_loss`` resolve, and that can train."""
    check_optimizer(optimizer)
    TRAINING_OPTIONS["loss"].check(loss)


def _monitor_weights(settings: dict) -> dict:
    monitor = settings.get("monitor", "AUC")
    TRAINING_OPTIONS["monitor"].check(monitor)
    return monitor if isinstance(monitor, dict) else {monitor: 1}


def _check_monitor_mode(settings: dict) -> None:
    """Less of a loss is better: with ``monitor_mode: max`` the worst weights would be kept as the best."""
    monitor, mode = settings.get("monitor", "AUC"), settings.get("monitor_mode", "max")
    if isinstance(monitor, str) and (better := "min" if monitor in LOWER_IS_BETTER else "max") != mode:
        raise UsageError(f"monitor {monitor} needs monitor_mode: {better}, got {mode}")


def _is_regression(task: str | Iterable[str]) -> bool:
    kinds = {task} if isinstance(task, str) else set(task)
    if len(kinds) > 1:
        raise UsageError("task lists regression and binary_classification: no metric is of both")
    return "regression" in kinds


def _declared_here(model_class: type) -> set[str]:
    """Return the keys that constructors of this package's own models take by name."""
    classes = [cls for cls in model_class.__mro__ if cls.__module__.startswith(MODELS) and "__init__" in vars(cls)]
    return {name for cls in classes for name in inspect.signature(vars(cls)["__init__"]).parameters}


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]
