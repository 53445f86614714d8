"""What a study is: models, kinds, scales, seeds and what is tuned, out of a YAML file or the command line."""

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr_me.bars import SEEDS as BARS_SEEDS
from fuxictr_me.config.columns import check_label_columns
from fuxictr_me.config.datasets import check_dataset_values
from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.training_settings import check_labels, check_model_settings
from fuxictr_me.errors import UsageError, check_positive_int, missing, unknown
from fuxictr_me.study.base_settings import find_dataset, start_of
from fuxictr_me.study.design_checks import (
    MOST_SEED,
    OF_RUNS,
    check_comparable,
    check_list,
    check_mapping,
    check_monitor,
    check_number_of_runs,
    check_own_settings,
    check_scales,
    check_title,
)
from fuxictr_me.study.foreign_models import check_names, check_read
from fuxictr_me.study.results import BASE, MULTI, SINGLE
from fuxictr_me.study.study_file import read_study_file
from fuxictr_me.training.callbacks import build as build_callbacks
from fuxictr_me.zoo.find_model import find_model, get_class_name

CONTROLS = {"ensemble": {"aggregation": "ensemble"}, "ME-SI": {"shared_interaction": True}}  # changes of ME
KEYS = ("name", "config", "dataset_id", "models", "kinds", "scales", "seeds", "settings", "grid")
EQUAL = {"metrics", "monitor", "monitor_mode", "early_stop_patience", "epochs", "batch_size", "eval_steps", "shuffle"}
EQUAL |= {"save_best_only", "reduce_lr_on_plateau", "dataset_id", "model", "seed", "task", "loss", "group_id"}
SIZE = {"num_sets", "embedding_dim"}


@dataclass(frozen=True)
class Cell:
    """One model of one kind and size.

    Attributes:
        model (str): name of the class; ``settings`` has it as ``find_model`` takes it.
        kind (str), scale (int): as ``CellResult`` has them.
        settings: of a run, FuxiCTR's; seed and grid hold their first values.
        grid: setting -> values to choose from.
    """

    model: str
    kind: str
    scale: int
    settings: dict
    grid: dict = field(default_factory=dict)

    @property
    def name(self):
        """FuxiCTR's base expid, e.g. ``DCNv2_ME_SE_4x``."""
        return f"{self.model}_{self.kind}" + ("" if self.kind == BASE else f"_{self.scale}x")


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name (str), dataset_id (str)
        dataset (dict): FuxiCTR's entry of the data set; paths as its config has them.
        source (Path): folder from which the paths are looked for, beside the working directory.
        seeds (tuple of int)
        cells (tuple of Cell): by model, base first.
    """

    name: str
    dataset_id: str
    dataset: dict
    source: Path
    seeds: tuple
    cells: tuple


def read_study(path, **given):
    """A study out of a YAML file, what is given on the command line put in its place.

    Args:
        path (str): of the YAML file, whose keys are ``KEYS``; None for none.
        **given: of ``KEYS``; None counts as not given.

    Returns:
        Study

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    content = {} if path is None else read_study_file(path)
    content |= {key: value for key, value in given.items() if value is not None}
    for key in content:
        if key not in KEYS:
            raise unknown("setting of a study", key, KEYS)
    for key in ("dataset_id", "models"):
        if not content.get(key):
            raise UsageError(f"a study needs {key}")
    config = content.get("config")
    if config is not None and not isinstance(config, str | Path):
        raise UsageError(f"config of a study must be the path of a folder, got {config!r}")
    if config is not None and path is not None and not Path(config).is_dir():
        config = Path(path).parent / config  # as seen from the study's file
    name = content.pop("name", Path(path).stem if path else "study")
    return design(name=name, **content | {"config": config})


