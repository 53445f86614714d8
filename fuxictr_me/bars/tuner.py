"""The config folder of an entry, with the names that FuxiCTR's autotuner gives to its runs."""

import contextlib
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from fuxictr.autotuner import enumerate_params
from fuxictr.utils import print_to_json

from fuxictr_me.config import is_built, read_entries
from fuxictr_me.io.checksums import hash_bytes
from fuxictr_me.zoo.find_model import get_class_name

EXPID = re.compile(r"(?P<base>.+)_(?P<index>\d{3,})_(?P<hash>[0-9a-f]{8})")
HASHED = re.compile(r"(?P<base>.+)_(?P<hash>[0-9a-f]{8})")


@dataclass(frozen=True)
class TunerConfig:
    """What lies in ``<entry>_tuner_config_NN`` and the yaml beside it.

    Attributes:
        models (dict): expid -> settings.
        datasets (dict): dataset_id -> settings; one.
        tuner (dict or None): what FuxiCTR's autotuner enumerates to these; None where it would give other names.
        names (dict): expid as it ran -> expid here.
    """

    models: dict
    datasets: dict
    tuner: dict | None
    names: dict

    @property
    def dataset_id(self):
        """The only one."""
        return next(iter(self.datasets))


def tuner_hash(settings):
    """What FuxiCTR 2's autotuner hashes a run's or a data set's settings to.

    Args:
        settings (dict): of a run without its ``model_id``, or of a data set without its ``dataset_id``.

    Returns:
        str: 8 hex digits.
    """
    return hash_bytes("".join(sorted(print_to_json(settings))).encode(), "md5")[:8]


def old_tuner_hash(settings):
    """The same of FuxiCTR 1, which did not sort the characters."""
    return hash_bytes(print_to_json(settings).encode(), "md5")[:8]


def is_named(expid, settings):
    """Whether FuxiCTR's autotuner has given this name to these settings."""
    named = EXPID.fullmatch(expid)
    return bool(named) and named["hash"] == tuner_hash(settings)


def name_runs(models, dataset_id, dataset):
    """Names for runs of one data set: their own where FuxiCTR's autotuner gave them, else those that it gives.

    Args:
        models (dict): expid -> settings, a grid's.
        dataset_id (str): of the data set, without a hash.
        dataset (dict): its settings.

    Returns:
        TunerConfig
    """
    models = {expid: {"seed": 2024, **settings, "debug_mode": False} for expid, settings in models.items()}
    first = next(iter(models))
    base = (
        EXPID.sub(r"\g<base>", first)
        if EXPID.fullmatch(first)
        else f"{get_class_name(models[first]['model'])}_{dataset_id}"
    )
    tuner = _tuner(base, list(models.values()), dataset_id, dataset)
    found, datasets = _enumerate(tuner)
    models = {expid: {**settings, "dataset_id": next(iter(datasets))} for expid, settings in models.items()}
    if all(is_named(expid, settings) for expid, settings in models.items()):
        return TunerConfig(models, datasets, tuner if set(models) <= set(found) else None, {e: e for e in models})
    by_settings = {print_to_json(settings): expid for expid, settings in found.items()}
    names = {expid: by_settings[print_to_json(settings)] for expid, settings in models.items()}
    return TunerConfig({expid: found[expid] for expid in names.values()}, datasets, tuner, names)


def plain_id(dataset_id, settings):
    """The id of a data set without the hash of FuxiCTR's autotuner."""
    named = HASHED.fullmatch(dataset_id)
    return named["base"] if named and named["hash"] == tuner_hash(settings) else dataset_id


def _tuner(base, models, dataset_id, dataset):
    """The tuner's config, whole in itself, that FuxiCTR enumerates to ``models``: what varies slowest comes first."""
    values = {key: list({repr(settings[key]): settings[key] for settings in models}.values()) for key in models[0]}
    changes = {
        key: next(i for i, settings in enumerate(models) if repr(settings[key]) != repr(models[0][key]))
        for key in values
        if len(values[key]) > 1
    }
    varied = sorted(changes, key=changes.get, reverse=True) or ["seed"]
    fixed = {key: value for key, value in models[0].items() if key not in varied}
    start = {**fixed, **{key: models[0][key] for key in varied}, "dataset_id": dataset_id, "model_id": base}
    return {
        "base_expid": base,
        "dataset_id": dataset_id,
        "model_config": {base: start},
        "dataset_config": {dataset_id: dataset},
        "tuner_space": {key: values[key] for key in varied},
    }


def yaml_text(content):
    """YAML as FuxiCTR's autotuner writes it, in the order of ``content``."""
    return yaml.dump(content, default_flow_style=None, indent=4, sort_keys=False)


def _enumerate(tuner):
    """What FuxiCTR's autotuner makes of it: expid -> settings, and dataset_id -> settings."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file, ((dataset_id, dataset),) = Path(folder) / "tuner.yaml", tuner["dataset_config"].items()
        if is_built(dataset):  # it keeps its id; of the formats that are, FuxiCTR knows H5 no more
            tuner = {**tuner, "dataset_config": {dataset_id: {**dataset, "data_format": "npz"}}}
        file.write_text(yaml_text(tuner))
        made = Path(enumerate_params(str(file)))
        datasets = {dataset_id: dataset} if is_built(dataset) else read_entries(made, "dataset_config")
        return read_entries(made, "model_config"), datasets
