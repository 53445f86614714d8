"""Find experiments and data sets in config folders, for every command."""

import copy
import functools
from collections.abc import Mapping
from pathlib import Path

from fuxictr_me.config.datasets import check_dataset_values, check_entry_keys
from fuxictr_me.config.known_keys import DATASET_KEYS
from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.training_settings import check_training_options, check_training_values
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.config.yaml_files import parse_yaml, read_yaml_text
from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs

BASE = "Base"


def find_config(expid: str) -> Path:
    """Return the config folder of the bundled model zoo that has ``expid``.

    Raises:
        UsageError: no folder has it.
    """
    check_plain_name("expid", expid)
    expids: dict[str, Path] = {}
    for folder in find_zoo_configs().values():
        expids |= dict.fromkeys(read_entries(folder, "model_config"), folder)
    if expid not in expids or expid == BASE:
        raise unknown("expid (of the bundled model zoo; --config names another folder)", expid, _runnable(expids))
    return expids[expid]


def read_params(config: str | Path, expid: str, overrides: Mapping[str, object] | None = None) -> dict:
    """Return the merged and checked settings of an experiment, as FuxiCTR's ``load_config`` merges them.

    Args:
        config: the config folder.
        expid: experiment id.
        overrides: settings in place of those of the config, see ``config.overrides``. Their keys are not checked.

    Raises:
        UsageError: the folder, the expid or the dataset_id does not exist; the data set has an unknown key; or a value
            of the data set or of training is wrong.
    """
    folder = Path(config)
    if not folder.is_dir():
        raise missing("config folder", config)
    check_plain_name("expid", expid)
    merged = merge_experiment(folder, expid)
    dataset_id = merged.get("dataset_id")
    if dataset_id == "TBD":
        known = ", ".join(read_entries(folder, "dataset_config"))
        raise UsageError(f"{expid} is a template: copy it and set its dataset_id (known: {known})")
    dataset, _ = find_dataset(dataset_id, folder, use_bundled=False)
    params = {**merged, "model_id": expid, "dataset_id": dataset_id, **dataset, **(overrides or {})}
    check_dataset_values(params)
    check_training_values(params)
    return params


def find_dataset(dataset_id: object, config: str | Path | None = None, use_bundled: bool = True) -> tuple[dict, Path]:
    """Find the entry of a data set, in ``config`` or among those that come with the package.

    Args:
        dataset_id: an entry of ``dataset_config.yaml``.
        config: that file, or a folder that holds it.
        use_bundled: whether to look among the data sets that come with the package if ``config`` does not have it.

    Returns:
        The entry with its keys checked, and its config folder: paths may be relative to the folder that holds it.

    Raises:
        UsageError: the file or the entry does not exist, a key is unknown, or a training setting is wrong.
    """
    dataset_id = check_plain_name("dataset_id", dataset_id)
    candidates: dict[str, tuple[dict, Path]] = {}
    if config is not None:
        folder, name = Path(config), "dataset_config"
        if folder.is_file():
            folder, name = folder.parent, folder.stem
        elif not folder.is_dir():
            raise missing("config folder", config)
        candidates = {key: (entry, folder) for key, entry in read_entries(folder, name).items()}
    if dataset_id not in candidates and not use_bundled:
        raise unknown(f"dataset_id in {config}", dataset_id, candidates)
    if dataset_id not in candidates:
        bundled = bundled_datasets()
        if dataset_id not in bundled:
            if variants := [key for key, (_, folder) in bundled.items() if folder.parent.name == dataset_id]:
                raise UsageError(f"{dataset_id} comes in several settings: name one of {', '.join(variants)}")
            raise unknown("dataset_id", dataset_id, candidates or bundled)
        candidates = bundled
    entry, folder = candidates[dataset_id]
    check_entry_keys(dataset_id, entry, DATASET_KEYS)
    check_training_options(entry)
    return dict(entry), folder


