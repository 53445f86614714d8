"""The options of the optimizer, of its learning-rate schedule, and of gradient accumulation, and their checks."""

import inspect
from typing import Any

import torch
from torch.nn import Parameter

from fuxictr_me.config.options import Option, index_by_name
from fuxictr_me.config.value_kinds import Checked, Choice, Integer, Number, Optional, short_repr
from fuxictr_me.errors import UsageError, unknown

NOT_FOR_TRAINING = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # these need a closure, sparse gradients, only matrices
OPTIMIZERS = ("adam", *(name for name in vars(torch.optim) if name[0].isupper() and name not in NOT_FOR_TRAINING))
# Arguments that fuxictr-me sets itself, or that would break training.
NOT_ARGUMENTS = ("params", "lr", "foreach", "fused", "capturable", "differentiable", "maximize")
SCHEDULES = ("constant", "cosine", "linear", "step")
SCHEDULE_OPTIONS = index_by_name(
    Option("name", Choice(*SCHEDULES), "what follows the warm-up"),
    Option("warmup_steps", Integer(0), "optimizer steps in which the rate rises to `learning_rate`", 0),
    Option("total_steps", Optional(Integer(1)), "step at which `cosine` and `linear` end; by default the last", None),
    Option("end_factor", Number(low=0), "share of `learning_rate` at which `cosine` and `linear` end", 0.0),
    Option("step_size", Integer(1), "steps between two reductions by `step`"),
    Option("gamma", Number(above=0), "factor of each reduction by `step`", 0.1),
)
KEYS_OF_SCHEDULE = {
    "constant": ("warmup_steps",),
    "cosine": ("warmup_steps", "total_steps", "end_factor"),
    "linear": ("warmup_steps", "total_steps", "end_factor"),
    "step": ("warmup_steps", "step_size", "gamma"),
}


def check_optimizer(optimizer: object) -> None:
    """Accept a class of ``torch.optim``, in any case, that trains with dense gradients and one step at a time."""
    if not isinstance(optimizer, str):
        raise UsageError(f"optimizer must be the name of one such as adam, got {short_repr(optimizer)}")
    name = spell_optimizer(optimizer)
    if name in NOT_FOR_TRAINING:
        raise UsageError(f"optimizer {optimizer} cannot train these models: choose one such as adam, SGD or Adagrad")
    if name not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS[1:])


def spell_optimizer(name: str) -> str:
    """Return the name of an optimizer as ``torch.optim`` spells it, or ``name`` if there is none: adamw -> AdamW."""
    spelled = {cls.lower(): cls for cls in (*NOT_FOR_TRAINING, *OPTIMIZERS[1:])}
    return spelled.get(name.lower(), name)


def check_lr_schedule(label: str, value: object) -> None:
    """Accept None, or a dict with the name of a schedule and the arguments that it has.

    Raises:
        UsageError: anything else.
    """
    if value is None:
        return
    if not isinstance(value, dict) or "name" not in value:
        raise UsageError(f"{label} must be like {{name: cosine, warmup_steps: 100}}, got {short_repr(value)}")
    SCHEDULE_OPTIONS["name"].check(value["name"], f" of {label}")
    name, allowed = value["name"], KEYS_OF_SCHEDULE[value["name"]]
    for key in value.keys() - {"name"}:
        if key not in allowed:
            raise unknown(f"key of {label} {name}", str(key), allowed)
        SCHEDULE_OPTIONS[key].check(value[key], f" of {label} {name}")
    if name == "step" and "step_size" not in value:
        raise UsageError(f"{label} step needs step_size, the number of steps between two reductions")
    total, warmup = value.get("total_steps"), value.get("warmup_steps", 0)
    if total is not None and total <= warmup:
        raise UsageError(f"total_steps of {label} {name} must be more than its warmup_steps {warmup}, got {total}")


def check_optimizer_settings(settings: dict[str, Any]) -> None:
    """Check that the optimizer takes its arguments, and that they fit the other settings of training.

    Raises:
        UsageError: one line that names the setting.
    """
    arguments = settings.get("optimizer_args")
    check_optimizer_args(settings.get("optimizer", "adam"), arguments, settings.get("learning_rate", 1e-3))
    if "weight_decay" in (arguments or {}) and settings.get("weight_decay") is not None:
        raise UsageError("weight_decay is set twice: in optimizer_args, and as a setting of the model")
    schedule = settings.get("lr_schedule")
    if settings.get("embedding_updates") == "catch_up" and schedule and schedule["name"] in ("cosine", "linear"):
        raise UsageError(
            f"embedding_updates: catch_up does not fit lr_schedule {schedule['name']}: the learning rate changes in "
            "every step, before which every row would have to catch up; use dense, or lr_schedule step or constant"
        )


