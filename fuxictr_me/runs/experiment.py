"""One run from a config to a result row, in the order in which FuxiCTR's run_expid.py goes."""

import contextlib
import io
import logging
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import print_to_json, print_to_list, set_logger

from fuxictr_me.compat import BaseModel, MultiTaskModel
from fuxictr_me.compat.loaders import make_rank_loaders
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.config import find_config, is_built
from fuxictr_me.config.known_keys import describe_unread_keys
from fuxictr_me.config.training_settings import check_labels
from fuxictr_me.data import H5DataLoader, InMemoryLoader, build_dataset, build_h5, feature_maps
from fuxictr_me.data.digests import data_digest, settings_digest
from fuxictr_me.data.group_column import check_group_column
from fuxictr_me.data.label_values import BINARY
from fuxictr_me.data.npz_files import check_npz
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.runs.run_lock import check_writable, locked_run
from fuxictr_me.runs.run_result import finish_results, result_row, write_result
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.training.callbacks import build as build_callbacks
from fuxictr_me.zoo.find_model import find_model, is_fuxictr_me_model
from fuxictr_me.zoo.model_source import describe_source


def run_expid(
    expid: str,
    config: str | None = None,
    gpu: int = -1,
    progress: Callable | None = None,
    ranks: object = None,
    engine: str = "set-parallel",
    set_groups: int | None = None,
    resume: bool = False,
) -> dict:
    """Train and evaluate one experiment; leave log, checkpoint, IA file and results where FuxiCTR does.

    Args:
        expid (str): experiment id.
        config (str): folder of ``model_config.yaml`` and ``dataset_config.yaml``; the bundled entry that
            has ``expid`` if None.
        gpu (int): CUDA device, -1 for the CPU.
        progress (callable): wraps the training loader, to show a bar of one's own; the log then goes to its
            file alone.
        ranks (Ranks): of ``fuxictr_me.distributed``, where several processes train the model; all of them call this,
            and rank 0 alone writes.
        engine (str): with ``ranks``: ``set-parallel``, ``sharded``, ``ddp``, or ``auto``, which chooses by estimates.
        set_groups (int or None): with ``set-parallel``: groups of ranks among which the sets are divided.
        resume (bool): with ``ranks``: keep what is needed to go on after each epoch in ``<expid>.resume`` beside the
            checkpoint, and go on from there if it is there.

    Returns:
        dict: the results, as ``<model_root>/<dataset_id>/<expid>.json`` holds them.

    Raises:
        UsageError: a setting, name or path that cannot be. Where only the test split cannot be evaluated, the result of
            the validation is written first.
        RunError: a run that cannot go on, or that another process is at.
    """
    started = time.perf_counter()
    params = load_settings(config or find_config(expid), expid, gpu)
    build_callbacks(
        params.get("callbacks")
    )  # they are built again for the model; here so that a wrong one is named now
    command = f"run_expid {f'--config {config} ' if config else ''}--expid {expid} --gpu {gpu}"
    if ranks is not None and not ranks.is_first:
        return _train(params, ranks, engine, set_groups, resume, started)
    model_dir, csv = Path(params["model_root"]) / params["dataset_id"], csv_name(config)
    with locked_run(model_dir, expid):
        check_writable(Path(csv))
        start_log(params, console=progress is None)
        finish_results(model_dir, expid)
        result = _train(params, ranks, engine, set_groups, resume, started, progress)
        command += "" if ranks is None else f" --engine {engine}"
        write_result(model_dir, result, csv, result_row(command, result))
    if "test_error" in result:
        kept = f"the validation result is kept in {model_dir / expid}.json and {csv}"
        raise UsageError(f"test split: {result['test_error']}; {kept}")
    return result


def csv_name(config: str | None) -> str:
    """Return the name of the csv file of results: that of the config folder."""
    name = Path(config or "config").name or Path(config).resolve().name
    return name.replace(".yaml", "") + ".csv"


def _train(
    params: dict,
    ranks: object,
    engine: str,
    set_groups: int | None,
    resume: bool,
    started: float,
    progress: Callable | None = None,
) -> dict:
    """Build the data, train, evaluate, and return the result; the arguments are those of ``run_expid``."""
    logging.info("Params: " + print_to_json(params))
    model, source = _build_model(params, ranks, engine, set_groups)
    feature_map, share = model.feature_map, None if ranks is None else model.share
    train_data = load_split(feature_map, params, "train", share)
    valid_data = load_split(feature_map, params, "valid", share)
    going_on = {"resume_from": Path(model.model_dir) / f"{params['model_id']}.resume"} if resume else {}
    model.fit(progress(train_data) if progress else train_data, validation_data=valid_data, **params, **going_on)

    logging.info("****** Validation evaluation ******")
    valid_result = evaluate(model, valid_data)
    del train_data, valid_data
    test_result, test_error = {}, {}
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
        "processes": 1 if ranks is None else ranks.size,
        **({} if ranks is None else {"engine": str(model.engine)}),
        "steps": model._total_steps,
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory": peak_memory(params["gpu"]),
        "checkpoint": model.checkpoint,
        "versions": collect_versions(),
        **({} if ranks is not None and not ranks.is_first else _digests(params)),
        **({"model_source": source} if source else {}),
        "settings": {key: value for key, value in params.items() if key not in ("feature_cols", "label_col")},
    }


def _digests(params: dict) -> dict[str, str]:
    """Return digests by which a study tells whether a result is of the present data and settings."""
    return {"data_digest": data_digest(params), "settings_digest": settings_digest(params)}


