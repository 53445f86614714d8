"""``study.json``, the list of a study's runs: written atomically, and checked when it is read."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.study.design import Cell
from fuxictr_me.study.design_parts import MOST_SEED, check_title
from fuxictr_me.zoo.find_model import FUXICTR_SRC

PLAN = "study.json"
VARIABLES = (FUXICTR_SRC, FUXICTR_ME_PATH)  # the only ones that a plan may set


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        cell: name of its cell.
        expid: FuxiCTR's, ``<cell>_<number>_<md5>``.
        seed: of the run.
        values: setting of the grid -> value.
        settings: all that FuxiCTR's model_config.yaml has for it.
        settings_digest: of all settings of the run; empty in a plan of an older version.
    """

    cell: str
    expid: str
    seed: int
    values: dict
    settings: dict
    settings_digest: str = ""

    @property
    def config(self) -> str:
        """The config folder, relative to the study's folder."""
        return f"tuner/{self.cell}"


@dataclass(frozen=True)
class Plan:
    """The content of ``study.json``. All paths are relative to the study's folder.

    Attributes:
        name, dataset_id, seeds: of the study.
        data_folder: of the built data set.
        dataset: FuxiCTR's entry of the data set.
        cells: name -> cell.
        runs: all runs. Of a grid, only the chosen settings are run with more than ``tuning_seeds`` of the seeds.
        environment: variable that a run needs to find its model's class -> folders.
        data: ``digest`` of the built data that results must have, and ``rows`` of each split; empty before the data are
            built.
        tuning_seeds: number of seeds, the first ones, with which each value of a grid is tried; 1 in a plan of an older
            version.
    """

    name: str
    dataset_id: str
    seeds: tuple[int, ...]
    data_folder: str
    dataset: dict
    cells: dict[str, Cell]
    runs: tuple[Run, ...]
    environment: dict[str, list[str]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    tuning_seeds: int = 1

    def runs_of_cell(self, name: str, seed: int | None = None) -> list[Run]:
        """Return the runs of a cell, with one seed or with all."""
        return [run for run in self.runs if run.cell == name and seed in (None, run.seed)]

    def tuning_runs(self, cell: str) -> list[Run]:
        """Return the runs of a cell that try each value of its grid, seed by seed."""
        return [run for seed in self.seeds[: self.tuning_seeds] for run in self.runs_of_cell(cell, seed)]

    def count_runs(self, cell: str) -> int:
        """Return the number of runs of a cell: ``tuning_runs``, and the chosen values with the other seeds."""
        return len(self.tuning_runs(cell)) + len(self.seeds) - self.tuning_seeds


def write_plan(plan: Plan, folder: str | Path) -> None:
    """Write ``study.json`` atomically."""
    text = json.dumps(asdict(plan), indent=1) + "\n"
    write_atomically(Path(folder) / PLAN, lambda path: path.write_text(text))


def read_plan(folder: str | Path) -> Plan:
    """Read the plan in a study's folder.

    Raises:
        UsageError: the folder is not a study, or ``study.json`` is damaged; the message says where.
    """
    path = Path(folder) / PLAN
    if not path.is_file():
        raise UsageError(f"{folder} is not a study: it has no {PLAN}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_plan(content)
        cells = {name: Cell(**cell) for name, cell in content.pop("cells").items()}
        runs = tuple(Run(**run) for run in content.pop("runs"))
        return Plan(cells=cells, runs=runs, seeds=tuple(content.pop("seeds")), **content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise UsageError(f"{path} is not a study's plan ({problem}): name another folder") from error


def _check_plan(content: dict) -> None:
    """Raise ValueError, KeyError or TypeError if a part is missing or of another type than ``write_plan`` writes."""
    _require("it", content, dict)
    _refuse_unknown_keys("it", content, Plan)
    check_title(content["name"])
    check_plain_name("dataset_id", content["dataset_id"])
    _require("data_folder", content["data_folder"], str)
    _require("dataset", content["dataset"], dict)
    data_keys = [f"{split}_data" for split in SPLITS if not content["dataset"].get(f"{split}_size")]
    for key in ("data_root", "data_format", *data_keys):
        _require(f"{key} of dataset", content["dataset"][key], str)
    for seed in _require_filled("seeds", content["seeds"], list):
        _require("a seed", seed, int)
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"a seed is {seed}")
    number = _require("tuning_seeds", content.get("tuning_seeds", 1), int)
    if not 1 <= number <= len(content["seeds"]):
        raise ValueError(f"tuning_seeds is {number}")
    for name, cell in _require_filled("cells", content["cells"], dict).items():
        _check_cell(name, cell)
    for run in _require_filled("runs", content["runs"], list):
        _check_run(run, content)
    for name in content["cells"]:
        expected = len(content["seeds"]) * math.prod(len(v) for v in content["cells"][name]["grid"].values())
        if sum(run["cell"] == name for run in content["runs"]) != expected:
            raise ValueError(f"the runs of {name} are not its seeds x its grid")
    for variable, places in _require("environment", content.get("environment", {}), dict).items():
        if variable not in VARIABLES:
            raise ValueError(f"environment sets {variable}, but only {' and '.join(VARIABLES)} are allowed")
        for place in _require_filled(f"{variable} of environment", places, list):
            _require(f"a folder of {variable}", place, str)
    if data := _require("data", content.get("data", {}), dict):
        _require("digest of data", data["digest"], str)
        for split, rows in _require("rows of data", data["rows"], dict).items():
            _require(f"rows of {split}", rows, int)


def _check_cell(name: str, cell: dict) -> None:
    _require(f"cell {name}", cell, dict)
    _refuse_unknown_keys(f"cell {name}", cell, Cell)
    check_plain_name("model of a cell", cell["model"])
    check_plain_name("kind of a cell", cell["kind"])
    _require(f"scale of {name}", cell["scale"], int)
    _check_settings(name, cell["settings"])
    for key, values in _require(f"grid of {name}", cell["grid"], dict).items():
        _require_filled(f"{key} in the grid of {name}", values, list)
    if check_plain_name("a cell", name) != Cell(**cell).name:
        raise ValueError(f"cell {name} has the content of {Cell(**cell).name}")


def _check_run(run: dict, content: dict) -> None:
    _require("a run", run, dict)
    _refuse_unknown_keys("a run", run, Run)
    check_plain_name("expid of a run", run["expid"])
    if run["cell"] not in content["cells"]:
        raise ValueError(f"run {run['expid']} is of the unknown cell {run['cell']!r}")
    if run["seed"] not in content["seeds"]:
        raise ValueError(f"run {run['expid']} has the seed {run['seed']!r}, which is not in seeds")
    if _require("values of a run", run["values"], dict).keys() != content["cells"][run["cell"]]["grid"].keys():
        raise ValueError(f"run {run['expid']} has other values than its cell's grid")
    _check_settings(run["expid"], run["settings"])
    _require("settings_digest of a run", run.get("settings_digest", ""), str)


def _check_settings(name: str, settings: dict) -> None:
    _require(f"settings of {name}", settings, dict)
    _require(f"model of {name}", settings["model"], str)
    check_plain_name(f"dataset_id of {name}", settings["dataset_id"])
    if settings.get("model_root") != "./checkpoints/":
        raise ValueError(f"model_root of {name} is {settings.get('model_root')!r}, not ./checkpoints/")
    _require(f"num_sets of {name}", settings["num_sets"], int)
    if settings.get("monitor_mode", "max") not in ("max", "min"):
        raise ValueError(f"monitor_mode of {name} is {settings['monitor_mode']!r}")
    monitor = settings.get("monitor", "AUC")
    weights = monitor.values() if isinstance(monitor, dict) else [1] if isinstance(monitor, str) else [None]
    if not all(isinstance(weight, int | float) for weight in weights):
        raise ValueError(f"monitor of {name} is {monitor!r}")


def _require(what: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what} is {str(value)[:80]!r}, a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _require_filled(what: str, value: Any, kind: type) -> Any:
    if not _require(what, value, kind):
        raise ValueError(f"{what} is empty")
    return value


def _refuse_unknown_keys(what: str, content: dict, of: type) -> None:
    if unknown := content.keys() - {one.name for one in fields(of)}:
        raise ValueError(f"{what} has {', '.join(sorted(map(str, unknown)))}, which is unknown")
