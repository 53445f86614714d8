"""The registry that says what a model class is: fuxictr-me's own, made from another model, or neither.

``models.base`` and ``wrap`` register their classes. Subclasses count as what they derive from.
"""

import weakref
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelEntry:
    """What the registry knows of a class.

    Attributes:
        backbone: the FuxiCTR model that the class was made from; None of fuxictr-me's models.
        wrapping_defaults: defaults of the keywords of ``MultiEmbeddingOf``; empty if it did not make the class.
    """

    backbone: type | None = None
    wrapping_defaults: dict[str, object] = field(default_factory=dict)


_ENTRIES: "weakref.WeakKeyDictionary[type, ModelEntry]" = weakref.WeakKeyDictionary()


def register_model(model_class: type, entry: ModelEntry) -> None:
    """Enter a class, and thereby its subclasses, in the registry."""
    _ENTRIES[model_class] = entry


def find_entry(model_class: type) -> ModelEntry | None:
    """Return the entry of a class or of its nearest registered base class, None if there is none."""
    return next((_ENTRIES[cls] for cls in model_class.__mro__ if cls in _ENTRIES), None)


def is_fuxictr_me_model(model_class: type) -> bool:
    """Return whether a class is one of fuxictr-me's models, or a user's subclass of one."""
    entry = find_entry(model_class)
    return entry is not None and entry.backbone is None


def is_wrapped(model_class: type) -> bool:
    """Return whether ``MultiEmbeddingOf`` made the class."""
    entry = find_entry(model_class)
    return entry is not None and bool(entry.wrapping_defaults)


def get_backbone(model_class: type) -> type:
    """Return the FuxiCTR model that ``find_model`` or ``MultiEmbeddingOf`` made a class from, else the class itself."""
    entry = find_entry(model_class)
    return entry.backbone if entry is not None and entry.backbone is not None else model_class
