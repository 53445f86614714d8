"""One run from a config to a result row, in the order of FuxiCTR's run_expid.py."""

import contextlib
import io
import logging
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import print_to_json, print_to_list, set_logger

from fuxictr_me.compat import BaseModel, MultiTaskModel
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.config import find_config, is_built
from fuxictr_me.config.known_keys import describe_unread_keys
from fuxictr_me.config.model_registry import is_fuxictr_me_model
from fuxictr_me.config.overrides import format_overrides
from fuxictr_me.config.training_settings import check_labels
from fuxictr_me.data import build_dataset, build_h5
from fuxictr_me.data.digests import data_digest, settings_digest
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.memory_limits import check_memory
from fuxictr_me.runs.run_data import load_feature_map, load_split
from fuxictr_me.runs.run_lock import check_writable, locked_run
from fuxictr_me.runs.run_result import finish_results, format_row, write_result
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.runs.runtime import Runtime
from fuxictr_me.training.callbacks import build as build_callbacks
from fuxictr_me.zoo.find_model import find_model
from fuxictr_me.zoo.model_source import describe_source


def run_expid(
    expid: str,
    config: str | None = None,
    gpu: int = -1,
    progress: Callable[[Iterable], Iterable] | None = None,
    runtime: Runtime | None = None,
    overrides: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Train and evaluate one experiment. Log, checkpoint, IA file and results go where FuxiCTR puts them.

    Args:
        expid: experiment id.
        config: folder of ``model_config.yaml`` and ``dataset_config.yaml``; the bundled entry that has ``expid`` if
            None.
        gpu: CUDA device, -1 for the CPU.
        progress: wraps the training loader, to show your own progress bar. The log then goes to its file only.
        runtime: the processes that train the model, if not this one alone on ``gpu``. Each of them calls this
            function, and the first one writes.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Returns:
        The results, as ``<model_root>/<dataset_id>/<expid>.json`` holds them.

    Raises:
        UsageError: a setting, name or path is wrong. If only the test split cannot be evaluated, the result of the
            validation is written first.
        RunError: the run cannot continue, or another process trains the same experiment.
    """
    started = time.perf_counter()
    runtime = Runtime(gpu) if runtime is None else runtime
    params = load_settings(config or find_config(expid), expid, runtime.gpu, overrides=overrides)
    build_callbacks(params.get("callbacks"))  # only to name a wrong one now; the model builds its own
    if not runtime.is_first:
        return _train(params, runtime, started, overrides=overrides)
    command = f"run_expid {f'--config {config} ' if config else ''}--expid {expid} --gpu {runtime.gpu}{runtime.options}"
    command += format_overrides(overrides or {})
    model_dir, csv = Path(params["model_root"]) / params["dataset_id"], csv_name(config)
    with locked_run(model_dir, expid):
        check_writable(Path(csv))
        start_log(params, console=progress is None)
        finish_results(model_dir, expid)
        result = _train(params, runtime, started, progress, overrides)
        write_result(model_dir, result, csv, format_row(command, result))
    if "test_error" in result:
        kept = f"the validation result is kept in {model_dir / expid}.json and {csv}"
        raise UsageError(f"test split: {result['test_error']}; {kept}")
    return result


def csv_name(config: str | None) -> str:
    """Return the name of the csv file of results: that of the config folder."""
    path = Path(config or "config")
    return (path.name or path.resolve().name).replace(".yaml", "") + ".csv"


def _train(
    params: dict,
    runtime: Runtime,
    started: float,
    progress: Callable[[Iterable], Iterable] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Build the data, train, evaluate, and return the result; ``started`` is the time at which the run began."""
    logging.info("Params: " + print_to_json(params))
    if overrides:
        logging.info(f"Overridden on the command line:{format_overrides(overrides)}")
    model, source = _build_model(params, runtime)
    feature_map, share = model.feature_map, runtime.find_share(model)
    train_data = load_split(feature_map, params, "train", share)
    valid_data = load_split(feature_map, params, "valid", share)
    batches = progress(train_data) if progress else train_data
    runtime.prepare_training(model, params, started)
    model.fit(batches, validation_data=valid_data, **params, **runtime.fit_arguments(model))

    logging.info("****** Validation evaluation ******")
    valid_result = evaluate(model, valid_data)
    del train_data, valid_data, batches
    test_result: dict[str, float] = {}
    test_error = {}
    if params.get("test_data"):
        logging.info("******** Test evaluation ********")
        try:
            test_result = evaluate(model, load_split(feature_map, params, "test", share))
        except UsageError as error:  # the training is done: its validation result must not be lost
            test_error = {"test_error": str(error)}
    return {
        "expid": params["model_id"],
        "model": params["model"],
        "dataset_id": params["dataset_id"],
        "valid": {name: float(value) for name, value in valid_result.items()},
        "test": {name: float(value) for name, value in test_result.items()},
        **test_error,
        "parameters": model.num_parameters(),
        "parameters_without_embeddings": model.num_parameters(count_embedding=False),
        **runtime.describe(model),
        "steps": model._total_steps,
        "seconds": round(runtime.seconds_before + time.perf_counter() - started, 3),
        "peak_memory": peak_memory(params["gpu"]),
        "checkpoint": model.checkpoint,
        "versions": collect_versions(),
        **(_compute_digests(params) if runtime.is_first else {}),
        **({"model_source": source} if source else {}),
        **({"overridden": dict(overrides)} if overrides else {}),
        "settings": {key: value for key, value in params.items() if key not in ("feature_cols", "label_col")},
    }


def _compute_digests(params: dict) -> dict[str, str]:
    """Return digests by which a study tells whether a result belongs to the present data and settings."""
    return {"data_digest": data_digest(params), "settings_digest": settings_digest(params)}


def _build_model(params: dict, runtime: Runtime) -> tuple[BaseModel, dict | None]:
    """Build the data set, unless it is built, and the model. Return the model with the source of its class."""
    model_class = find_model(params["model"])
    if not is_fuxictr_me_model(model_class) and (unread := describe_unread_keys(model_class, params)):
        logging.warning(unread)
    runtime.check_model(model_class)
    seed_everything(seed=params.get("seed", 2024))
    check_memory(model_class, params, processes=runtime.num_processes)

    data_dir = Path(params["data_root"]) / params["dataset_id"]
    if not is_built(params):
        params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
    feature_map = load_feature_map(data_dir, params)
    check_labels(model_class, params, feature_map.labels)
    check_memory(model_class, params, feature_map, processes=runtime.num_processes)
    source = describe_source(model_class)
    model = runtime.place_model(model_class, feature_map, params)(feature_map, **params)
    model.count_parameters()
    return model, source


def evaluate(model: BaseModel, data: Iterable) -> dict[str, float]:
    """Evaluate a model, and log the metrics of a multi-task model in one line; it logs those of each task itself.

    Returns:
        metric -> value. Of several tasks, ``<label>_<metric>`` too, and ``<metric>`` is the mean over them.
    """
    metrics = model.evaluate(data)
    if isinstance(model, MultiTaskModel):
        logging.info("[Metrics] " + print_to_list(metrics))
    return metrics


def start_log(params: dict, console: bool = True) -> None:
    """Log with FuxiCTR's ``set_logger``: to ``<model_id>.log`` and to the console, or to the file only."""
    if console:
        set_logger(params)
        return
    with contextlib.redirect_stderr(io.StringIO()):
        set_logger(params)
    for handler in logging.root.handlers[:]:
        if not isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)


def peak_memory(gpu: int) -> int:
    """Return the most bytes held so far: by tensors on the GPU, or by the whole process on the CPU."""
    if gpu >= 0:
        return torch.cuda.max_memory_allocated(gpu)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