def design(
    name: str,
    dataset_id: str,
    models: list | dict,
    config: str | Path | None = None,
    kinds: list | tuple = (SINGLE, MULTI),
    scales: list | tuple = (1, 2, 4, 10),
    seeds: int | list = 5,
    settings: dict | None = None,
    grid: dict | None = None,
) -> Study:
    """Return a study of the given parts; all of it is checked, and nothing is written.

    Args:
        name: of one line.
        dataset_id: an entry of ``config``'s dataset_config.yaml, or of the bundled data-set configs.
        models: names as ``find_model`` takes them, e.g. ``DCNv2_ME``; with own settings as name -> dict,
            whose ``expid`` names the entry to start from (default: ``<class>_default``, of ``config`` or of the zoo).
        config: folder of configs.
        kinds: of SE, ME, the controls ensemble and ME-SI, and of own ones as {name: {setting: value}}, each a
            change of ME. A setting ``like: SE`` makes it a change of SE.
        scales: k; 1 is the base, which all kinds share and every study has.
        seeds: how many of BARS' five, or which.
        settings: of every run.
        grid: setting -> values, tuned for each cell by itself; or kind -> {setting: values}, the same settings
            in each.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    check_title(name)
    check_plain_name("dataset_id", dataset_id)
    folder = None if config is None else Path(config)
    if folder is not None and not folder.is_dir():
        raise missing("config folder", folder)
    dataset, source = find_dataset(dataset_id, folder)
    kinds = _kinds(kinds, dataset)
    scales = check_scales(scales)
    seeds = _seeds(seeds)
    settings = check_own_settings("settings", {} if settings is None else settings, dataset, SIZE)
    own = _models(models)
    grids = _grids({} if grid is None else grid, kinds, dataset)
    check_names(own)
    cells = []
    for model, extra in own.items():
        extra = check_own_settings(f"model {model}", {} if extra is None else extra, dataset, ("num_sets",))
        start = start_of(model, extra, folder) | settings
        check_read(model, start, kinds, grids)
        cells += _cells_of(model, start, kinds, scales, seeds[0], grids, dataset_id)
    check_number_of_runs(len(seeds), [cell.grid for cell in cells])
    check_comparable(cells)
    for cell in cells:
        _check_cell(cell, dataset)
        check_monitor(cell.settings, f"{cell.name}: ")
    return Study(name, dataset_id, dataset, source, seeds, tuple(cells))


def _cells_of(model: str, start: dict, kinds: dict, scales: list, seed: int, grids: dict, dataset_id: str) -> list:
    """Return the cells of one model: the base, then each kind at each scale above 1."""
    dim, cells = start.get("embedding_dim", 10), []
    if not isinstance(dim, int):
        raise UsageError(f"embedding_dim of {model} must be one number to scale it, got {dim!r}")
    check_positive_int(f"embedding_dim of {model}", dim)
    for kind, scale in [(BASE, 1), *((kind, scale) for kind in kinds for scale in scales if scale > 1)]:
        changes = dict(kinds.get(kind, {}))
        wide = changes.pop("like", MULTI) == SINGLE or kind == BASE
        size = {"num_sets": 1 if wide else scale, "embedding_dim": dim * scale if wide else dim}
        if wide and start.get("task_sets"):
            size["task_sets"] = False
        tuned = grids[SINGLE if kind == BASE else kind]
        first = {key: values[0] for key, values in tuned.items()}
        # FuxiCTR numbers runs by the product of what varies, the first key slowest: seeds can be added to
        named = {"seed": seed, "model": model, "dataset_id": dataset_id}
        merged = {"seed": seed, **start, **size, **changes, **first} | named
        cells.append(Cell(get_class_name(model), kind, scale, merged, tuned))
    return cells


def _check_cell(cell: Cell, dataset: dict) -> None:
    """Refuse settings that any run of a cell could not start with."""
    model_class = find_model(cell.settings["model"])
    try:
        for values in itertools.product(*cell.grid.values()):
            settings = {**dataset, **cell.settings, **dict(zip(cell.grid, values, strict=True))}
            check_model_settings(model_class, settings)
            if cell.grid.keys() & set(OF_RUNS):
                check_dataset_values(settings)
        check_dataset_values({**dataset, **cell.settings})
        build_callbacks(cell.settings.get("callbacks"))
        if dataset.get("label_col"):
            check_labels(
                model_class, settings, [column["name"] for column in check_label_columns(dataset["label_col"])]
            )
    except UsageError as error:
        raise UsageError(f"{cell.name}: {error}") from error


def _models(models: list | dict) -> dict:
    """Return model -> its own settings, or None."""
    listed = models if isinstance(models, dict) else check_list("models", models)
    for name in listed:
        if not isinstance(name, str) or not name:
            raise UsageError(f"models must be names such as DCNv2_ME, or names with settings, got {name!r}")
    return models if isinstance(models, dict) else dict.fromkeys(listed)


def _seeds(seeds):
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if not 1 <= seeds <= len(BARS_SEEDS):
            raise UsageError(f"seeds: {seeds} is not 1 to {len(BARS_SEEDS)} (BARS' own); give a list for others")
        return BARS_SEEDS[:seeds]
    listed = check_list("seeds", seeds)
    for seed in listed:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
            raise UsageError(f"a seed must be an integer of 0 to {MOST_SEED}, got {seed!r}")
    return tuple(listed)


def _kinds(kinds: list, dataset: dict) -> dict:
    """name -> its changes of settings."""
    known = {SINGLE: {"like": SINGLE}, MULTI: {}, **CONTROLS}
    found = {}
    for kind in check_list("kinds", kinds):
        if isinstance(kind, dict) and kind:
            for name, changes in kind.items():
                free = isinstance(name, str) and name not in (*known, BASE, *found)
                new = free and re.fullmatch(r"\w[\w.+-]{0,99}", name)  # it names files
                if not new or not isinstance(changes, dict):
                    raise UsageError(
                        f"an own kind is a new name, without blanks, with settings, got {name}: {changes!r}"
                    )
                if held := EQUAL & changes.keys():
                    raise UsageError(f"{', '.join(sorted(held))} must be equal for all kinds; kind {name!r} changes it")
                if changes.get("like", MULTI) not in (SINGLE, MULTI):
                    raise unknown(f"kind that {name!r} is like", changes["like"], (SINGLE, MULTI))
                check_own_settings(f"kind {name!r}", changes, dataset)
                found[name] = changes
        elif isinstance(kind, str) and kind in known:
            found[kind] = known[kind]
        else:
            raise unknown("kind", kind, known)
    return found


def _grids(grid: dict, kinds: dict, dataset: dict) -> dict:
    """Return kind -> setting -> values; what is tuned for one is tuned for all."""
    check_mapping("grid", grid)
    by_kind = grid if grid and set(grid) <= {*kinds, SINGLE, MULTI} else dict.fromkeys({*kinds, SINGLE, MULTI}, grid)
    if by_kind is grid and not {SINGLE, MULTI} <= set(grid):
        raise UsageError(f"a grid for each kind needs SE and ME, got {', '.join(grid)}: both are tuned or none")
    found = {kind: by_kind.get(kind, by_kind[MULTI]) for kind in {*kinds, SINGLE, MULTI}}
    for kind, settings in found.items():
        check_mapping(f"the grid of {kind}", settings)
        if held := (EQUAL | SIZE) & settings.keys():
            raise UsageError(f"{', '.join(sorted(held))} cannot be tuned: it must be equal for all kinds")
        if other := settings.keys() ^ found[SINGLE].keys():
            raise UsageError(f"{', '.join(sorted(other))} is tuned for one of SE and {kind} alone: tune it for both")
        for key, values in settings.items():
            check_list(f"{key} in the grid", values)
        check_own_settings(f"the grid of {kind}", settings, dataset)
    return found
