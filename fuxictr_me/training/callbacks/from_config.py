"""Callbacks from the ``callbacks:`` entry of a config."""

from fuxictr_me.config.user_code import import_named
from fuxictr_me.config.value_kinds import find_duplicate, short_repr
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance

BUILT_IN: dict[str, type[Callback]] = {cls.__name__: cls for cls in (InformationAbundance,)}


def build(specs: object) -> list[Callback]:
    """Build callbacks from the ``callbacks:`` entry of a config.

    Args:
        specs: a list of names, ``{name: {argument: value}}``, or ``Callback`` objects; or one of these; or None. A
            name is ``InformationAbundance``, or ``package.module.Class`` of a class of your own, which is imported as
            ``fuxictr_me.config.user_code`` says.

    Raises:
        UsageError: an unknown name or argument.
    """
    callbacks = [_build_one(spec) for spec in _as_list(specs)]
    built_in = (type(callback).__name__ for callback in callbacks if type(callback) in BUILT_IN.values())
    if (twice := find_duplicate(built_in)) is not None:
        raise UsageError(f"callbacks names {twice} twice")  # both would write one file
    return callbacks


def check_callbacks(specs: object) -> None:
    """Check the form of a ``callbacks:`` entry, and the arguments of built-in callbacks. No code is imported.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    built_in = []
    for spec in _as_list(specs):
        name, arguments = _split_spec(spec)
        if name is not None and "." in name:
            _check_class_name(name)
            _check_arguments(name, arguments)
        else:
            built_in.append(spec)
    build(built_in)


def _as_list(specs: object) -> list:
    return [] if specs is None else list(specs) if isinstance(specs, list | tuple) else [specs]


def _split_spec(spec: object) -> tuple[str | None, object]:
    """Return the name and the arguments of a callback, or (None, None) for a ``Callback`` object."""
    if isinstance(spec, Callback):
        return None, None
    name, arguments = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, None)
    if not isinstance(name, str):
        raise UsageError(f"a callback must be a name or {{name: {{argument: value}}}}, got {short_repr(spec)}")
    return name, arguments


def _check_arguments(name: str, arguments: object) -> dict[str, object]:
    if arguments is None:
        return {}
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise UsageError(f"callback {name}: arguments must be {{argument: value}}, got {short_repr(arguments)}")
    return arguments


def _check_class_name(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        example = "my_callbacks.LearningCurve"
        raise UsageError(f"callback {name!r} is not a class: write package.module.Class, e.g. {example}")


def _build_one(spec: object) -> Callback:
    if isinstance(spec, Callback):
        return spec
    name, given = _split_spec(spec)
    assert name is not None  # noqa: S101 - only a Callback object has no name
    arguments, cls = _check_arguments(name, given), _find_class(name)
    try:
        return cls(**arguments)
    except UsageError:
        raise
    except Exception as error:  # the constructor of a user's class may raise anything
        raise UsageError(f"callback {name}: {error}") from error


def _find_class(name: str) -> type[Callback]:
    if "." not in name:
        if name not in BUILT_IN:
            raise unknown("callback", name, BUILT_IN)
        return BUILT_IN[name]
    module_name, _, cls_name = name.rpartition(".")
    _check_class_name(name)
    module = import_named(module_name, f"callback {name!r}")
    cls = getattr(module, cls_name, None)
    if cls is None:
        classes = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Callback)
        ]
        raise unknown(f"class in {module_name} ({getattr(module, '__file__', 'built in')})", cls_name, classes)
    if not (isinstance(cls, type) and issubclass(cls, Callback)):
        raise UsageError(f"callback {name!r} is not a subclass of fuxictr_me.Callback")
    return cls
