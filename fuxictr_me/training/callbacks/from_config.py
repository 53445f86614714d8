"""The ``callbacks:`` entry of a config."""

from fuxictr_me.config.user_code import import_named
from fuxictr_me.config.value_kinds import find_duplicate, short_repr
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance

OURS = {cls.__name__: cls for cls in (InformationAbundance,)}


def build(specs: object) -> list[Callback]:
    """Callbacks from the ``callbacks:`` entry of a config.

    Args:
        specs (list or None): of names, ``{name: {argument: value}}``, or ``Callback`` objects. A name is
            one of ours, or ``package.module.Class`` of yours, found as ``fuxictr_me.config.user_code`` says.

    Returns:
        list of Callback

    Raises:
        UsageError: an unknown name or argument.
    """
    callbacks = [_build_one(spec) for spec in _listed(specs)]
    if (twice := find_duplicate(type(one).__name__ for one in callbacks if type(one) in OURS.values())) is not None:
        raise UsageError(f"callbacks names {twice} twice")  # both would write one file
    return callbacks


def check_callbacks(specs: object) -> None:
    """Check the ``callbacks:`` entry of a config without importing code: its form, and our callbacks' arguments.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    own = []
    for spec in _listed(specs):
        name, arguments = _split(spec)
        if name is not None and "." in name:
            _check_class_name(name)
            _check_arguments(name, arguments)
        else:
            own.append(spec)
    build(own)


def _listed(specs: object) -> list:
    return [] if specs is None else list(specs) if isinstance(specs, list | tuple) else [specs]


def _split(spec: object) -> tuple[str | None, object]:
    """Return the name and the arguments of a callback; None and None of a ``Callback`` object."""
    if isinstance(spec, Callback):
        return None, None
    name, arguments = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, None)
    if not isinstance(name, str):
        raise UsageError(f"a callback must be a name or {{name: {{argument: value}}}}, got {short_repr(spec)}")
    return name, arguments


def _check_arguments(name: str, arguments: object) -> None:
    if not isinstance(arguments, dict | None) or not all(isinstance(key, str) for key in arguments or {}):
        raise UsageError(f"callback {name}: arguments must be {{argument: value}}, got {short_repr(arguments)}")


def _check_class_name(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"callback {name!r} is no class: write package.module.Class, e.g. my_callbacks.LearningCurve")


def _build_one(spec: object) -> Callback:
    name, arguments = _split(spec)
    if name is None:
        return spec
    _check_arguments(name, arguments)
    cls = _resolve(name)
    try:
        return cls(**(arguments or {}))
    except UsageError:
        raise
    except Exception as error:  # a constructor of the user's may raise anything
        raise UsageError(f"callback {name}: {error}") from error


def _resolve(name: str) -> type[Callback]:
    if "." not in name:
        if name not in OURS:
            raise unknown("callback", name, OURS)
        return OURS[name]
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
