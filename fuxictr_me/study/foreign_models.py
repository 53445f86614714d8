"""What a study asks of models that are not ours."""

import logging

from fuxictr_me.config.known_keys import OF_ANY_MODEL, known_keys, unread_keys
from fuxictr_me.errors import UsageError
from fuxictr_me.zoo.find_model import OURS, find_model, is_ours, short_name


def check_names(names):
    """Cells, files and the paper's results go by the name of the class alone.

    Args:
        names (iterable of str): of the study's models.

    Raises:
        UsageError: two of one name, or a class that is called like a model of ours.
    """
    classes = [short_name(name) for name in names]
    for name, of_class in zip(names, classes, strict=True):
        if classes.count(of_class) > 1:
            raise UsageError(f"two models of a study are called {of_class}: {', '.join(names)}")
        if name != of_class and of_class in OURS:
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
    if is_ours(model_class):
        return
    known = known_keys(model_class) | OF_ANY_MODEL | {"like"}
    for what, asked in (("kind", kinds), ("the grid of", grids)):
        for kind, changes in asked.items():
            if unread := sorted(changes.keys() - known):
                reads = f"which neither FuxiCTR nor {short_name(model)} reads"
                hint = "; logits are averaged by an own kind {logits: {merge: logits}}" if kind == "ensemble" else ""
                raise UsageError(f"{what} {kind} sets {', '.join(unread)}, {reads}{hint}")
    if unread := unread_keys(model_class, settings):
        logging.warning(unread)
