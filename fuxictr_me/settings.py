"""Settings, checked before anything long begins: unknown keys and impossible values, named in one line.

FuxiCTR hands every key of a config to everyone in ``**kwargs`` and ignores what nobody reads, so a
misspelt key is silently its default. Here it is an error; of a model that is not ours, a warning.
"""

import math
import re

import torch

from fuxictr_me.compat import MultiTaskModel
from fuxictr_me.errors import UsageError, positive_int, unknown
from fuxictr_me.setting_keys import OF_ANY_MODEL, known_keys, needed_keys

METRICS = (
    "AUC",
    "logloss",
    "binary_crossentropy",
    "gAUC",
    "avgAUC",
    "MRR",
    "NDCG(k=1)",
    "NDCG(k=5)",
    "MSE",
    "MAE",
    "RMSE",
)
GROUP_METRICS = ("gAUC", "avgAUC", "MRR", "NDCG")
TASKS = ("binary_classification", "regression")


def check_model_settings(model_class, settings):
    """Refuse impossible values among what a model is constructed with; of our models unknown keys, too.

    Args:
        model_class (type): ours, or any FuxiCTR model, which may read any key (see ``unread_keys``).
        settings (dict): of a run.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    if getattr(model_class, "names_its_settings", False):
        allowed = known_keys(model_class)
        for key in settings:
            if key not in allowed:
                raise unknown(f"setting of {model_class.__name__}", key, allowed)
        check_task(settings.get("task", TASKS[0]))
    else:
        check_foreign_settings(model_class, settings)
    for key in ("batch_size", "epochs", "early_stop_patience", "eval_steps"):
        if settings.get(key) is not None:
            positive_int(key, settings[key])
    for key in ("shuffle", "save_best_only", "reduce_lr_on_plateau"):
        if key in settings:
            check_bool(key, settings[key])
    if "seed" in settings and (isinstance(settings["seed"], bool) or not isinstance(settings["seed"], int)):
        raise UsageError(f"seed must be an integer, got {settings['seed']!r}")
    for key in ("embedding_regularizer", "net_regularizer"):
        check_regularizer(key, settings.get(key))
    for key in ("learning_rate", "max_gradient_norm"):
        if key in settings:
            check_positive_number(key, settings[key])
    if settings.get("monitor_mode", "max") not in ("max", "min"):
        raise unknown("monitor_mode", settings["monitor_mode"], ("max", "min"))
    check_metrics(settings)
    check_gpu(settings.get("gpu", -1))


def check_foreign_settings(model_class, settings):
    """The keys that a model of FuxiCTR's needs, those of ``MultiEmbeddingOf``, and the tasks of a multi-task model.

    Raises:
        UsageError
    """
    if lacking := [key for key in needed_keys(model_class) if key not in settings]:
        raise UsageError(f"the model reads {', '.join(lacking)} and has no default for it: set it in the config")
    if settings.get("num_sets") is not None:
        sets = positive_int("num_sets", settings["num_sets"])
        own = OF_ANY_MODEL & known_keys(model_class)  # none of a class that is wrapped
        if sets > 1 and own and "num_sets" not in own:
            raise UsageError(
                f"num_sets: the model takes {', '.join(sorted(own))} itself and cannot be wrapped: rename it"
            )
    for key in ("task_sets", "batched"):
        if settings.get(key) is not None:
            check_bool(key, settings[key])
    if settings.get("merge") is not None:
        check_merge(settings["merge"])
    task = settings.get("task", TASKS[0])
    if not issubclass(model_class, MultiTaskModel):
        check_task(task)
        return
    num_tasks = positive_int("num_tasks", settings.get("num_tasks", 1))
    for key in ("task", "loss"):
        if isinstance(settings.get(key), list) and len(settings[key]) != num_tasks:
            raise UsageError(f"{key} lists {len(settings[key])}, but num_tasks is {num_tasks}")
    if settings.get("task_sets") and settings.get("num_sets") not in (None, 1 + num_tasks):
        raise UsageError(f"task_sets: one set for all tasks and one a task make num_sets {1 + num_tasks}")
    for one in _as_list(task):
        check_task(one)


def check_merge(merge):
    """``logits``, or one or more modules' paths, as ``MultiEmbeddingOf`` takes them."""
    names = list(merge) if isinstance(merge, list | tuple) else [merge]
    if not names or not all(isinstance(name, str) and name.strip("> ") for name in names):
        raise UsageError(f"merge must be logits, a module's path like dnn, >fc or crossnet>, or a list, got {merge!r}")


def check_labels(model_class, settings, labels):
    """FuxiCTR pairs the tasks of a multi-task model with the labels of the data, in order.

    Raises:
        UsageError: other than one label a task.
    """
    num_tasks = settings.get("num_tasks", 1)
    if issubclass(model_class, MultiTaskModel) and len(labels) != num_tasks:
        raise UsageError(f"num_tasks is {num_tasks}, but the data have {len(labels)} labels: {', '.join(labels)}")


