"""Name runs as FuxiCTR's autotuner does, and write the configs that go with the names."""

import contextlib
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fuxictr.autotuner import enumerate_params
from fuxictr.utils import print_to_json

from fuxictr_me.config import is_built, read_entries
from fuxictr_me.io.checksums import hash_bytes
from fuxictr_me.zoo.find_model import get_class_name

Settings = dict[str, Any]
EXPID = re.compile(r"(?P<base>.+)_(?P<index>\d{3,})_(?P<hash>[0-9a-f]{8})")
HASHED = re.compile(r"(?P<base>.+)_(?P<hash>[0-9a-f]{8})")


@dataclass(frozen=True)
class TunerConfig:
    """Content of ``<entry>_tuner_config_NN`` and of the YAML file beside it.

    Attributes:
        models: expid -> settings.
        datasets: dataset_id -> settings; has one item.
        tuner: config that FuxiCTR's autotuner expands to these; None if it would give other names.
        names: expid of the run -> expid in the entry.
    """

    models: dict[str, Settings]
    datasets: dict[str, Settings]
    tuner: Settings | None
    names: dict[str, str]

    @property
    def dataset_id(self) -> str:
        """Id of the data set."""
        return next(iter(self.datasets))


def tuner_hash(settings: Settings) -> str:
    """Return the 8 hex digits by which FuxiCTR 2's autotuner names a run or a data set.

    Args:
        settings: of a run without its ``model_id``, or of a data set without its ``dataset_id``.
    """
    return hash_bytes("".join(sorted(print_to_json(settings))).encode(), "md5")[:8]


def old_tuner_hash(settings: Settings) -> str:
    """Return the hash of FuxiCTR 1, which did not sort the characters."""
    return hash_bytes(print_to_json(settings).encode(), "md5")[:8]


def has_tuner_name(expid: str, settings: Settings) -> bool:
    """Whether ``expid`` is the name that FuxiCTR's autotuner gives to these settings."""
    match = EXPID.fullmatch(expid)
    return match is not None and match["hash"] == tuner_hash(settings)


def name_runs(models: dict[str, Settings], dataset_id: str, dataset: Settings) -> TunerConfig:
    """Name the runs of one data set as FuxiCTR's autotuner does; runs that have such a name keep it.

    Args:
        models: expid -> settings, of a whole grid.
        dataset_id: of the data set, without a hash.
        dataset: settings of the data set.
    """
    models = {expid: {"seed": 2024, **settings, "debug_mode": False} for expid, settings in models.items()}
    first = next(iter(models))
    base = (
        EXPID.sub(r"\g<base>", first)
        if EXPID.fullmatch(first)
        else f"{get_class_name(models[first]['model'])}_{dataset_id}"
    )
    tuner = _make_tuner_config(base, list(models.values()), dataset_id, dataset)
    tuned, datasets = _expand(tuner)
    models = {expid: {**settings, "dataset_id": next(iter(datasets))} for expid, settings in models.items()}
    if all(has_tuner_name(expid, settings) for expid, settings in models.items()):
        return TunerConfig(models, datasets, tuner if set(models) <= set(tuned) else None, {e: e for e in models})
    by_settings = {print_to_json(settings): expid for expid, settings in tuned.items()}
    names = {expid: by_settings[print_to_json(settings)] for expid, settings in models.items()}
    return TunerConfig({expid: tuned[expid] for expid in names.values()}, datasets, tuner, names)


def remove_hash(dataset_id: str, settings: Settings) -> str:
    """Return the id of a data set without the hash of FuxiCTR's autotuner."""
    match = HASHED.fullmatch(dataset_id)
    return match["base"] if match and match["hash"] == tuner_hash(settings) else dataset_id


def _make_tuner_config(base: str, models: list[Settings], dataset_id: str, dataset: Settings) -> Settings:
    """Return a self-contained tuner config that FuxiCTR expands to ``models``. What varies slowest comes first."""
    values = {key: list({repr(settings[key]): settings[key] for settings in models}.values()) for key in models[0]}
    changes = {
        key: next(i for i, settings in enumerate(models) if repr(settings[key]) != repr(models[0][key]))
        for key in values
        if len(values[key]) > 1
    }
    varied = sorted(changes, key=lambda key: changes[key], reverse=True) or ["seed"]
    fixed = {key: value for key, value in models[0].items() if key not in varied}
    start = {**fixed, **{key: models[0][key] for key in varied}, "dataset_id": dataset_id, "model_id": base}
    return {
        "base_expid": base,
        "dataset_id": dataset_id,
        "model_config": {base: start},
        "dataset_config": {dataset_id: dataset},
        "tuner_space": {key: values[key] for key in varied},
    }


def write_yaml(content: Settings) -> str:
    """Return YAML as FuxiCTR's autotuner writes it, in the order of ``content``."""
    return yaml.dump(content, default_flow_style=None, indent=4, sort_keys=False)


def _expand(tuner: Settings) -> tuple[dict[str, Settings], dict[str, Settings]]:
    """Let FuxiCTR's autotuner expand its config to expid -> settings and dataset_id -> settings."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file, ((dataset_id, dataset),) = Path(folder) / "tuner.yaml", tuner["dataset_config"].items()
        if is_built(dataset):  # it keeps its id then, but FuxiCTR does not know the format h5
            tuner = {**tuner, "dataset_config": {dataset_id: {**dataset, "data_format": "npz"}}}
        file.write_text(write_yaml(tuner))
        made = Path(enumerate_params(str(file)))
        datasets = {dataset_id: dataset} if is_built(dataset) else read_entries(made, "dataset_config")
        return read_entries(made, "model_config"), datasets
