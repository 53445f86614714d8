"""The kinds that a study compares unless it names others: SE, ME, and the ensemble where a model can be one."""

from collections.abc import Mapping

from fuxictr_me.config.known_keys import find_known_keys
from fuxictr_me.config.model_options import OWN_HEADS
from fuxictr_me.config.model_registry import is_fuxictr_me_model
from fuxictr_me.errors import UsageError
from fuxictr_me.models.assembly import check_options
from fuxictr_me.study.results import ENSEMBLE, MULTI, SINGLE
from fuxictr_me.zoo.find_model import find_model, get_class_name

DEFAULT_KINDS = (SINGLE, MULTI, ENSEMBLE)


def leave_out_ensemble(
    model: str, settings: Mapping, kinds: Mapping[str, dict]
) -> tuple[Mapping[str, dict], str | None]:
    """Return the kinds of a model without the ensemble if the model cannot be one, and a sentence that says why.

    Args:
        model: as ``find_model`` takes it.
        settings: that it starts from.
        kinds: name -> changed settings; have ``ENSEMBLE``.

    Returns:
        ``kinds`` as given and None if the ensemble is possible.
    """
    reason = _find_reason_against_ensemble(model, settings)
    if reason is None:
        return kinds, None
    rest = {kind: changes for kind, changes in kinds.items() if kind != ENSEMBLE}
    return rest, f"{get_class_name(model)} has no ensemble control, because {reason}."


def _find_reason_against_ensemble(model: str, settings: Mapping) -> str | None:
    model_class = find_model(model)
    if not is_fuxictr_me_model(model_class):
        if "aggregation" in find_known_keys(model_class):
            return None
        return "it does not read the setting aggregation; the kind {logits: {merge: logits}} averages its logits"
    if settings.get("aggregation") in OWN_HEADS:
        return "its ME is an ensemble already"
    try:
        check_options(2, ENSEMBLE, settings.get("nonlinear_projection", True) is not False, False, [1, 1])
    except UsageError as error:
        return str(error)
    return None