def check_task(task):
    """``binary_classification`` or ``regression``."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)


def check_metrics(settings):
    """``metrics`` and ``monitor`` name metrics that FuxiCTR computes; group metrics need a ``group_id``."""
    monitor = settings.get("monitor", "AUC")
    if not isinstance(monitor, str | dict) or not monitor:
        raise UsageError(f"monitor must be a metric, or a weight for each of several, got {monitor!r}")
    weights = monitor if isinstance(monitor, dict) else {monitor: 1}
    metrics = settings.get("metrics", ["AUC"])
    if not isinstance(metrics, list | tuple) or not metrics:
        raise UsageError(f"metrics must be a list such as ['AUC', 'logloss'], got {metrics!r}")
    for kind, names in (("metric", metrics), ("monitor", weights)):
        for name in names:
            if name not in METRICS and not re.fullmatch(r"NDCG\((k=)?\d+\)", str(name)):
                raise unknown(kind, name, METRICS)
            if str(name).startswith(GROUP_METRICS) and not settings.get("group_id"):
                raise UsageError(f"{kind} {name!r} is computed a group: set group_id")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UsageError(f"the weight of monitor {name!r} must be a number, got {weight!r}")


def check_regularizer(key, value):
    """None, 0, a float (L2), or FuxiCTR's ``l1(x)``, ``l2(x)``, ``l1_l2(x,y)``."""
    number = r"\s*[0-9.]+(e[+-]?\d+)?\s*"
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value == 0):
        return
    if isinstance(value, float) and math.isfinite(value) and value > 0:
        return
    if isinstance(value, str) and re.fullmatch(rf"l[12]\({number}\)|l1_l2\({number},{number}\)", value):
        return
    hint = ""
    if isinstance(value, int) and not isinstance(value, bool):
        hint = f" (FuxiCTR ignores a whole number; write {value}.0)"
    elif isinstance(value, str) and _is_number(value):
        hint = " (YAML reads 1e-6 as text; write 1.e-6)"
    raise UsageError(f"{key} must be a positive float, l1(x), l2(x) or l1_l2(x,y), got {value!r}{hint}")


def check_positive_number(key, value):
    """A finite number above 0; text such as ``1e-3``, which YAML does not read as a number, is named."""
    if isinstance(value, str) and _is_number(value):
        raise UsageError(f"{key} must be a number, got the text {value!r} (YAML reads 1e-3 as text; write 1.e-3)")
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise UsageError(f"{key} must be a number above 0, got {value!r}")


def check_weight(key, value):
    """A finite number of 0 or more, e.g. of a penalty."""
    if value != 0 or isinstance(value, bool):
        check_positive_number(key, value)


def check_bool(key, value):
    """True or False; text such as ``'False'`` would count as true."""
    if not isinstance(value, bool):
        raise UsageError(f"{key} must be True or False, got {value!r}")


def check_gpu(gpu):
    """-1, or a CUDA device that is there; FuxiCTR would fall back to the CPU in silence."""
    if isinstance(gpu, bool) or not isinstance(gpu, int) or gpu < -1:
        raise UsageError(f"gpu must be -1 (CPU) or a device number, got {gpu!r}")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu >= available:
        has = f"devices 0 to {available - 1}" if available else "no CUDA device"
        raise UsageError(f"gpu {gpu} is not there: torch {torch.__version__} sees {has}; use -1 for the CPU")


def check_initializer(initializer):
    """``paper``, a callable, or one of ``torch.nn.init`` as FuxiCTR writes it: it evaluates the text as Python."""
    if callable(initializer) or initializer == "paper":
        return
    arguments = r"(,\s*\w+\s*=\s*[-+\w.]+)*"
    form = re.fullmatch(
        rf"(?:torch\.)?nn\.init\.(\w+)|partial\((?:torch\.)?nn\.init\.(\w+){arguments}\)", str(initializer)
    )
    if not form:
        raise UsageError(
            "embedding_initializer must be paper, or like nn.init.xavier_normal_ "
            f"or partial(nn.init.normal_, std=1e-4), got {initializer!r}"
        )
    name, known = form[1] or form[2], [name for name in vars(torch.nn.init) if name.endswith("_") and name[0] != "_"]
    if name not in known:
        raise unknown("initializer in embedding_initializer", name, known)


def check_activation(activation):
    """None, a module, or a name that FuxiCTR's ``get_activation`` resolves."""
    known = [name for name in vars(torch.nn.modules.activation) if name[0].isupper() and hasattr(torch.nn, name)]
    in_any_case = ("relu", "sigmoid", "tanh", "softmax", "prelu", "dice")
    if isinstance(activation, str) and activation not in known and activation.lower() not in in_any_case:
        raise unknown("activation", activation, [*known, "Dice"])


def check_dropout(rate):
    """A share from 0 to below 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UsageError(f"a dropout rate must be a number from 0 to below 1, got {rate!r}")


def check_optimizer_and_loss(optimizer, loss):
    """Names that FuxiCTR's ``get_optimizer`` and ``get_loss`` resolve."""
    known = [name for name in vars(torch.optim) if name[0].isupper() and name != "Optimizer"]
    if isinstance(optimizer, str) and optimizer.lower() != "adam" and optimizer not in known:
        raise unknown("optimizer", optimizer, known)
    losses = ("bce", "binary_crossentropy", "binary_cross_entropy", "mse_loss", "l1_loss", "huber_loss")
    if isinstance(loss, str) and loss not in losses and not hasattr(torch.nn.functional, loss):
        raise unknown("loss", loss, losses)


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
