"""``study.json``: the list of a study's runs, written whole, and checked when it is read."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.study.design import Cell
from fuxictr_me.study.design_checks import MOST_SEED, check_title
from fuxictr_me.zoo.find_model import FUXICTR_SRC

PLAN = "study.json"
VARIABLES = (FUXICTR_SRC, FUXICTR_ME_PATH)  # the only ones that a plan may set


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        cell (str): name of its cell.
        expid (str): FuxiCTR's, ``<cell>_<number>_<md5>``.
        seed (int)
        values (dict): of the grid.
        settings (dict): all that FuxiCTR's model_config.yaml holds of it.
        settings_digest (str): of all settings with which it is to run; empty in a plan of an older version.
    """

    cell: str
    expid: str
    seed: int
    values: dict
    settings: dict
    settings_digest: str = ""

    @property
    def config(self) -> str:
        """The config folder, seen from the study's."""
        return f"tuner/{self.cell}"


@dataclass(frozen=True)
class Plan:
    """What ``study.json`` holds.

    Attributes:
        name (str), dataset_id (str), seeds (tuple of int)
        data_folder (str): of the built data set, seen from the study's folder.
        dataset (dict): FuxiCTR's entry of the data set, paths as seen from the study's folder.
        cells (dict): name -> Cell.
        runs (tuple of Run): all of them; of a grid only the chosen ones are run with more than the first seed.
        environment (dict): variables that a run needs to find its model's class -> folders, as seen from the study's.
        data (dict): ``digest`` of the built data that results must have, and ``rows`` of each split; empty before the
            data are built.
    """

    name: str
    dataset_id: str
    seeds: tuple
    data_folder: str
    dataset: dict
    cells: dict
    runs: tuple
    environment: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)

    def of_cell(self, name: str, seed: int | None = None) -> list[Run]:
        """Return the runs of a cell, of one seed or of all."""
        return [run for run in self.runs if run.cell == name and seed in (None, run.seed)]


def write_plan(plan: Plan, folder: str | Path) -> None:
    """Write ``study.json``, whole."""
    text = json.dumps(asdict(plan), indent=1) + "\n"
    write_atomically(Path(folder) / PLAN, lambda path: path.write_text(text))


def read_plan(folder: str | Path) -> Plan:
    """Return the plan that a study's folder holds.

    Raises:
        UsageError: it is no study's folder, or ``study.json`` is not what was written; the line says where it is wrong.
    """
    path = Path(folder) / PLAN
    if not path.is_file():
        raise UsageError(f"{folder} is no study: there is no {PLAN} in it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_plan(content)
        cells = {name: Cell(**cell) for name, cell in content.pop("cells").items()}
        runs = tuple(Run(**run) for run in content.pop("runs"))
        return Plan(cells=cells, runs=runs, seeds=tuple(content.pop("seeds")), **content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise UsageError(f"{path} is not a study's plan ({told}): name another folder") from error


def _check_plan(content: object) -> None:
    """Raise ValueError, KeyError or TypeError where a part is missing or of another kind than ``write_plan`` writes."""
    _is("it", content, dict)
    _no_others("it", content, Plan)
    check_title(content["name"])
    check_plain_name("dataset_id", content["dataset_id"])
    _is("data_folder", content["data_folder"], str)
    _is("dataset", content["dataset"], dict)
    for key in ("data_root", "data_format", "train_data", "valid_data", "test_data"):
        _is(f"{key} of dataset", content["dataset"][key], str)
    for seed in _filled("seeds", content["seeds"], list):
        _is("a seed", seed, int)
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"a seed is {seed}")
    for name, cell in _filled("cells", content["cells"], dict).items():
        _check_cell(name, cell)
    for run in _filled("runs", content["runs"], list):
        _check_run(run, content)
    for name in content["cells"]:
        expected = len(content["seeds"]) * math.prod(len(v) for v in content["cells"][name]["grid"].values())
        if sum(run["cell"] == name for run in content["runs"]) != expected:
            raise ValueError(f"runs of {name} are not its seeds x its grid")
    for variable, places in _is("environment", content.get("environment", {}), dict).items():
        if variable not in VARIABLES:
            raise ValueError(f"environment sets {variable}, which is none of {' and '.join(VARIABLES)}")
        for place in _filled(f"{variable} of environment", places, list):
            _is(f"a folder of {variable}", place, str)
    if data := _is("data", content.get("data", {}), dict):
        _is("digest of data", data["digest"], str)
        for split, rows in _is("rows of data", data["rows"], dict).items():
            _is(f"rows of {split}", rows, int)


def _check_cell(name: str, cell: object) -> None:
    _is(f"cell {name}", cell, dict)
    _no_others(f"cell {name}", cell, Cell)
    check_plain_name("model of a cell", cell["model"])
    check_plain_name("kind of a cell", cell["kind"])
    _is(f"scale of {name}", cell["scale"], int)
    _check_settings(name, cell["settings"])
    for key, values in _is(f"grid of {name}", cell["grid"], dict).items():
        _filled(f"{key} in the grid of {name}", values, list)
    if check_plain_name("a cell", name) != Cell(**cell).name:
        raise ValueError(f"cell {name} is called {Cell(**cell).name} by what it holds")


def _check_run(run: object, content: dict) -> None:
    _is("a run", run, dict)
    _no_others("a run", run, Run)
    check_plain_name("expid of a run", run["expid"])
    if run["cell"] not in content["cells"]:
        raise ValueError(f"run {run['expid']} is of a cell {run['cell']!r}, which is not there")
    if run["seed"] not in content["seeds"]:
        raise ValueError(f"run {run['expid']} has a seed {run['seed']!r} that is none of seeds")
    if _is("values of a run", run["values"], dict).keys() != content["cells"][run["cell"]]["grid"].keys():
        raise ValueError(f"run {run['expid']} has other values than its cell's grid")
    _check_settings(run["expid"], run["settings"])
    _is("settings_digest of a run", run.get("settings_digest", ""), str)


def _check_settings(name: str, settings: object) -> None:
    _is(f"settings of {name}", settings, dict)
    _is(f"model of {name}", settings["model"], str)
    check_plain_name(f"dataset_id of {name}", settings["dataset_id"])
    if settings.get("model_root") != "./checkpoints/":
        raise ValueError(f"model_root of {name} is {settings.get('model_root')!r}, not ./checkpoints/")
    _is(f"num_sets of {name}", settings["num_sets"], int)
    if settings.get("monitor_mode", "max") not in ("max", "min"):
        raise ValueError(f"monitor_mode of {name} is {settings['monitor_mode']!r}")
    monitor = settings.get("monitor", "AUC")
    weights = monitor.values() if isinstance(monitor, dict) else [1] if isinstance(monitor, str) else [None]
    if not all(isinstance(weight, int | float) for weight in weights):
        raise ValueError(f"monitor of {name} is {monitor!r}")


def _is(what: str, value: object, kind: type) -> object:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what} is {str(value)[:80]!r}, a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _filled(what: str, value: object, kind: type) -> object:
    if not _is(what, value, kind):
        raise ValueError(f"{what} is empty")
    return value


def _no_others(what: str, content: dict, of: type) -> None:
    if others := content.keys() - of.__dataclass_fields__.keys():
        raise ValueError(f"{what} has {', '.join(sorted(map(str, others)))}, which is unknown")
