"""The finished runs of an entry: one model, one data set, settings that differ by the seed alone."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fuxictr.utils import load_model_config

from fuxictr_me.bars import SEEDS
from fuxictr_me.config import read_entries, read_params
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.runs.result_files import read_result

METRICS = ("AUC", "logloss")  # that BARS' leaderboard shows
NOT_COMPARED = {"feature_cols", "label_col", "train_data", "valid_data", "test_data", "gpu"}  # run_expid changes these
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ P\d+ ", re.MULTILINE)


@dataclass(frozen=True)
class FinishedRun:
    """A run as config and files tell it.

    Attributes:
        expid (str)
        model (dict): its entry of ``model_config.yaml``, ``Base`` included.
        dataset (dict): its entry of ``dataset_config.yaml``. FuxiCTR's autotuner may leave a ``dataset_id`` in it,
            which then is the one that runs.
        result (dict): ``<expid>.json``.
        log (str)
        folder (Path): in which it ran, that is, from which ``model_root`` is seen.
    """

    expid: str
    model: dict
    dataset: dict
    result: dict
    log: str
    folder: Path

    @property
    def seed(self):
        """The one that ran; ``run_expid`` takes 2024 where the config has none."""
        return self.model.get("seed", 2024)

    @property
    def gpu(self):
        """CUDA device, -1 for the CPU."""
        return self.result["settings"].get("gpu", -1)

    @property
    def source(self):
        """Where the code of a model that is not ours came from, as ``source_of`` recorded it; None of ours."""
        return self.result.get("model_source")

    @property
    def ended(self):
        """When, as ``20260930-101500``, by the log's last line."""
        return datetime.fromisoformat(STAMP.findall(self.log)[-1]).strftime("%Y%m%d-%H%M%S")


def read_runs(expids, config, allow_fewer=False):
    """The finished runs, in the order of BARS' seeds, others after them.

    Args:
        expids (list of str)
        config (str): folder of the configs.
        allow_fewer (bool): whether other seeds than all of BARS' will do.

    Returns:
        list of FinishedRun

    Raises:
        UsageError: a run that has not finished, whose config has changed since, or that differs from the others by
            more than the seed; seeds that are not BARS'.
    """
    runs = [read_run(expid, config) for expid in dict.fromkeys(expids)]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    _check_seeds([run.seed for run in runs], allow_fewer)
    return sorted(runs, key=lambda run: SEEDS.index(run.seed) if run.seed in SEEDS else len(SEEDS))


def read_run(expid, config):
    """One finished run; its files are looked for from the working directory, then from around the config folder.

    Raises:
        UsageError: see ``read_runs``.
    """
    params = read_params(config, expid)
    place = Path(params.get("model_root") or "./checkpoints/") / params["dataset_id"]
    around = [Path(), *Path(config).resolve().parents]
    folder = next((path for path in around if (path / place / f"{expid}.json").is_file()), None)
    if folder is None:
        raise missing(f"result of a finished run {expid}", place / f"{expid}.json")
    path = folder / place / f"{expid}.json"
    if not path.with_suffix(".log").is_file():
        raise missing(f"log of run {expid}", path.with_suffix(".log"))
    result = read_result(path)
    if result is None:
        raise UsageError(f"{path} is not the result of a run: it has no settings")
    if not _is_source(result.get("model_source")):
        raise UsageError(f"{path} is not the result of a run: model_source is {str(result['model_source'])[:80]!r}")
    if lacking := sorted({"fuxictr_me", "fuxictr", "torch", "python"} - result["versions"].keys()):
        raise UsageError(f"{path} is not the result of a run: versions have no {', '.join(lacking)}")
    ran, tested = result["settings"], result["test"]
    for key, value in json.loads(json.dumps(params, default=str)).items():
        if key not in NOT_COMPARED and ran.get(key) != value:
            raise UsageError(
                f"{expid} ran with {key} {ran.get(key)!r}, its config says {value!r}: "
                "it was changed since, so run it again"
            )
    if lacking := [name for name in METRICS if name not in tested]:
        raise UsageError(f"BARS shows AUC and logloss of the test split; {expid} has no {' and no '.join(lacking)}")
    model = load_model_config(config, expid)
    del model["model_id"]
    dataset = read_entries(Path(config), "dataset_config")[model["dataset_id"]]
    log = path.with_suffix(".log").read_text(errors="replace")
    if not STAMP.search(log):
        raise UsageError(f"{path.with_suffix('.log')} is not the log of a run")
    return FinishedRun(expid, model, dataset, result, log, folder)


def _is_source(source: object) -> bool:
    """Whether this is what ``source_of`` records, which is None of our models."""
    keys = ("class", "file", "md5", "origin")
    return source is None or (
        isinstance(source, dict)
        and all(isinstance(source.get(key), str) for key in keys)
        and isinstance(source.get("wrapped"), bool)
    )


def _check_alike(first, other):
    settings = [{"model": None, "dataset_id": None, **run.model, **run.dataset} for run in (first, other)]
    for key in dict.fromkeys([*settings[0], *settings[1]]):
        values = [of.get(key, "not set") for of in settings]
        if key != "seed" and repr(values[0]) != repr(values[1]):
            raise _differs(key, first, values[0], other, values[1])
    if first.source != other.source:
        raise _differs("the model's code", first, first.source, other, other.source)
    for key, value in first.result["versions"].items():
        if other.result["versions"].get(key) != value:
            raise _differs(f"version of {key}", first, value, other, other.result["versions"].get(key))


def _differs(key, first, value, other, other_value):
    return UsageError(
        f"the runs of an entry differ by the seed alone; {key} is {value!r} in {first.expid}, "
        f"{other_value!r} in {other.expid}"
    )


def _check_seeds(seeds, allow_fewer):
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise UsageError(f"seed {twice[0]} is there twice: an entry has one run a seed")
    if not allow_fewer and set(seeds) != set(SEEDS):
        raise UsageError(
            f"BARS' seeds are {_listed(SEEDS)}; these runs have {_listed(seeds)} "
            "(--allow-fewer takes them, and the README says so)"
        )


def _listed(seeds):
    return ", ".join(map(str, seeds))
