"""The finished runs of an entry: one model, one data set, and settings that differ in the seed only."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fuxictr.utils import load_model_config

from fuxictr_me.bars import SEEDS
from fuxictr_me.config import read_entries, read_params
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.runs.read_result import read_result

METRICS = ("AUC", "logloss")  # shown in BARS' leaderboard
NOT_COMPARED = {"feature_cols", "label_col", "train_data", "valid_data", "test_data", "gpu"}  # run_expid changes these
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ P\d+ ", re.MULTILINE)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its config and its files.

    Attributes:
        expid: experiment id.
        model: its entry of ``model_config.yaml``, ``Base`` included.
        dataset: its entry of ``dataset_config.yaml``. FuxiCTR's autotuner may leave a ``dataset_id`` in it, which then
            is the one that counts.
        result: content of ``<expid>.json``.
        log: text of ``<expid>.log``.
        folder: the one in which it was started; ``model_root`` is relative to it.
    """

    expid: str
    model: dict[str, Any]
    dataset: dict[str, Any]
    result: dict[str, Any]
    log: str
    folder: Path

    @property
    def seed(self) -> int:
        """Seed of the run; ``run_expid`` uses 2024 if the config has none."""
        return self.model.get("seed", 2024)

    @property
    def gpu(self) -> int:
        """CUDA device, -1 for the CPU."""
        return self.result["settings"].get("gpu", -1)

    @property
    def source(self) -> dict[str, Any] | None:
        """Source of the model's class, as ``describe_source`` records it; None for fuxictr-me's models."""
        return self.result.get("model_source")

    @property
    def ended(self) -> str:
        """Time of the log's last line, e.g. ``20260930-101500``."""
        return datetime.fromisoformat(STAMP.findall(self.log)[-1]).strftime("%Y%m%d-%H%M%S")


def read_runs(expids: list[str], config: str, allow_fewer: bool = False) -> list[FinishedRun]:
    """Return finished runs in the order of BARS' seeds, those with other seeds last.

    Args:
        expids: experiment ids.
        config: config folder.
        allow_fewer: whether to accept other seeds than all of BARS'.

    Raises:
        UsageError: a run has not finished, its config has changed since, or it differs from the others in more than
            the seed; or the seeds are not BARS'.
    """
    runs = [read_run(expid, config) for expid in dict.fromkeys(expids)]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    _check_seeds([run.seed for run in runs], allow_fewer)
    return sorted(runs, key=lambda run: SEEDS.index(run.seed) if run.seed in SEEDS else len(SEEDS))


def read_run(expid: str, config: str) -> FinishedRun:
    """Return a finished run, found from the working directory or from a parent of the config folder.

    Raises:
        UsageError: see ``read_runs``.
    """
    params = read_params(config, expid)
    name = Path(params.get("model_root") or "./checkpoints/") / params["dataset_id"] / f"{expid}.json"
    folder = next((path for path in (Path(), *Path(config).resolve().parents) if (path / name).is_file()), None)
    if folder is None:
        raise missing(f"result of a finished run {expid}", name)
    path = folder / name
    if not path.with_suffix(".log").is_file():
        raise missing(f"log of run {expid}", path.with_suffix(".log"))
    result = read_result(path)
    if result is None:
        raise UsageError(f"{path} is not the result of a run: it has no settings")
    if not _is_source(result.get("model_source")):
        raise UsageError(f"{path} is not the result of a run: model_source is {str(result['model_source'])[:80]!r}")
    if lacking := sorted({"fuxictr_me", "fuxictr", "torch", "python"} - result["versions"].keys()):
        raise UsageError(f"{path} is not the result of a run: versions have no {', '.join(lacking)}")
    _check_settings(expid, result["settings"], params)
    if lacking := [name for name in METRICS if name not in result["test"]]:
        raise UsageError(f"BARS shows AUC and logloss of the test split; {expid} has no {' and no '.join(lacking)}")
    model = load_model_config(config, expid)
    del model["model_id"]
    dataset = read_entries(Path(config), "dataset_config")[model["dataset_id"]]
    log = path.with_suffix(".log").read_text(errors="replace")
    if not STAMP.search(log):
        raise UsageError(f"{path.with_suffix('.log')} is not the log of a run")
    return FinishedRun(expid, model, dataset, result, log, folder)


def _check_settings(expid: str, ran: dict[str, Any], params: dict[str, Any]) -> None:
    """Refuse a run whose config has changed since."""
    for key, value in json.loads(json.dumps(params, default=str)).items():
        if key not in NOT_COMPARED and ran.get(key) != value:
            raise UsageError(
                f"{expid} ran with {key} {ran.get(key)!r}, but its config now says {value!r}: run it again"
            )


def _is_source(source: object) -> bool:
    """Whether ``source`` is what ``describe_source`` records: a dict, or None for fuxictr-me's models."""
    keys = ("class", "file", "md5", "origin")
    return source is None or (
        isinstance(source, dict)
        and all(isinstance(source.get(key), str) for key in keys)
        and isinstance(source.get("wrapped"), bool)
    )


def _check_alike(first: FinishedRun, other: FinishedRun) -> None:
    """Refuse runs that differ in settings other than the seed, in the model's code, or in versions."""
    settings = [{"model": None, "dataset_id": None, **run.model, **run.dataset} for run in (first, other)]
    for key in dict.fromkeys([*settings[0], *settings[1]]):
        values = [run_settings.get(key, "not set") for run_settings in settings]
        if key != "seed" and repr(values[0]) != repr(values[1]):
            raise _difference(key, first, values[0], other, values[1])
    if first.source != other.source:
        raise _difference("the model's code", first, first.source, other, other.source)
    for key, value in first.result["versions"].items():
        if other.result["versions"].get(key) != value:
            raise _difference(f"version of {key}", first, value, other, other.result["versions"].get(key))


def _difference(key: str, first: FinishedRun, value: object, other: FinishedRun, other_value: object) -> UsageError:
    return UsageError(
        f"the runs of an entry must differ in the seed only; {key} is {value!r} in {first.expid}, "
        f"{other_value!r} in {other.expid}"
    )


def _check_seeds(seeds: list[int], allow_fewer: bool) -> None:
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise UsageError(f"two runs have the seed {twice[0]}: an entry has one run per seed")
    if not allow_fewer and set(seeds) != set(SEEDS):
        raise UsageError(
            f"BARS' seeds are {', '.join(map(str, SEEDS))}; these runs have {', '.join(map(str, seeds))} "
            "(--allow-fewer accepts them, and the README of the entry then says so)"
        )
