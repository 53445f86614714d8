"""The runs of a study: FuxiCTR's autotuner makes their configs and expids, and ``study.json`` keeps the list."""

import contextlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml
from fuxictr.autotuner import enumerate_params

from fuxictr_me.config import check_dataset, is_built, load_settings, read_entries
from fuxictr_me.data import feature_maps
from fuxictr_me.errors import UsageError
from fuxictr_me.files import replace_whole, working_in
from fuxictr_me.model_source import variables_for
from fuxictr_me.study.design import Cell

PLAN = "study.json"
PARTS = ("config", "tuner")
SCRIPT = '''"""python run_expid.py --config tuner/CELL --expid EXPID --gpu -1, as FuxiCTR's autotuner calls it."""

from fuxictr_me.cli import run_entry

if __name__ == "__main__":
    run_entry(__file__)
'''


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        cell (str): name of its cell.
        expid (str): FuxiCTR's, ``<cell>_<number>_<md5>``.
        seed (int)
        values (dict): of the grid.
        settings (dict): all that FuxiCTR's model_config.yaml holds of it.
    """

    cell: str
    expid: str
    seed: int
    values: dict
    settings: dict

    @property
    def config(self):
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
    """

    name: str
    dataset_id: str
    seeds: tuple
    data_folder: str
    dataset: dict
    cells: dict
    runs: tuple
    environment: dict = field(default_factory=dict)

    def of_cell(self, name, seed=None):
        """The runs of a cell, of one seed or of all."""
        return [run for run in self.runs if run.cell == name and seed in (None, run.seed)]


def make_plan(study, folder):
    """Lay a study out in FuxiCTR's form, and list its runs.

    ``config/`` gets an entry a cell; ``tuner/<cell>.yaml`` names what varies in it, as FuxiCTR's autotuner reads it,
    and ``tuner/<cell>/`` is what the autotuner makes of that. Paths become relative to the folder, from where runs
    start. FuxiCTR's ``run_param_tuner.py --config tuner/<cell>`` then runs them too. All is made and checked beside
    the folder, and then put into it.

    Args:
        study (Study)
        folder (Path): of the study.

    Returns:
        Plan

    Raises:
        UsageError: settings that cannot be, of any run.
    """
    dataset = moved_dataset(study, folder)
    environment = {}
    for model in dict.fromkeys(cell.settings["model"] for cell in study.cells):
        for variable, place in variables_for(model).items():
            environment.setdefault(variable, []).append(os.path.relpath(place, folder))
    parent = Path(folder).resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".planning-", dir=parent) as beside:
        with working_in(beside):
            for part in PARTS:
                Path(part).mkdir()
            Path("run_expid.py").write_text(SCRIPT)
            _write("config/model_config.yaml", {cell.name: cell.settings for cell in study.cells})
            _write("config/dataset_config.yaml", {study.dataset_id: dataset})
            runs = [run for cell in study.cells for run in _enumerate(cell, study, dataset)]
            data_folder = _check(runs, dataset)
        Path(folder).mkdir(exist_ok=True)
        for part in PARTS:
            shutil.rmtree(Path(folder) / part, ignore_errors=True)
        for path in Path(beside).iterdir():
            path.replace(Path(folder) / path.name)
    return Plan(
        study.name,
        study.dataset_id,
        study.seeds,
        data_folder,
        dataset,
        {cell.name: cell for cell in study.cells},
        tuple(runs),
        environment,
    )


def write_plan(plan, folder):
    """Write ``study.json``, whole."""
    text = json.dumps(asdict(plan), indent=1) + "\n"
    replace_whole(Path(folder) / PLAN, lambda path: path.write_text(text))


def read_plan(folder):
    """The plan that a study's folder holds.

    Raises:
        UsageError: it is no study's folder, or ``study.json`` is not what was written.
    """
    path = Path(folder) / PLAN
    if not path.is_file():
        raise UsageError(f"{folder} is no study: there is no {PLAN} in it")
    try:
        content = json.loads(path.read_text())
        cells = {name: Cell(**cell) for name, cell in content.pop("cells").items()}
        runs = tuple(Run(**run) for run in content.pop("runs"))
        return Plan(cells=cells, runs=runs, seeds=tuple(content.pop("seeds")), **content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a study's plan ({error}): name another folder") from error


def moved_dataset(study, folder):
    """The entry of a study's data set, its paths as seen from the study's folder.

    Raises:
        UsageError: files that are not there, settings that cannot be.
    """
    params = {**study.dataset, "dataset_id": study.dataset_id}
    check_dataset(params, study.source)
    if not params.get("test_data"):
        raise UsageError(f"test_data of data set {study.dataset_id!r} is not set: a study compares models on it")
    for key in ("train_data", "valid_data", "test_data", "data_root"):
        params[key] = os.path.relpath(params[key], folder)
    for column in params.get("feature_cols") or []:
        if "pretrained_emb" in column:
            column["pretrained_emb"] = os.path.relpath(column["pretrained_emb"], folder)
    del params["dataset_id"]
    return params


def _enumerate(cell, study, dataset):
    """The runs of a cell, as FuxiCTR's autotuner names them; from within the study's folder."""
    named = {"base_config": "./config/", "base_expid": cell.name, "dataset_id": study.dataset_id}
    space = {"seed": list(study.seeds), **cell.grid}
    path = Path(f"tuner/{cell.name}.yaml")

    def enumerate_with(entry):
        # the data set is given in full: where FuxiCTR reads it from base_config, it loses the id that it makes
        _write(path, {**named, "dataset_config": {study.dataset_id: entry}, "tuner_space": space})
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(enumerate_params(str(path)))

    if is_built(dataset):  # FuxiCTR keeps the id of a built set, but knows H5 ones no more
        folder = enumerate_with({**dataset, "data_format": "npz"})
        _write(path, {**named, "dataset_config": {study.dataset_id: dataset}, "tuner_space": space})
        _write(folder / "dataset_config.yaml", {study.dataset_id: dataset})
    else:
        folder = enumerate_with(dataset)
    for expid, settings in read_entries(folder, "model_config").items():
        values = {key: settings[key] for key in cell.grid}
        settings = json.loads(json.dumps(settings, default=str))  # as results have them
        yield Run(cell.name, expid, settings["seed"], values, settings)


def _check(runs, dataset):
    """Refuse what any run could not start with; the folder of the built data."""
    for run in runs:
        try:
            params = load_settings(run.config, run.expid)
        except UsageError as error:
            raise UsageError(f"{run.cell}: {error}") from error
    folder = f"{params['data_root']}/{params['dataset_id']}"
    if is_built(dataset):
        feature_maps.load(folder, params["dataset_id"], params)
    return folder


def _write(path, content):
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))
