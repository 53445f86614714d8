"""The ``callbacks:`` entry of a config."""

import importlib

from fuxictr_me.callbacks.base import Callback
from fuxictr_me.callbacks.information_abundance import InformationAbundance
from fuxictr_me.errors import UsageError, unknown

OURS = {cls.__name__: cls for cls in (InformationAbundance,)}


def build(specs):
    """Callbacks from the ``callbacks:`` entry of a config.

    Args:
        specs (list or None): of names, ``{name: {argument: value}}``, or ``Callback`` objects. A name is
            one of ours, or ``package.module.Class`` of yours.

    Returns:
        list of Callback

    Raises:
        UsageError: an unknown name or argument.
    """
    if specs is None:
        return []
    if not isinstance(specs, list | tuple):
        specs = [specs]
    return [_build_one(spec) for spec in specs]


def _build_one(spec):
    if isinstance(spec, Callback):
        return spec
    name, arguments = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, None)
    if not isinstance(name, str):
        raise UsageError(f"a callback must be a name or {{name: {{argument: value}}}}, got {spec!r}")
    cls = _resolve(name)
    try:
        return cls(**(arguments or {}))
    except TypeError as error:
        raise UsageError(f"callback {name}: {error}") from error


def _resolve(name):
    if "." not in name:
        if name not in OURS:
            raise unknown("callback", name, OURS)
        return OURS[name]
    module, _, cls_name = name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), cls_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"callback {name!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Callback)):
        raise UsageError(f"callback {name!r} is not a subclass of fuxictr_me.Callback")
    return cls