def check_optimizer_args(optimizer: str, arguments: dict[str, Any] | None, learning_rate: float = 1e-3) -> None:
    """Check that a class of ``torch.optim`` accepts ``arguments``, by constructing it.

    Raises:
        UsageError: an unknown argument, one that fuxictr-me sets itself, or a value that PyTorch refuses.
    """
    if not arguments:
        return
    name = spell_optimizer(optimizer)
    allowed = list_optimizer_args(name)
    for key, value in arguments.items():
        if key == "lr":
            raise UsageError("optimizer_args: the learning rate is set by learning_rate, not by lr")
        if key not in allowed:
            raise unknown(f"argument of optimizer {name} in optimizer_args", str(key), allowed)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, str):
                Number().check(f"{key} in optimizer_args", number)
    try:
        getattr(torch.optim, name)([Parameter(torch.zeros(1))], lr=learning_rate, **as_keywords(arguments))
    except Exception as error:  # PyTorch raises ValueError, TypeError and RuntimeError
        reason = " ".join(str(error).split())
        raise UsageError(f"optimizer_args {short_repr(arguments)} are not possible with {name}: {reason}") from error


def list_optimizer_args(name: str) -> list[str]:
    """Return the names of the arguments that ``optimizer_args`` may have for a class of ``torch.optim``."""
    return [key for key in inspect.signature(getattr(torch.optim, name)).parameters if key not in NOT_ARGUMENTS]


def as_keywords(arguments: dict[str, Any] | None) -> dict[str, Any]:
    """Return arguments from YAML as PyTorch's constructors take them: lists become tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in (arguments or {}).items()}


def _check_args_form(label: str, value: object) -> None:
    if value is not None and not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
        raise UsageError(f"{label} must be like {{betas: [0.9, 0.98], eps: 1.e-9}}, got {short_repr(value)}")


OPTIMIZER = Option(
    "optimizer",
    Checked(
        "a class of torch.optim",
        lambda label, value: check_optimizer(value),
        {"type": "string", "pattern": r"^[A-Za-z]\w*$"},
    ),
    "`adam`, or a class of `torch.optim`",
    "adam",
)
OPTIMIZER_OPTIONS = index_by_name(
    Option(
        "optimizer_args",
        Checked("a dict of arguments", _check_args_form, {"type": ["object", "null"]}),
        "further arguments of the optimizer's class, such as `{betas: [0.9, 0.98]}`; see "
        "[Optimizers](../docs/optimizers.md)",
        None,
    ),
    Option(
        "lr_schedule",
        Checked(
            "a dict with the name of a schedule",
            check_lr_schedule,
            {
                "anyOf": [
                    {"type": "null"},
                    {
                        "type": "object",
                        "properties": {key: option.kind.schema for key, option in SCHEDULE_OPTIONS.items()},
                        "additionalProperties": False,
                        "required": ["name"],
                    },
                ]
            },
        ),
        "schedule of the learning rate by steps, such as `{name: cosine, warmup_steps: 100}`: `constant`, `cosine`, "
        "`linear` or `step`; see [Optimizers](../docs/optimizers.md)",
        None,
    ),
    Option(
        "accumulate_steps",
        Integer(1),
        "number of batches whose gradients make one optimizer step, as one batch of their size would",
        1,
    ),
)


def check_not_for_fuxictr(model_class: type, settings: dict[str, Any]) -> None:
    """Check the settings of the optimizer of a FuxiCTR model, whose own code builds it.

    Raises:
        UsageError: an option that only fuxictr-me's models have, or a name that FuxiCTR does not find.
    """
    own = inspect.signature(model_class).parameters
    for key, option in OPTIMIZER_OPTIONS.items():
        if key not in own and settings.get(key, option.default) != option.default:
            raise UsageError(f"{key} is an option of fuxictr-me's models, and {model_class.__name__} is not one")
    name = settings.get("optimizer", "adam")
    if isinstance(name, str) and name.lower() != "adam" and (spelled := spell_optimizer(name)) != name:
        raise UsageError(f"optimizer {name} of a FuxiCTR model must be written as in torch.optim: {spelled}")
