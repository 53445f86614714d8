"""Checks of models in a study that are not from fuxictr-me."""

import logging
from collections.abc import Iterable, Mapping

from fuxictr_me.config.known_keys import WRAPPING_KEYS, describe_unread_keys, find_known_keys
from fuxictr_me.errors import UsageError
from fuxictr_me.zoo.find_model import MODEL_NAMES, find_model, get_class_name, is_fuxictr_me_model


def check_unique_names(names: Iterable[str]) -> None:
    """Check that the classes of a study's models have different names, by which cells and files are called.

    Raises:
        UsageError: two classes have the same name, or a class has the name of a fuxictr-me model.
    """
    classes = {name: get_class_name(name) for name in names}
    for name, class_name in classes.items():
        if list(classes.values()).count(class_name) > 1:
            raise UsageError(f"two models of a study are called {class_name}: {', '.join(classes)}")
        if name != class_name and class_name in MODEL_NAMES:
            raise UsageError(f"model {name!r} has the name of a fuxictr-me model: rename the class")


def check_settings_are_read(model: str, settings: dict, kinds: Mapping[str, dict], grids: Mapping[str, dict]) -> None:
    """Check that a model reads the settings that distinguish kinds or are tuned; log which other settings it ignores.

    Args:
        model: as ``find_model`` takes it. The keys of fuxictr-me's models are checked elsewhere.
        settings: that it starts from.
        kinds: name -> changed settings.
        grids: kind -> setting -> values.

    Raises:
        UsageError: neither FuxiCTR nor the class reads a setting of a kind or grid.
    """
    model_class = find_model(model)
    if is_fuxictr_me_model(model_class):
        return
    known = find_known_keys(model_class) | WRAPPING_KEYS | {"like"}
    for what, by_kind in (("kind", kinds), ("the grid of", grids)):
        for kind, changes in by_kind.items():
            if unread := sorted(changes.keys() - known):
                reads = f"which neither FuxiCTR nor {get_class_name(model)} reads"
                hint = "; to average logits, define the kind {logits: {merge: logits}}" if kind == "ensemble" else ""
                raise UsageError(f"{what} {kind} sets {', '.join(unread)}, {reads}{hint}")
    if ignored := describe_unread_keys(model_class, settings):
        logging.warning(ignored)
