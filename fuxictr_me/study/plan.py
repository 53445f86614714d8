"""The runs of a study: FuxiCTR's autotuner makes their configs and expids, and ``study.json`` keeps the list."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from fuxictr.autotuner import enumerate_params
from tqdm import tqdm

from fuxictr_me.config import check_dataset, is_built, read_entries
from fuxictr_me.data import feature_maps
from fuxictr_me.data.digests import settings_digest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.study.plan_file import PLAN, Plan, Run, read_plan, write_plan
from fuxictr_me.study.study_data import adopt_built_set
from fuxictr_me.zoo.model_source import find_environment_variables

PARTS = ("config", "tuner")
SCRIPT = '''"""python run_expid.py --config tuner/CELL --expid EXPID --gpu -1, as FuxiCTR's autotuner calls it."""

from fuxictr_me.commands.main import run_entry

if __name__ == "__main__":
    run_entry(__file__)
'''


def make_plan(study, folder: str | Path, data: dict | None = None) -> Plan:
    """Lay a study out in FuxiCTR's form, and list its runs.

    ``config/`` gets an entry a cell; ``tuner/<cell>.yaml`` names what varies in it, as FuxiCTR's autotuner reads it,
    and ``tuner/<cell>/`` is what the autotuner makes of that. Paths become relative to the folder, from where runs
    start. FuxiCTR's ``run_param_tuner.py --config tuner/<cell>`` then runs them too. All is made and checked beside
    the folder, and then put into it, ``study.json`` first: killed in between, the same command lays out the rest.

    Args:
        study (Study)
        folder: of the study.
        data: of the plan that the folder holds, see ``Plan``.

    Raises:
        UsageError: settings that cannot be, of any run.
    """
    folder = Path(folder)
    dataset = moved_dataset(study, folder)
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    _clear_killed_planning(parent, folder.resolve().name)
    with tempfile.TemporaryDirectory(prefix=f".planning-{folder.resolve().name}-", dir=parent) as beside:
        with change_directory(beside):
            first = study.cells[0].settings
            adopted, line = adopt_built_set(dataset, {**first, **dataset, "dataset_id": study.dataset_id})
            for part in PARTS:
                Path(part).mkdir()
            Path("run_expid.py").write_text(SCRIPT)
            _write("config/model_config.yaml", {cell.name: cell.settings for cell in study.cells})
            _write("config/dataset_config.yaml", {study.dataset_id: adopted})
            runs = [run for cell in study.cells for run in _enumerate(cell, study, adopted)]
            runs, data_folder = _check(runs, adopted)
        plan = Plan(
            study.name,
            study.dataset_id,
            study.seeds,
            data_folder,
            dataset,
            {cell.name: cell for cell in study.cells},
            tuple(runs),
            _environment(study, folder),
            data or {},
        )
        _put_in_place(plan, Path(beside), folder)
    if line:
        tqdm.write(line, file=sys.stderr)
    return plan


def _clear_killed_planning(parent: Path, name: str) -> None:
    """Remove what an earlier command left that was killed while it laid out this study."""
    for path in parent.glob(".planning-*"):
        is_ours = re.fullmatch(rf"\.planning-{re.escape(name)}-[a-z0-9_]{{8}}", path.name) and not path.is_symlink()
        if is_ours and {part.name for part in path.iterdir()} <= {*PARTS, "run_expid.py", PLAN}:
            shutil.rmtree(path)


def _environment(study, folder: Path) -> dict:
    """Return what runs need to find the models that this process has found: variable -> folders."""
    environment = {}
    for model in dict.fromkeys(cell.settings["model"] for cell in study.cells):
        for variable, place in find_environment_variables(model).items():
            places = environment.setdefault(variable, [])
            if (relative := os.path.relpath(place, folder)) not in places:
                places.append(relative)
    return environment


def _put_in_place(plan: Plan, beside: Path, folder: Path) -> None:
    """Put what was laid out into the folder; only files of the earlier plan are replaced or removed."""
    old = read_plan(folder).cells if (folder / PLAN).is_file() else {}
    folder.mkdir(exist_ok=True)
    write_plan(plan, folder)
    for name in old.keys() - plan.cells.keys():
        for left in (f"{name}.yaml", f"{name}/model_config.yaml", f"{name}/dataset_config.yaml"):
            (folder / "tuner" / left).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / "tuner" / name).rmdir()
    for path in sorted(beside.rglob("*")):
        target = folder / path.relative_to(beside)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            path.replace(target)


def moved_dataset(study, folder: str | Path) -> dict:
    """The entry of a study's data set, its paths as seen from the study's folder.

    Raises:
        UsageError: files that are not there, settings that cannot be.
    """
    params = {**copy.deepcopy(study.dataset), "dataset_id": study.dataset_id}
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


def _check(runs: list[Run], dataset: dict) -> tuple[list[Run], str]:
    """Refuse what any run could not start with; the runs with their digests, and the folder of the built data."""
    checked = []
    for run in runs:
        try:
            params = load_settings(run.config, run.expid)
        except UsageError as error:
            raise UsageError(f"{run.cell}: {error}") from error
        checked.append(dataclasses.replace(run, settings_digest=settings_digest(params)))
    folder = f"{params['data_root']}/{params['dataset_id']}"
    if is_built(dataset):
        feature_maps.load(folder, params["dataset_id"], params)
    return checked, folder


def _write(path, content):
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))
