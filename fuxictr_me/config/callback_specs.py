"""The form of the ``callbacks:`` entry of a config, and the callbacks that fuxictr-me has.

Nothing is imported here: ``training.callbacks.from_config`` builds the callbacks.
"""

from fuxictr_me.config.options import UNSET, Option, index_by_name
from fuxictr_me.config.value_kinds import Boolean, Choice, Integer, OneOrList, find_duplicate, short_repr
from fuxictr_me.errors import UsageError, unknown

LOG_DESTINATIONS = ("csv", "tensorboard", "mlflow", "wandb")
CALLBACK_ARGUMENTS: dict[str, dict[str, Option]] = {
    "InformationAbundance": index_by_name(
        Option("tensorboard", Boolean(), "whether to write curves for TensorBoard, too", False)
    ),
    "Log": index_by_name(
        Option("to", OneOrList(Choice(*LOG_DESTINATIONS)), "where to log, or a list of such destinations")
    ),
    "RankAlongDepth": index_by_name(Option("rows", Integer(1), "number of rows of the validation data", 4096)),
    "ReinitialiseEmbeddings": {},
}


def find_required_arguments(name: str) -> list[str]:
    """Return the arguments without which a callback of fuxictr-me cannot be built."""
    return [key for key, option in CALLBACK_ARGUMENTS[name].items() if option.default is UNSET]


def list_specs(specs: object) -> list:
    """Return the entries of ``callbacks:``, which may be a list, a single entry or null."""
    if specs is None:
        return []
    return list(specs) if isinstance(specs, list | tuple) else [specs]


def split_spec(spec: object) -> tuple[str, dict]:
    """Return the name and the arguments of a callback, both checked as far as possible without importing code.

    Args:
        spec: a name, or ``{name: {argument: value}}``. A name is one of fuxictr-me's, or ``package.module.Class``.

    Raises:
        UsageError: another form, an unknown name, or an unknown argument of a callback of fuxictr-me.
    """
    name, arguments = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, None)
    if not isinstance(name, str):
        raise UsageError(f"a callback must be a name or {{name: {{argument: value}}}}, got {short_repr(spec)}")
    if "." not in name and name not in CALLBACK_ARGUMENTS:
        raise unknown("callback", name, CALLBACK_ARGUMENTS)
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"callback {name!r} is not a class: write package.module.Class, e.g. my_callbacks.LearningCurve"
        )
    if not isinstance(arguments, dict | None) or not all(isinstance(key, str) for key in arguments or {}):
        raise UsageError(f"callback {name}: arguments must be {{argument: value}}, got {short_repr(arguments)}")
    if name in CALLBACK_ARGUMENTS:
        _check_arguments(name, arguments or {})
    return name, arguments or {}


def check_callbacks(label: str, specs: object) -> None:
    """Check the ``callbacks:`` entry of a config without importing code. ``Callback`` objects are accepted.

    Raises:
        UsageError: a wrong entry, see ``split_spec``, or a callback of fuxictr-me that is named twice, so that both
            would write the same file.
    """
    names = [split_spec(spec)[0] for spec in list_specs(specs) if not hasattr(spec, "on_fit_start")]
    if (duplicate := find_duplicate(name for name in names if name in CALLBACK_ARGUMENTS)) is not None:
        raise UsageError(f"{label} names {duplicate} twice")


def _check_arguments(name: str, arguments: dict) -> None:
    options = CALLBACK_ARGUMENTS[name]
    for key, value in arguments.items():
        if key not in options:
            raise unknown(f"argument of callback {name}", key, options)
        options[key].check(value, f" of callback {name}")
    for key in find_required_arguments(name):
        if key not in arguments:
            raise UsageError(f"callback {name} needs the argument {key}: {options[key].kind.words}")
