"""Which settings would make a run fastest, by the times that ``measured.py`` expects."""

from dataclasses import dataclass

from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.gpus import Gpu
from fuxictr_me.estimates.measured_steps import expected_seconds
from fuxictr_me.estimates.plan import Plan, kernel_seconds
from fuxictr_me.estimates.simulate import simulate
from fuxictr_me.zoo.find_model import is_fuxictr_me_model

LEAST_GAIN = 0.1  # of a step, below which updates by rows are not worth their first, dense steps


@dataclass(frozen=True)
class Advice:
    """Settings, and the seconds that a step is expected to take with them.

    Attributes:
        settings: all that matter for the time: ``compile``, ``cuda_graph``, ``precision``, ``embedding_updates``.
        seconds: of a step.
    """

    settings: dict
    seconds: float


def fastest_settings(model_class: type, feature_map: object, params: dict, found: Plan) -> list[Advice]:
    """Return the fastest settings with the same results, then the same with products in tf32.

    Args:
        model_class, feature_map, params: as of ``plan``, which gave ``found``.
        found: the run as it is.

    Returns:
        Nothing if the model is not fuxictr-me's, for whose steps there are no measured times.
    """
    if not is_fuxictr_me_model(model_class):
        return []
    updates = params.get("embedding_updates", "dense")
    operations = {updates: found.operations}
    if updates == "dense" and not (params.get("embedding_regularizer") or params.get("weight_decay")):
        operations |= _by_rows(model_class, feature_map, params)
    precision = params.get("precision", "float32")
    model = model_class.__name__
    seconds = {name: _seconds(own, found.gpu, precision, model) for name, own in operations.items()}
    best = "catch_up" if seconds.get("catch_up", 1e9) < (1 - LEAST_GAIN) * seconds[updates] else updates
    settings = {"compile": True, "cuda_graph": "auto", "precision": precision, "embedding_updates": best}
    advice = [Advice(settings, seconds[best])]
    if precision == "float32" and "tf32" in found.gpu.peaks:  # with the same operations
        rounded = _seconds(operations[best], found.gpu, "tf32", model)
        advice.append(Advice({**settings, "precision": "tf32"}, rounded))
    return advice


def _by_rows(model_class: type, feature_map: object, params: dict) -> dict[str, list]:
    """Return {"catch_up": operations of a step}; nothing if it does not go with the other settings."""
    try:
        return {"catch_up": simulate(model_class, feature_map, {**params, "embedding_updates": "catch_up"}).operations}
    except UsageError:
        return {}


def _seconds(operations: list, gpu: Gpu, precision: str, model: str) -> float:
    measured_as = precision if precision in gpu.peaks else "float32"
    return expected_seconds(kernel_seconds(operations, gpu, precision), measured_as, is_compiled=True, model=model)
