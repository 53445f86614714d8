"""Build the model of a finished run for predictions. This needs the model's code, which ``find_run`` does not."""

from typing import Any

from fuxictr_me.compat import BaseModel
from fuxictr_me.config.model_registry import is_fuxictr_me_model
from fuxictr_me.config.training_settings import check_labels, check_model_settings
from fuxictr_me.runs.finished_run import FinishedRun
from fuxictr_me.zoo.find_model import find_model

# Settings with which the model is built, whatever it was trained with:
CHANGED: dict[str, Any] = {"verbose": 0, "callbacks": None}
CHANGED_FUXICTR_ME: dict[str, Any] = {
    "compile": False,
    "precision": "float32",
    "fused_embedding": True,
    "embedding_updates": "dense",
    "first_set_checkpoint": None,
}
CHANGED_WRAPPED: dict[str, Any] = {"batched": False}


def load_model(run: FinishedRun, gpu: int = -1) -> BaseModel:
    """Return the model of a run with its weights, in float32 and in evaluation mode.

    Args:
        run: the finished run.
        gpu: CUDA device, -1 for the CPU.

    Raises:
        UsageError: there is no such class, its settings are invalid, or the checkpoint does not fit.
    """
    model_class = find_model(run.params.get("model"), run.folder.resolve().parent)
    changed = CHANGED_FUXICTR_ME if is_fuxictr_me_model(model_class) else CHANGED_WRAPPED
    params = {**run.params, **CHANGED, **changed, "gpu": gpu}
    check_model_settings(model_class, params)
    check_labels(model_class, params, run.feature_map.labels)
    model = model_class(run.feature_map, **params)
    run.state_dict()  # refuses damaged files, NaN and infinite values
    model.load_weights(run.checkpoint)
    return model.eval()
