"""Find an experiment and a data set in config folders: one function for each, which every command calls."""

from pathlib import Path

from fuxictr_me.config.datasets import check_dataset_values, check_entry_keys
from fuxictr_me.config.known_keys import DATASET_KEYS
from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.training_settings import check_training_options, check_training_values
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.config.yaml_files import read_yaml
from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs

BASE = "Base"


def find_config(expid: str) -> Path:
    """Return the config folder in the bundled model zoo that has ``expid``.

    Raises:
        UsageError: none has.
    """
    check_plain_name("expid", expid)
    expids: dict[str, Path] = {}
    for folder in find_zoo_configs().values():
        expids |= dict.fromkeys(read_entries(folder, "model_config"), folder)
    if expid not in expids or expid == BASE:
        raise unknown("expid (of the bundled model zoo; --config names another folder)", expid, _runnable(expids))
    return expids[expid]


def read_params(config: str | Path, expid: str) -> dict:
    """Return the merged settings of an experiment of any model, as FuxiCTR's ``load_config`` gives them, checked.

    Args:
        config: the folder.
        expid: experiment id.

    Raises:
        UsageError: no such folder, expid or dataset_id; an unknown key, or a value that cannot be, of the data set;
            a value of a training setting that cannot be.
    """
    folder = Path(config)
    if not folder.is_dir():
        raise missing("config folder", config)
    check_plain_name("expid", expid)
    merged = merge_experiment(folder, expid)
    dataset_id, datasets = merged.get("dataset_id"), read_entries(folder, "dataset_config")
    if dataset_id == "TBD":
        raise UsageError(f"{expid} is a template: copy it and set its dataset_id (known: {', '.join(datasets)})")
    check_plain_name("dataset_id", dataset_id)
    if dataset_id not in datasets:
        raise unknown(f"dataset_id in {config}", dataset_id, datasets)
    check_entry_keys(dataset_id, datasets[dataset_id], DATASET_KEYS)
    params = {**merged, "model_id": expid, "dataset_id": dataset_id, **datasets[dataset_id]}
    check_dataset_values(params)
    check_training_values(params)
    return params


def find_dataset(dataset_id: str, config: str | Path | None = None) -> tuple[dict, Path]:
    """Find the entry of a data set: in a config of yours, else among those that come with the package.

    Args:
        dataset_id: an entry of ``dataset_config.yaml``.
        config: that file, or a folder that holds it.

    Returns:
        The entry, its keys checked, and the config folder from beside which its paths are also looked for.

    Raises:
        UsageError: no such file or entry, an unknown key in it, or a setting of a run that cannot be.
    """
    check_plain_name("dataset_id", dataset_id)
    own: dict[str, dict] = {}
    folder = Path(config) if config is not None else None
    if folder is not None:
        name = "dataset_config"
        if folder.is_file():
            folder, name = folder.parent, folder.stem
        elif not folder.is_dir():
            raise missing("config folder", config)
        own = read_entries(folder, name)
    shipped = bundled_datasets() if dataset_id not in own else {}
    if dataset_id in own:
        entry, place = own[dataset_id], folder
    elif dataset_id in shipped:
        entry, place = shipped[dataset_id]
    else:
        inside = [key for key, (_, place) in shipped.items() if place.parent.name == dataset_id]
        if inside:
            raise UsageError(f"{dataset_id} comes in several settings: name one of {', '.join(inside)}")
        raise unknown("dataset_id", dataset_id, own or shipped)
    check_entry_keys(dataset_id, entry, DATASET_KEYS)
    check_training_options(entry)
    return dict(entry), place


def bundled_datasets() -> dict[str, tuple[dict, Path]]:
    """Return the data sets that come with the package: id -> entry, config folder.

    Their paths are as seen from beside the config folder of an entry of the model zoo.
    """
    found: dict[str, tuple[dict, Path]] = {}
    for path in sorted(find_bundled_folder("dataset_configs").glob("*/dataset_config.yaml")):
        entries = read_entries(path.parent, "dataset_config")
        found |= {key: (entry, path.parent / "config") for key, entry in entries.items()}
    return found


def read_entries(folder: str | Path, name: str) -> dict[str, dict]:
    """Return all entries of ``<name>.yaml``, or of the files in ``<name>/``, as FuxiCTR looks for them.

    Raises:
        UsageError: no such file; YAML that ``read_yaml`` refuses; an entry that is none, or is in two files.
    """
    return _join({file: _entries_of(file) for file in _entry_files(Path(folder), name)})


def _join(by_file: dict[Path, dict]) -> dict[str, dict]:
    entries: dict[str, dict] = {}
    origin: dict[str, Path] = {}
    for file, content in by_file.items():
        for key, entry in content.items():
            if key in entries and key != BASE:
                raise UsageError(f"{key} is in {origin[key]} and in {file}: rename one of them")
            entries[key], origin[key] = entry, file
    return entries


def merge_experiment(folder: Path, expid: str) -> dict:
    """Return ``Base`` of the file that has the experiment, else of another one, and over it the experiment.

    Raises:
        UsageError: no such experiment, or several files that have a ``Base`` and not the experiment.
    """
    by_file = {file: _entries_of(file) for file in _entry_files(folder, "model_config")}
    experiments = _join(by_file)
    if expid not in experiments or expid == BASE:
        raise unknown(f"expid in {folder}", expid, _runnable(experiments))
    bases = {file: content[BASE] for file, content in by_file.items() if BASE in content}
    own = {file: base for file, base in bases.items() if expid in by_file[file]} or bases
    if len(own) > 1:
        raise UsageError(f"{expid} has no Base in its own file, and {' and '.join(map(str, own))} each have one")
    return {**next(iter(own.values()), {}), **experiments[expid]}


def _entry_files(folder: Path, name: str) -> list[Path]:
    if (folder / f"{name}.yaml").is_file():
        return [folder / f"{name}.yaml"]
    files = sorted(path for path in (folder / name).glob("*.yaml") if path.is_file())
    if not files:
        raise UsageError(f"no {name}.yaml in {folder}")
    return files


def _entries_of(file: Path) -> dict[str, dict]:
    content = read_yaml(file)
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
