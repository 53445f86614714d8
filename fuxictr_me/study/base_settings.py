"""Where a study's settings come from: the entry that a model starts from, and that of the data set."""

import inspect
from pathlib import Path

from fuxictr_me import config
from fuxictr_me.config import read_entries
from fuxictr_me.config.lookup import merge_experiment
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.resources import find_zoo_configs
from fuxictr_me.zoo.find_model import ZOO_PACKAGE, find_model, get_backbone, get_class_name, is_fuxictr_me_model

IA = "InformationAbundance"
ALWAYS = {"model_root": "./checkpoints/", "verbose": 0, "debug_mode": False}


def start_of(model, own, folder):
    """The settings that a model starts from; its information abundance is watched.

    Args:
        model (str): as ``find_model`` takes it, e.g. ``DCNv2_ME``.
        own (dict): settings of its own; ``expid`` among them names the entry, ``<class>_default`` if there is none.
        folder (Path or None): of configs, looked through before the entry that comes with the model: of our zoo, or of
            FuxiCTR's in the checkout that its class is in.

    Returns:
        dict

    Raises:
        UsageError: no such model or entry, or an entry of another model.
    """
    model_class = find_model(model, folder and folder.resolve().parent)
    name = get_class_name(model)
    expid = own.get("expid", f"{name}_default")
    if not isinstance(expid, str):
        raise UsageError(f"expid of {model} must be the name of an entry, got {expid!r}")
    sources = [source for source in (folder, _zoo_config(model_class)) if has(source, "model_config")]
    if not sources:
        raise UsageError(
            f"a study of {model} starts from its entry {expid}: name the config folder that has it (config)"
        )
    for source in sources:
        entries = read_entries(source, "model_config")
        if expid in entries:
            break
    else:
        raise unknown(f"expid of {model}", expid, [key for key in entries if key != "Base"])
    start = merge_experiment(source, expid)
    if get_class_name(start.get("model")) != name:
        raise UsageError(f"{expid} in {source} is of model {start.get('model')!r}, not {model}")
    callbacks = start.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    watched = any(isinstance(callback, str | dict) and IA in callback for callback in callbacks)
    own = {key: value for key, value in own.items() if key != "expid"}
    return {**start, "callbacks": callbacks if watched else [*callbacks, IA], **ALWAYS, **own}


def _zoo_config(model_class):
    """The config folder of a model's entry: of our zoo, or of the checkout of FuxiCTR that its class is in."""
    if is_fuxictr_me_model(model_class):
        return find_zoo_configs().get(model_class.__name__)
    folder = Path(inspect.getfile(get_backbone(model_class))).resolve().parents[1] / "config"
    return folder if get_backbone(model_class).__module__.startswith(f"{ZOO_PACKAGE}.") else None


def find_dataset(dataset_id: str, folder: Path | None) -> tuple[dict, Path]:
    """Return the entry of a data set, and the config folder from beside which its paths are also looked for.

    Args:
        dataset_id: an entry of the folder's ``dataset_config``, if it has one, or one that comes with the package.
        folder: of configs, or None.

    Raises:
        UsageError: no such entry.
    """
    return config.find_dataset(dataset_id, folder if has(folder, "dataset_config") else None)


def has(folder, name):
    """Whether a config folder has ``<name>.yaml``, or the files in ``<name>/``."""
    return folder is not None and ((folder / f"{name}.yaml").is_file() or (folder / name).is_dir())
