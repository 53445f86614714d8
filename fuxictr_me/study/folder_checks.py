"""Check the folder of a study before its files are used, because it may come from somebody else."""

import json
import os
from pathlib import Path

from fuxictr_me.config import read_entries
from fuxictr_me.errors import UsageError
from fuxictr_me.study.plan_file import PLAN, Plan
from fuxictr_me.zoo.find_model import MODEL_NAMES

WRITTEN = ("config", "tuner", "running", "logs", "failed", "checkpoints", "report", "run_expid.py", PLAN)


def check_folder(folder: Path) -> None:
    """Refuse a file, and symbolic links among what a study writes: they could redirect its writing elsewhere.

    Raises:
        UsageError: names the file or the link.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not the folder of a study: choose a folder with --out")
    for part in (folder / name for name in WRITTEN):
        links = [part] if part.is_symlink() else []
        for place, folders, files in [] if links else os.walk(part):
            links += [path for path in (Path(place, name) for name in (*folders, *files)) if path.is_symlink()]
        if links:
            raise UsageError(
                f"{links[0]} is a symbolic link, which a study does not follow: to use another disk, choose a folder "
                "there with --out"
            )


def check_code(plan: Plan, folder: Path) -> None:
    """Refuse to run code that the folder of a study names and the user has not named.

    Args:
        plan: that the folder has.
        folder: as the user named it.

    Raises:
        UsageError: names the code, and says how to allow it.
    """
    allowed = {name: _folders_of(name) for name in plan.environment}
    for variable, places in plan.environment.items():
        for place in ((folder / place).resolve() for place in places):
            if place not in allowed[variable]:
                raise UsageError(
                    f"{folder / PLAN} runs code that lies in {place}: if you trust it, name it: "
                    f"{variable}={place} fuxictr-me study {folder}; or name the study's YAML file"
                )
    for module in _find_modules(plan):
        for place in (folder, folder / "tuner"):
            beside = [path for path in (place / f"{module}.py", place / module) if path.exists()]
            if beside and place.resolve() not in _folders_of("FUXICTR_ME_PATH"):
                raise UsageError(
                    f"{folder / PLAN} would run {beside[0]}: if you trust it, name its folder: "
                    f"FUXICTR_ME_PATH={place.resolve()} fuxictr-me study {folder}"
                )


def check_layout(plan: Plan, folder: Path) -> None:
    """Refuse a folder whose ``tuner/`` has other settings than its ``study.json``.

    Raises:
        UsageError: names the file.
    """
    for name in plan.cells:
        config = folder / "tuner" / name
        entries = read_entries(config, "model_config")
        for run in plan.runs_of_cell(name):
            if json.loads(json.dumps(entries.get(run.expid), default=str)) != run.settings:
                raise UsageError(
                    f"{config}/model_config.yaml has other settings of {run.expid} than {folder / PLAN}: "
                    "run the study's YAML file to lay it out again"
                )


def _folders_of(variable: str) -> set[Path]:
    return {Path(path).resolve() for path in os.environ.get(variable, "").split(os.pathsep) if path}


def _find_modules(plan: Plan) -> set[str]:
    """Return the top-level modules of the classes of models and callbacks in a plan."""
    names: set[str] = set()
    all_settings = [cell.settings for cell in plan.cells.values()] + [run.settings for run in plan.runs]
    for settings in all_settings:
        if settings["model"] not in MODEL_NAMES:
            names.add(settings["model"].partition(":")[0] if ":" in settings["model"] else "model_zoo")
        callbacks = settings.get("callbacks") or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            name = next(iter(callback), "") if isinstance(callback, dict) else callback
            names |= {name} if isinstance(name, str) and "." in name else set()
    return {name.partition(".")[0] for name in names if name}