def _build_model(params: dict, ranks: object, engine: str, set_groups: int | None) -> tuple[BaseModel, dict | None]:
    """Build the data set, unless it is built, and the model; return it with the source of its class."""
    from fuxictr_me.estimates.memory_limits import check_memory  # planning imports this module

    model_class = find_model(params["model"])
    if not is_fuxictr_me_model(model_class) and (unread := describe_unread_keys(model_class, params)):
        logging.warning(unread)
    if ranks is not None:
        from fuxictr_me.distributed import check_class

        check_class(model_class)
    seed_everything(seed=params.get("seed", 2024))
    check_memory(model_class, params, processes=1 if ranks is None else ranks.size)

    data_dir = Path(params["data_root"]) / params["dataset_id"]
    if not is_built(params):
        params.update(build_h5(params) if params["data_format"] == "h5" else build_dataset(params))
    feature_map = load_feature_map(data_dir, params)
    check_labels(model_class, params, feature_map.labels)
    check_memory(model_class, params, feature_map, processes=1 if ranks is None else ranks.size)
    source = describe_source(model_class)
    if ranks is not None:
        from fuxictr_me.distributed import distribute_as_asked

        model_class = distribute_as_asked(model_class, feature_map, params, ranks, engine, set_groups)
    model = model_class(feature_map, **params)
    model.count_parameters()
    return model, source


def evaluate(model, data):
    """FuxiCTR's metrics of a model; of a multi-task model it logs those of each task alone, here all in one line.

    Args:
        model (BaseModel), data (iterable): of batches.

    Returns:
        dict: metric -> value; of several tasks ``<label>_<metric>`` too, and ``<metric>`` is the mean over them.
    """
    metrics = model.evaluate(data)
    if isinstance(model, MultiTaskModel):
        logging.info("[Metrics] " + print_to_list(metrics))
    return metrics


def load_trained(expid, config):
    """The model of a finished run, with its best weights.

    Args:
        expid (str), config (str): as ``run_expid`` got them, seen from the same working directory.

    Returns:
        MultiEmbeddingModel: on the CPU.

    Raises:
        UsageError: no such run, or a checkpoint that does not fit the config.
    """
    params = load_settings(config, expid)
    feature_map = load_feature_map(Path(params["data_root"]) / params["dataset_id"], params)
    model = find_model(params["model"])(feature_map, **params)
    model.load_weights(model.checkpoint)
    return model


def load_feature_map(data_dir, params):
    """FuxiCTR's feature map of a data set that is built.

    Raises:
        UsageError: it is not there, not whole, or names features that it has not, or a ``group_id`` that merges groups.
    """
    feature_map = feature_maps.load(data_dir, params["dataset_id"], params)
    if feature_map.group_id and feature_map.group_id not in feature_map.features:
        raise unknown("group_id (a feature of type meta)", feature_map.group_id, feature_map.features)
    check_group_column(feature_map.group_id, feature_map.features, params)
    logging.info("Feature specs: " + print_to_json(feature_map.features))
    return feature_map


def load_split(feature_map, params, split, share=None):
    """Batches of a split: H5 and parquet as we feed them; npz, or a ``data_loader`` of the config, as FuxiCTR does.

    Args:
        feature_map (FeatureMap), params (dict)
        split (str): ``train``, ``valid`` or ``test``.
        share ((int, int) or None): of H5, the part of this process: see ``H5DataLoader``.

    Raises:
        UsageError: see ``H5DataLoader`` and ``InMemoryLoader``.
    """
    path = params.get(f"{split}_data")
    if not path:
        raise UsageError(f"{split}_data is not set: a run needs training and validation data")
    shuffle = split == "train" and params.get("shuffle", True)
    if params["data_format"] == "npz" or params.get("data_loader") or params.get("streaming"):
        _check_loader(params.get("data_loader"))
        if params["data_format"] == "npz":
            check_npz(path, feature_map, params.get("task"))
        own = {key: value for key, value in params.items() if not key.endswith("_data")} | {"shuffle": shuffle}
        stage, key = ("test", "test_data") if split == "test" else ("train", "train_data")
        loaders = make_rank_loaders(feature_map, stage=stage, **own, **{key: path})
        return loaders if split == "test" else loaders[0]
    common = {"split": split, "batch_size": params.get("batch_size", 32), "shuffle": shuffle}
    common |= {"seed": params.get("seed", 2024), "task": params.get("task", BINARY)}
    if params["data_format"] == "h5":
        own = {key: params[key] for key in ("gpu", "data_placement", "window_rows") if key in params}
        return H5DataLoader(feature_map, path, **common, **own, share=share)
    return InMemoryLoader(feature_map, path, **common)


def _check_loader(loader: object) -> None:
    """Refuse what gives no batches: YAML's ``!!python/name:`` can name any function of a module that is imported."""
    if loader is not None and not (isinstance(loader, type) and hasattr(loader, "__iter__")):
        wanted = "data_loader must be a class that gives batches, e.g. fuxictr_me.data.H5DataLoader"
        raise UsageError(f"{wanted}, got {loader!r}")


def start_log(params, console=True):
    """Log by FuxiCTR's ``set_logger``: to ``<model_id>.log`` and to the console, or to the file alone."""
    if console:
        set_logger(params)
        return
    with contextlib.redirect_stderr(io.StringIO()):
        set_logger(params)
    for handler in logging.root.handlers[:]:
        if not isinstance(handler, logging.FileHandler):
            logging.root.removeHandler(handler)


def peak_memory(gpu):
    """The most bytes held so far: of the GPU's memory by tensors, on the CPU by the whole process."""
    if gpu >= 0:
        return torch.cuda.max_memory_allocated(gpu)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
