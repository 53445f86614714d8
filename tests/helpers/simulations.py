"""Simulated steps that the tests of a file share, because each takes about a second."""

import json
from collections.abc import Callable
from typing import Any

from fuxictr.features import FeatureMap

from fuxictr_me.estimates.simulate import Simulation


def remembering(simulate: Callable[..., Simulation]) -> Callable[..., Simulation]:
    """Return ``simulate`` with a memory of what it returned for equal arguments."""
    found: dict[str, Simulation] = {}

    def recall(model_class: type, feature_map: FeatureMap, params: dict[str, Any], **options: bool) -> Simulation:
        key = json.dumps([repr(model_class), vars(feature_map), params, options], default=repr, sort_keys=True)
        if key not in found:
            found[key] = simulate(model_class, feature_map, params, **options)
        return found[key]

    return recall
