"""Train the first row of an entry again, for ``fuxictr-me bars check --run``."""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fuxictr_me.bars.check_result import OK, UNCHECKED, WRONG, CheckResult
from fuxictr_me.bars.read_entry import Entry
from fuxictr_me.bars.tuner_names import remove_hash, write_yaml
from fuxictr_me.config import is_built
from fuxictr_me.config.splits import DATA_KEYS
from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.errors import RunError, UsageError, missing
from fuxictr_me.zoo.find_model import MODEL_NAMES, find_model

TOLERANCE = 1e-4
SUBJECT = "first row run again"


def rerun(folder: str | Path, data_root: str | None = None, gpu: int = -1) -> list[CheckResult]:
    """Train the run of the first row again, in a temporary folder, and compare its metrics.

    Args:
        folder: an entry that passes its check.
        data_root: folder of the raw data or of the built set. None looks where the config says, from the entry's
            folder and from the working directory.
        gpu: CUDA device, -1 for the CPU.

    Returns:
        One result. If FuxiCTR alone made the run, it says how to repeat it.

    Raises:
        UsageError: data are missing.
        RunError: the run failed; its own message is on stderr.
    """
    entry = Entry(Path(folder))
    row = entry.rows[0]
    settings = entry.find_settings(row.expid) or entry.find_settings(entry.log.name) or {}
    model = settings.get("model")
    if model not in MODEL_NAMES and not entry.is_from_fuxictr_me:
        return [CheckResult(UNCHECKED, SUBJECT, _explain_rerun(entry, model))]
    try:
        find_model(model, named=entry.folder)
    except UsageError as error:
        return [CheckResult(UNCHECKED, SUBJECT, str(error))]
    with tempfile.TemporaryDirectory() as temporary:
        dataset_id, dataset = find_data(entry, row.dataset_id, data_root)
        config = Path(temporary) / "config"
        config.mkdir()
        settings = {**settings, "dataset_id": dataset_id, "model_root": "./checkpoints/"}
        (config / "model_config.yaml").write_text(write_yaml({row.expid: settings}))
        (config / "dataset_config.yaml").write_text(write_yaml({dataset_id: dataset}))
        command = [sys.executable, "-m", "fuxictr_me", "run_expid"]
        command += ["--config", "config", "--expid", row.expid, "--gpu", str(gpu)]
        environment = {**os.environ, FUXICTR_ME_PATH: str(entry.folder.resolve())}  # has the author's own class
        code = subprocess.run(command, cwd=temporary, env=environment, check=False).returncode  # noqa: S603
        if code:
            raise RunError(f"{row.expid} could not be run again: exit code {code}, see above")
        result = json.loads((Path(temporary) / "checkpoints" / dataset_id / f"{row.expid}.json").read_text())
    return [compare_metrics(row.test, result["test"])]


def compare_metrics(stated: dict[str, float], again: dict[str, float]) -> CheckResult:
    """Compare the metrics of an entry with those of the second run, metric -> value. The result names all of them."""
    differences = {name: again[name] - value for name, value in stated.items()}
    detail = ", ".join(f"{name} {again[name]:.6f} ({difference:+.6f})" for name, difference in differences.items())
    detail += f"; tolerance {TOLERANCE:g}"
    if all(abs(difference) <= TOLERANCE for difference in differences.values()):
        return CheckResult(OK, SUBJECT, detail)
    reason = "another device, number of CPU threads or torch sums in another order, which shows if there are few rows"
    return CheckResult(WRONG, SUBJECT, f"{detail}; {reason}")


def _explain_rerun(entry: Entry, model: object) -> str:
    """Return the command that repeats a run of FuxiCTR's."""
    config = entry.folder.resolve() / Path(entry.find_name("model_config.yaml")).parent
    script = entry.folder if entry.is_from_fuxictr_1 else f"FuxiCTR/model_zoo/{model}"
    return (
        f"{model} is not a model of fuxictr-me; with FuxiCTR {entry.environment.get('fuxictr')}: cd {script} && "
        f"python run_expid.py --config {config} --expid {entry.log.name} --gpu 0"
    )


def find_data(entry: Entry, dataset_id: str, data_root: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return id and settings of an entry's data set, with the paths where the data are on this machine.

    The id has no hash if the data set was built without it. A data set that has to be built goes to ``./data/``.

    Args:
        entry: the entry.
        dataset_id: an id in its ``dataset_config.yaml``.
        data_root: see ``rerun``.

    Raises:
        UsageError: data are missing.
    """
    if dataset_id not in entry.datasets:
        raise UsageError(f"dataset_config.yaml of {entry.folder} has no {dataset_id}, which is in its first row")
    dataset = copy.deepcopy(entry.datasets[dataset_id])
    _check_types(dataset, f"{dataset_id} in dataset_config.yaml of {entry.folder}")
    dataset.pop("dataset_id", None)  # FuxiCTR's autotuner may leave one in it
    stated = dataset.get("data_root") or "./data/"
    roots = [entry.folder.resolve(), Path.cwd()]

    def find(kind: str, path: str) -> str:
        candidates = _list_candidates(data_root, path, stated) if data_root else [root / path for root in roots]
        for candidate in candidates:
            if candidate.exists() or any(candidate.parent.glob(f"{candidate.name}.*")):
                return str(candidate)
        raise missing(kind, candidates[0])

    for key in DATA_KEYS:
        if dataset.get(key):
            dataset[key] = find(key, dataset[key])
    for column in dataset.get("feature_cols") or []:
        if "pretrained_emb" in column:
            column["pretrained_emb"] = find("pretrained_emb", column["pretrained_emb"])
    if not is_built(dataset):
        return dataset_id, {**dataset, "data_root": "./data/"}
    bases = [Path(data_root).resolve()] if data_root else [root / stated for root in roots]
    names = (dataset_id, remove_hash(dataset_id, entry.datasets[dataset_id]))  # it may have either
    built = [base / name for base in bases for name in names if (base / name / "feature_map.json").is_file()]
    if not built:
        raise missing("built data set", bases[0] / dataset_id)
    return built[0].name, {**dataset, "data_root": str(built[0].parent)}


def _check_types(dataset: dict[str, Any], where: str) -> None:
    """Refuse settings of a data set whose paths or columns have the wrong type."""
    for key in ("data_root", "data_format", *DATA_KEYS):
        if not isinstance(dataset.get(key) or "", str):
            raise UsageError(f"{key} of {where} must be text, got {dataset[key]!r}")
    columns = dataset.get("feature_cols") or []
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise UsageError(f"feature_cols of {where} must be a list of columns, got {str(columns)[:80]}")
    if not all(isinstance(column.get("pretrained_emb", ""), str) for column in columns):
        raise UsageError(f"pretrained_emb of a column of {where} must be a path")


def _list_candidates(data_root: str, path: str, stated_root: str) -> list[Path]:
    """Return where a file may be in the user's data root: at its path below the stated root, or by its name."""
    root, name, relative = Path(data_root).resolve(), Path(path), os.path.relpath(path, stated_root)
    by_name = [root / name.parent.name / name.name, root / name.name]
    return by_name if relative.startswith("..") else [root / relative, *by_name]
