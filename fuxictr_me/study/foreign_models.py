"""What a study asks of models that are not ours."""

import logging

from fuxictr_me.config.known_keys import WRAPPING_KEYS, describe_unread_keys, find_known_keys
from fuxictr_me.errors import UsageError
from fuxictr_me.zoo.find_model import MODEL_NAMES, find_model, get_class_name, is_fuxictr_me_model


def check_names(names):
    """Cells, files and the paper's results go by the name of the class alone.

    Args:
        names (iterable of str): of the study's models.

    Raises:
        UsageError: two of one name, or a class that is called like a model of ours.
    """
    classes = [get_class_name(name) for name in names]
    for name, of_class in zip(names, classes, strict=True):
        if classes.count(of_class) > 1:
            raise UsageError(f"two models of a study are called {of_class}: {', '.join(names)}")
        if name != of_class and of_class in MODEL_NAMES:
            raise UsageError(f"model {name!r} of a study is called like a model of ours: call the class something else")


def check_read(model, settings, kinds, grids):
    """What tells kinds apart, or is tuned, must be read by a model; what else is not is named in the log.

    Args:
        model (str): as ``find_model`` takes it; of ours all keys are checked elsewhere.
        settings (dict): that it starts from.
        kinds (dict): name -> its changes of settings.
        grids (dict): kind -> {setting: values}.

    Raises:
        UsageError: a kind or a grid of a setting that neither FuxiCTR nor the class reads.
    """
    model_class = find_model(model)
    if is_fuxictr_me_model(model_class):
        return
    known = find_known_keys(model_class) | WRAPPING_KEYS | {"like"}
    for what, asked in (("kind", kinds), ("the grid of", grids)):
        for kind, changes in asked.items():
            if unread := sorted(changes.keys() - known):
                reads = f"which neither FuxiCTR nor {get_class_name(model)} reads"
                hint = "; logits are averaged by an own kind {logits: {merge: logits}}" if kind == "ensemble" else ""
                raise UsageError(f"{what} {kind} sets {', '.join(unread)}, {reads}{hint}")
    if unread := describe_unread_keys(model_class, settings):
        logging.warning(unread)