def bundled_datasets() -> dict[str, tuple[dict, Path]]:
    """Return the data sets that come with the package: id -> entry and config folder.

    Paths in an entry are relative to the folder that holds the config folder.
    """
    datasets: dict[str, tuple[dict, Path]] = {}
    for path in sorted(find_bundled_folder("dataset_configs").glob("*/dataset_config.yaml")):
        entries = read_entries(path.parent, "dataset_config")
        datasets |= {key: (entry, path.parent / "config") for key, entry in entries.items()}
    return datasets


def read_entries(folder: str | Path, name: str) -> dict[str, dict]:
    """Return all entries of ``<name>.yaml``, or of the files in the folder ``<name>/``, as FuxiCTR finds them.

    Raises:
        UsageError: no such file, YAML that ``read_yaml`` refuses, a wrong entry, or one that is in two files.
    """
    return copy.deepcopy(_join({file: _entries_of(file) for file in _entry_files(Path(folder), name)}))


def _join(by_file: dict[Path, dict]) -> dict[str, dict]:
    entries: dict[str, dict] = {}
    origin: dict[str, Path] = {}
    for file, content in by_file.items():
        for key, entry in content.items():
            if key in entries and key != BASE:
                raise UsageError(f"{key} is in {origin[key]} and in {file}: rename one of them")
            entries[key], origin[key] = entry, file
    return entries


def has_entries(folder: Path | None, name: str) -> bool:
    """Return whether a config folder has ``<name>.yaml`` or the folder ``<name>/``."""
    return folder is not None and ((folder / f"{name}.yaml").is_file() or (folder / name).is_dir())


def merge_experiment(folder: Path, expid: str) -> dict:
    """Return the settings of an experiment over those of ``Base``, of its own file or else of another one.

    Raises:
        UsageError: no such experiment, or its file has no ``Base`` and several others have one.
    """
    by_file = {file: _entries_of(file) for file in _entry_files(folder, "model_config")}
    experiments = _join(by_file)
    if expid not in experiments or expid == BASE:
        raise unknown(f"expid in {folder}", expid, _runnable(experiments))
    bases = {file: content[BASE] for file, content in by_file.items() if BASE in content}
    bases = {file: base for file, base in bases.items() if expid in by_file[file]} or bases
    if len(bases) > 1:
        raise UsageError(f"{expid} has no Base in its own file, and {' and '.join(map(str, bases))} each have one")
    return copy.deepcopy({**next(iter(bases.values()), {}), **experiments[expid]})


def _entry_files(folder: Path, name: str) -> list[Path]:
    if (folder / f"{name}.yaml").is_file():
        return [folder / f"{name}.yaml"]
    files = sorted(path for path in (folder / name).glob("*.yaml") if path.is_file())
    if not files:
        raise UsageError(f"no {name}.yaml in {folder}")
    return files


def _entries_of(file: Path) -> dict[str, dict]:
    return _parse_entries(read_yaml_text(file), file)


@functools.lru_cache(maxsize=4)  # a study checks each of the hundreds of entries of a file; copy what you return
def _parse_entries(text: str, file: Path) -> dict[str, dict]:
    content = parse_yaml(text, file)
    if not isinstance(content, dict):
        raise UsageError(f"{file} must hold entries by name, got {type(content).__name__}")
    for key, entry in content.items():
        if not isinstance(key, str):
            raise UsageError(f"{file}: the name {short_repr(key)} of an entry is no text: quote it")
        if not isinstance(entry, dict):
            raise UsageError(f"{key} in {file} must hold settings by name, got {short_repr(entry)}")
        if odd := [name for name in entry if not isinstance(name, str)]:
            raise UsageError(f"{file}: the name {short_repr(odd[0])} of a setting of {key} is no text: quote it")
    return content


def _runnable(experiments: dict) -> list[str]:
    return [name for name in experiments if name != BASE]
