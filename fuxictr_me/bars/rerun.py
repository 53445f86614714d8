"""``fuxictr-me bars check --run``: the first row of an entry trained again."""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fuxictr_me.bars.check_result import OK, UNCHECKED, WRONG, Finding
from fuxictr_me.bars.read_entry import Entry
from fuxictr_me.bars.tuner import plain_id, yaml_text
from fuxictr_me.config import is_built
from fuxictr_me.config.splits import DATA_KEYS
from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.errors import RunError, UsageError, missing
from fuxictr_me.zoo.find_model import MODEL_NAMES, find_model

TOLERANCE = 1e-4
SUBJECT = "first row run again"


def rerun(folder, data_root=None, gpu=-1):
    """Train the run of the first row again, in a temporary folder, and compare its metrics.

    Args:
        folder (str or Path): of an entry that passes its check.
        data_root (str): where the raw data, or the built set, lie; None looks where the config says, from the entry's
            folder and from the working directory.
        gpu (int): CUDA device, -1 for the CPU.

    Returns:
        list of Finding: one; of a run that FuxiCTR made without us, how it does so.

    Raises:
        UsageError: data that are not there.
        RunError: the run failed; its own message is on stderr.
    """
    entry = Entry(Path(folder))
    row = entry.rows[0]
    settings = entry.settings(row.expid) or entry.settings(entry.log.name) or {}
    model = settings.get("model")
    if model not in MODEL_NAMES and not entry.is_ours:
        return [Finding(UNCHECKED, SUBJECT, _how_to_run(entry, model))]
    try:
        find_model(model, named=entry.folder)
    except UsageError as error:
        return [Finding(UNCHECKED, SUBJECT, str(error))]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        dataset_id, dataset = find_data(entry, row.dataset_id, data_root)
        (place / "config").mkdir()
        again = {**settings, "dataset_id": dataset_id, "model_root": "./checkpoints/"}
        (place / "config" / "model_config.yaml").write_text(yaml_text({row.expid: again}))
        (place / "config" / "dataset_config.yaml").write_text(yaml_text({dataset_id: dataset}))
        command = ["run_expid", "--config", "config", "--expid", row.expid, "--gpu", str(gpu)]
        command = [sys.executable, "-m", "fuxictr_me", *command]
        environment = {
            **os.environ,
            FUXICTR_ME_PATH: str(entry.folder.resolve()),
        }  # where a class of the author's own lies
        code = subprocess.run(command, cwd=place, env=environment, check=False).returncode  # noqa: S603
        if code:
            raise RunError(f"{row.expid} could not be run again: exit code {code}, see above")
        result = json.loads((place / "checkpoints" / dataset_id / f"{row.expid}.json").read_text())
    return [compare(row.test, result["test"])]


def compare(stated, again):
    """Whether metrics come out again.

    Args:
        stated, again (dict): metric -> value.

    Returns:
        Finding: it names every difference.
    """
    differences = {name: again[name] - value for name, value in stated.items()}
    said = ", ".join(f"{name} {again[name]:.6f} ({by:+.6f})" for name, by in differences.items())
    near = all(abs(by) <= TOLERANCE for by in differences.values())
    why = "" if near else "; another device, number of CPU threads or torch sums in another order, which few rows show"
    return Finding(OK if near else WRONG, SUBJECT, f"{said}; tolerance {TOLERANCE:g}{why}")


def _how_to_run(entry, model):
    """What runs a model as FuxiCTR ran it."""
    config = entry.folder.resolve() / Path(entry.name_of("model_config.yaml")).parent
    script = entry.folder if entry.is_old else f"FuxiCTR/model_zoo/{model}"
    return (
        f"{model} is not of fuxictr-me; with FuxiCTR {entry.environment.get('fuxictr')}: cd {script} && "
        f"python run_expid.py --config {config} --expid {entry.log.name} --gpu 0"
    )


def find_data(entry, dataset_id, data_root=None):
    """The data set of an entry at the paths at which it is here; what is to be built goes to ``./data/``.

    Args:
        entry (Entry)
        dataset_id (str): of its ``dataset_config.yaml``.
        data_root (str): as ``rerun`` takes it.

    Returns:
        (str, dict): id, which is without its hash where the set was built so, and settings.

    Raises:
        UsageError: data that are not there.
    """
    if dataset_id not in entry.datasets:
        raise UsageError(f"dataset_config.yaml of {entry.folder} has no {dataset_id}, which its first row names")
    dataset = copy.deepcopy(entry.datasets[dataset_id])
    _check_kinds(dataset, f"{dataset_id} in dataset_config.yaml of {entry.folder}")
    dataset.pop("dataset_id", None)  # FuxiCTR's autotuner may leave one in it
    stated = dataset.get("data_root") or "./data/"
    roots = [entry.folder.resolve(), Path.cwd()]

    def find(kind, path):
        tried = _under(data_root, path, stated) if data_root else [root / path for root in roots]
        there = (place for place in tried if place.exists() or any(place.parent.glob(f"{place.name}.*")))
        if (place := next(there, None)) is None:
            raise missing(kind, tried[0])
        return str(place)

    for key in DATA_KEYS:
        if dataset.get(key):
            dataset[key] = find(key, dataset[key])
    for column in dataset.get("feature_cols") or []:
        if "pretrained_emb" in column:
            column["pretrained_emb"] = find("pretrained_emb", column["pretrained_emb"])
    if not is_built(dataset):
        return dataset_id, {**dataset, "data_root": "./data/"}
    bases = [Path(data_root).resolve()] if data_root else [root / stated for root in roots]
    names = (dataset_id, plain_id(dataset_id, entry.datasets[dataset_id]))  # built under either
    built = [base / name for base in bases for name in names if (base / name / "feature_map.json").is_file()]
    if not built:
        raise missing("built data set", bases[0] / dataset_id)
    return built[0].name, {**dataset, "data_root": str(built[0].parent)}


def _check_kinds(dataset: dict, where: str) -> None:
    """Refuse an entry of a data set whose paths are no text, or whose columns are none."""
    for key in ("data_root", "data_format", *DATA_KEYS):
        if not isinstance(dataset.get(key) or "", str):
            raise UsageError(f"{key} of {where} must be text, got {dataset[key]!r}")
    columns = dataset.get("feature_cols") or []
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise UsageError(f"feature_cols of {where} must be a list of columns, got {str(columns)[:80]}")
    if not all(isinstance(column.get("pretrained_emb", ""), str) for column in columns):
        raise UsageError(f"pretrained_emb of a column of {where} must be a path")


def _under(data_root, path, stated):
    """Where a file may be under the user's data root: by its place under the stated one, or by its name."""
    root, path, beneath = Path(data_root).resolve(), Path(path), os.path.relpath(path, stated)
    named = [root / path.parent.name / path.name, root / path.name]
    return named if beneath.startswith("..") else [root / beneath, *named]
