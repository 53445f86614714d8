"""Read the settings that a model of a study starts from, and the entry of its data set."""

import inspect
from pathlib import Path

from fuxictr_me.config import read_entries
from fuxictr_me.config.lookup import has_entries, merge_experiment
from fuxictr_me.config.model_registry import get_backbone, is_fuxictr_me_model
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.resources import find_zoo_configs
from fuxictr_me.zoo.find_model import ZOO_PACKAGE, find_model, get_class_name

IA = "InformationAbundance"
FIXED = {"model_root": "./checkpoints/", "verbose": 0, "debug_mode": False}


def load_base_settings(model: str, own: dict, folder: Path | None) -> dict:
    """Return the settings that a model starts from, with the callback that records information abundance.

    Args:
        model: as ``find_model`` takes it, e.g. ``DCNv2_ME``.
        own: settings that the study gives for this model. Its ``expid`` names the entry, by default
            ``<class>_default``.
        folder: of configs, searched before the entry that comes with the model: in fuxictr-me's zoo, or in the checkout
            of FuxiCTR that the class is in.

    Raises:
        UsageError: there is no such model or entry, or the entry is of another model.
    """
    model_class = find_model(model, folder and folder.resolve().parent)
    name = get_class_name(model)
    expid = own.get("expid", f"{name}_default")
    if not isinstance(expid, str):
        raise UsageError(f"expid of {model} must be the name of an entry, got {expid!r}")
    source = _find_source(model, expid, [folder, _find_zoo_config(model_class)])
    settings = merge_experiment(source, expid)
    if get_class_name(settings.get("model")) != name:
        raise UsageError(f"{expid} in {source} is of model {settings.get('model')!r}, not {model}")
    callbacks = settings.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    if not any(isinstance(callback, str | dict) and IA in callback for callback in callbacks):
        callbacks = [*callbacks, IA]
    own = {key: value for key, value in own.items() if key != "expid"}
    return {**settings, "callbacks": callbacks, **FIXED, **own}


def _find_source(model: str, expid: str, folders: list[Path | None]) -> Path:
    """Return the first config folder that has an entry."""
    sources = [folder for folder in folders if folder is not None and has_entries(folder, "model_config")]
    if not sources:
        raise UsageError(
            f"a study of {model} starts from its entry {expid}: name the config folder that has it (config)"
        )
    names: list[str] = []
    for source in sources:
        entries = read_entries(source, "model_config")
        if expid in entries:
            return source
        names = [name for name in entries if name != "Base"]
    raise unknown(f"expid of {model}", expid, names)


def _find_zoo_config(model_class: type) -> Path | None:
    """Return the config folder that comes with a model: in fuxictr-me's zoo, or in the checkout of FuxiCTR."""
    if is_fuxictr_me_model(model_class):
        return find_zoo_configs().get(model_class.__name__)
    folder = Path(inspect.getfile(get_backbone(model_class))).resolve().parents[1] / "config"
    return folder if get_backbone(model_class).__module__.startswith(f"{ZOO_PACKAGE}.") else None
