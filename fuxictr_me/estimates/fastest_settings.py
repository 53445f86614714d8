"""Find the settings with which a run is expected to be fastest, by the times in ``measured_steps.py``."""

from dataclasses import dataclass
from typing import Any

from fuxictr.features import FeatureMap

from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.gpus import Gpu
from fuxictr_me.estimates.measured_steps import expected_seconds
from fuxictr_me.estimates.operation_ledger import Operation
from fuxictr_me.estimates.plan import Plan, kernel_seconds
from fuxictr_me.estimates.simulate import simulate
from fuxictr_me.zoo.find_model import is_fuxictr_me_model

MIN_GAIN = 0.1  # share of a step; below it, updates by rows are not worth their first, dense steps


@dataclass(frozen=True)
class Advice:
    """Settings, and the expected seconds of a step with them.

    Attributes:
        settings: those that matter for the time: ``compile``, ``cuda_graph``, ``precision``, ``embedding_updates``.
        seconds: time of a step.
    """

    settings: dict[str, Any]
    seconds: float


def fastest_settings(model_class: type, feature_map: FeatureMap, params: dict[str, Any], current: Plan) -> list[Advice]:
    """Return the fastest settings with the same results, then the same settings with matrix products in tf32.

    Args:
        model_class, feature_map, params: the arguments of ``plan`` that returned ``current``.
        current: the plan of the run with its present settings.

    Returns:
        An empty list if the model is not fuxictr-me's: there are no measured times of other models.
    """
    if not is_fuxictr_me_model(model_class):
        return []
    updates = params.get("embedding_updates", "dense")
    operations = {updates: current.operations}
    if updates == "dense" and not (params.get("embedding_regularizer") or params.get("weight_decay")):
        operations |= _simulate_catch_up(model_class, feature_map, params)
    precision = params.get("precision", "float32")
    model = model_class.__name__
    seconds = {name: _seconds(listed, current.gpu, precision, model) for name, listed in operations.items()}
    best = "catch_up" if seconds.get("catch_up", 1e9) < (1 - MIN_GAIN) * seconds[updates] else updates
    settings = {"compile": True, "cuda_graph": "auto", "precision": precision, "embedding_updates": best}
    advice = [Advice(settings, seconds[best])]
    if precision == "float32" and "tf32" in current.gpu.peaks:  # with the same operations
        rounded = _seconds(operations[best], current.gpu, "tf32", model)
        advice.append(Advice({**settings, "precision": "tf32"}, rounded))
    return advice


def _simulate_catch_up(
    model_class: type, feature_map: FeatureMap, params: dict[str, Any]
) -> dict[str, list[Operation]]:
    """Return {"catch_up": operations of a step}; empty if it is incompatible with the other settings."""
    try:
        return {"catch_up": simulate(model_class, feature_map, {**params, "embedding_updates": "catch_up"}).operations}
    except UsageError:
        return {}


def _seconds(operations: list[Operation], gpu: Gpu, precision: str, model: str) -> float:
    measured_as = precision if precision in gpu.peaks else "float32"
    return expected_seconds(kernel_seconds(operations, gpu, precision), measured_as, is_compiled=True, model=model)
