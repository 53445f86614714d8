"""Lay out a study's folder: FuxiCTR's autotuner makes the configs and expids of its runs."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from fuxictr.autotuner import enumerate_params
from tqdm import tqdm

from fuxictr_me.config import check_dataset, is_built, read_entries
from fuxictr_me.config.splits import DATA_KEYS, get_split_names
from fuxictr_me.data import feature_maps
from fuxictr_me.data.digests import settings_digest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import temporary_folder
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.study.design import Cell, Study
from fuxictr_me.study.plan_file import PLAN, Plan, Run, read_plan, write_plan
from fuxictr_me.study.study_data import adopt_built_set
from fuxictr_me.zoo.model_source import find_environment_variables

PARTS = ("config", "tuner")
SCRIPT = '''"""python run_expid.py --config tuner/CELL --expid EXPID --gpu -1, as FuxiCTR's autotuner calls it."""

from fuxictr_me.commands.main import run_entry

if __name__ == "__main__":
    run_entry(__file__)
'''


def lay_out_study(study: Study, folder: str | Path, data: dict | None = None) -> Plan:
    """Write the configs of a study's runs in FuxiCTR's form, and return the plan that lists them.

    ``config/`` gets one entry per cell. ``tuner/<cell>.yaml`` names what varies in a cell, as FuxiCTR's autotuner reads
    it, and ``tuner/<cell>/`` is what the autotuner makes of that. Paths become relative to the study's folder, in which
    runs start. So FuxiCTR's ``run_param_tuner.py --config tuner/<cell>`` can run them, too. Everything is made and
    checked beside the folder, and then moved into it, ``study.json`` first: if the process is killed in between, the
    same command lays out the rest.

    Args:
        study: to lay out.
        folder: of the study.
        data: of the plan that the folder has, see ``Plan``.

    Raises:
        UsageError: wrong settings of any run.
    """
    folder = Path(folder)
    dataset = relocate_dataset(study, folder)
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    _remove_killed_planning(parent, folder.resolve().name)
    with temporary_folder(f".planning-{folder.resolve().name}-", parent, folder) as beside:
        with change_directory(beside):
            first = study.cells[0].settings
            adopted, note = adopt_built_set(dataset, {**first, **dataset, "dataset_id": study.dataset_id})
            for part in PARTS:
                Path(part).mkdir()
            Path("run_expid.py").write_text(SCRIPT)
            _write_yaml("config/model_config.yaml", {cell.name: cell.settings for cell in study.cells})
            _write_yaml("config/dataset_config.yaml", {study.dataset_id: adopted})
            cells = tqdm(study.cells, desc="planning", unit="cell", delay=1, leave=False, disable=None)
            runs = [run for cell in cells for run in _enumerate_runs(cell, study, adopted)]
            runs, data_folder = _check_runs(runs, adopted)
        plan = Plan(
            study.name,
            study.dataset_id,
            study.seeds,
            data_folder,
            dataset,
            {cell.name: cell for cell in study.cells},
            tuple(runs),
            _find_environment(study, folder),
            data or {},
            study.tuning_seeds,
        )
        _put_in_place(plan, Path(beside), folder)
    if note:
        tqdm.write(note, file=sys.stderr)
    return plan


def _remove_killed_planning(parent: Path, name: str) -> None:
    """Remove what a command left that was killed while it laid out this study."""
    for path in parent.glob(".planning-*"):
        is_ours = re.fullmatch(rf"\.planning-{re.escape(name)}-[a-z0-9_]{{8}}", path.name) and not path.is_symlink()
        if is_ours and {part.name for part in path.iterdir()} <= {*PARTS, "run_expid.py", PLAN}:
            shutil.rmtree(path)


def _find_environment(study: Study, folder: Path) -> dict[str, list[str]]:
    """Return variable -> folders in which runs find the classes of their models, as this process did."""
    environment: dict[str, list[str]] = {}
    for model in dict.fromkeys(cell.settings["model"] for cell in study.cells):
        for variable, place in find_environment_variables(model).items():
            places = environment.setdefault(variable, [])
            if (relative := os.path.relpath(place, folder)) not in places:
                places.append(relative)
    return environment


def _put_in_place(plan: Plan, beside: Path, folder: Path) -> None:
    """Move the new files into the folder; only files of the earlier plan are replaced or removed."""
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


def relocate_dataset(study: Study, folder: str | Path) -> dict:
    """Return the entry of a study's data set, with paths relative to the study's folder.

    Raises:
        UsageError: missing files, or wrong settings.
    """
    params = {**copy.deepcopy(study.dataset), "dataset_id": study.dataset_id}
    check_dataset(params, study.source)
    if "test" not in get_split_names(params):
        raise UsageError(f"test_data of data set {study.dataset_id!r} is not set: a study compares models on it")
    for key in (*DATA_KEYS, "data_root"):
        if params.get(key):
            params[key] = os.path.relpath(params[key], folder)
    for column in params.get("feature_cols") or []:
        if "pretrained_emb" in column:
            column["pretrained_emb"] = os.path.relpath(column["pretrained_emb"], folder)
    del params["dataset_id"]
    return params


def _enumerate_runs(cell: Cell, study: Study, dataset: dict) -> Iterator[Run]:
    """Yield the runs of a cell as FuxiCTR's autotuner names them; call it inside the study's folder."""
    named = {"base_config": "./config/", "base_expid": cell.name, "dataset_id": study.dataset_id}
    space = {"seed": list(study.seeds), **cell.grid}
    path = Path(f"tuner/{cell.name}.yaml")

    def enumerate_with(entry: dict) -> Path:
        # The data set is given in full, because FuxiCTR loses the id that it makes if it reads it from base_config.
        _write_yaml(path, {**named, "dataset_config": {study.dataset_id: entry}, "tuner_space": space})
        with contextlib.redirect_stdout(io.StringIO()):
            return Path(enumerate_params(str(path)))

    if is_built(dataset):  # FuxiCTR keeps the id of a built set, but does not know that H5 sets are built
        folder = enumerate_with({**dataset, "data_format": "npz"})
        _write_yaml(path, {**named, "dataset_config": {study.dataset_id: dataset}, "tuner_space": space})
        _write_yaml(folder / "dataset_config.yaml", {study.dataset_id: dataset})
    else:
        folder = enumerate_with(dataset)
    for expid, settings in read_entries(folder, "model_config").items():
        values = {key: settings[key] for key in cell.grid}
        settings = json.loads(json.dumps(settings, default=str))  # as in result files
        yield Run(cell.name, expid, settings["seed"], values, settings)


def _check_runs(runs: list[Run], dataset: dict) -> tuple[list[Run], str]:
    """Refuse settings with which a run could not start; return the runs with digests, and the folder of the data."""
    checked = []
    for run in tqdm(runs, desc="checking", unit="run", delay=1, leave=False, disable=None):
        try:
            params = load_settings(run.config, run.expid)
        except UsageError as error:
            raise UsageError(f"{run.cell}: {error}") from error
        checked.append(dataclasses.replace(run, settings_digest=settings_digest(params)))
    folder = f"{params['data_root']}/{params['dataset_id']}"
    if is_built(dataset):
        feature_maps.load(folder, params["dataset_id"], params)
    return checked, folder


def _write_yaml(path: str | Path, content: object) -> None:
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))
