"""Design a study: its cells, each a model of one kind and size with its settings and the grid to tune."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuxictr_me.config.columns import check_label_columns
from fuxictr_me.config.datasets import check_dataset_values
from fuxictr_me.config.lookup import find_dataset, has_entries
from fuxictr_me.config.names import check_plain_name
from fuxictr_me.config.training_settings import check_labels, check_model_settings
from fuxictr_me.errors import UsageError, check_positive_int, missing
from fuxictr_me.study.base_settings import load_base_settings
from fuxictr_me.study.default_kinds import DEFAULT_KINDS, leave_out_ensemble
from fuxictr_me.study.design_checks import check_comparable, check_monitor, check_number_of_runs
from fuxictr_me.study.design_parts import (
    DATASET_KEYS_OF_RUNS,
    SIZE,
    check_own_settings,
    check_title,
    check_tuning_seeds,
    read_grids,
    read_kinds,
    read_models,
    read_scales,
    read_seeds,
)
from fuxictr_me.study.foreign_models import check_settings_are_read, check_unique_names
from fuxictr_me.study.results import BASE, MULTI, SINGLE
from fuxictr_me.training.callbacks import build as build_callbacks
from fuxictr_me.zoo.find_model import find_model, get_class_name


@dataclass(frozen=True)
class Cell:
    """One model of one kind and size.

    Attributes:
        model: name of the class; ``settings`` has it as ``find_model`` takes it.
        kind, scale: as in ``CellResult``.
        settings: of a run, in FuxiCTR's form; seed and grid have their first values.
        grid: setting -> values to choose from.
    """

    model: str
    kind: str
    scale: int
    settings: dict
    grid: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """FuxiCTR's base expid, e.g. ``DCNv2_ME_SE_4x``."""
        return f"{self.model}_{self.kind}" + ("" if self.kind == BASE else f"_{self.scale}x")


@dataclass(frozen=True)
class Study:
    """A designed study.

    Attributes:
        name, dataset_id: of the study.
        dataset: FuxiCTR's entry of the data set, with paths as in its config.
        source: folder beside which the paths are also searched.
        seeds: of the runs.
        cells: by model, base first.
        notes: sentences about controls that a model cannot have.
        tuning_seeds: number of seeds, the first ones, with which each value of a grid is tried.
    """

    name: str
    dataset_id: str
    dataset: dict
    source: Path
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    tuning_seeds: int = 1


def design_study(
    name: str,
    dataset_id: str,
    models: list | dict,
    config: str | Path | None = None,
    kinds: list | tuple | None = None,
    scales: list | tuple = (1, 2, 4, 10),
    seeds: int | list = 5,
    settings: dict | None = None,
    grid: dict | None = None,
    tuning_seeds: int = 1,
) -> Study:
    """Return a study after checking all of it. Nothing is written.

    Args:
        name: one line of text.
        dataset_id: an entry of ``config``'s dataset_config.yaml, or of the bundled data-set configs.
        models: names as ``find_model`` takes them, e.g. ``DCNv2_ME``; or name -> settings, whose ``expid`` names the
            entry to start from (default: ``<class>_default``, in ``config`` or in the zoo).
        config: folder of configs.
        kinds: of SE, ME and the controls ensemble, ME-linear and ME-SI; and {name: {setting: value}}, a kind that
            changes settings of ME, or of SE with ``like: SE``. None stands for SE, ME and ensemble; a model that cannot
            be an ensemble then goes without it, which ``Study.notes`` says.
        scales: k. Every study has 1, the base, which all kinds share.
        seeds: a number of BARS' five seeds, or a list.
        settings: of every run.
        grid: setting -> values, tuned for each cell separately; or kind -> {setting: values}, with the same settings
            for each kind.
        tuning_seeds: number of seeds, the first of ``seeds``, with which each value of a grid is tried; the value with
            the best mean is chosen.

    Raises:
        UsageError: one line that says what is wrong, what was found and what is allowed.
    """
    check_title(name)
    check_plain_name("dataset_id", dataset_id)
    folder = None if config is None else Path(config)
    if folder is not None and not folder.is_dir():
        raise missing("config folder", folder)
    dataset, source = find_dataset(dataset_id, folder if has_entries(folder, "dataset_config") else None)
    changes = read_kinds(DEFAULT_KINDS if kinds is None else kinds, dataset)
    all_scales, all_seeds = read_scales(scales), read_seeds(seeds)
    check_tuning_seeds(tuning_seeds, all_seeds)
    settings = check_own_settings("settings", {} if settings is None else settings, dataset, SIZE)
    own_settings = read_models(models)
    grids = read_grids({} if grid is None else grid, changes, dataset)
    check_unique_names(own_settings)
    cells: list[Cell] = []
    notes: list[str | None] = []
    for model, own in own_settings.items():
        own = check_own_settings(f"model {model}", {} if own is None else own, dataset, ("num_sets",))
        base = load_base_settings(model, own, folder) | settings
        of_model, note = leave_out_ensemble(model, base, changes) if kinds is None else (changes, None)
        notes.append(note)
        check_settings_are_read(model, base, of_model, grids)
        # FuxiCTR numbers runs by the product of what varies, the first key slowest: with seed first, seeds can be added
        base = {"seed": None, **base} | {"seed": all_seeds[0], "model": model, "dataset_id": dataset_id}
        cells += _make_cells(model, base, of_model, all_scales, grids)
    _check_cells(cells, len(all_seeds), dataset)
    return Study(name, dataset_id, dataset, source, all_seeds, tuple(cells), tuple(filter(None, notes)), tuning_seeds)


def _make_cells(
    model: str, base: dict, kinds: Mapping[str, dict], scales: list[int], grids: dict[str, dict]
) -> list[Cell]:
    """Return the cells of one model: the base, then each kind at each scale above 1."""
    dim, cells = base.get("embedding_dim", 10), []
    if not isinstance(dim, int):
        raise UsageError(f"embedding_dim of {model} must be one number to scale it, got {dim!r}")
    check_positive_int(f"embedding_dim of {model}", dim)
    for kind, scale in [(BASE, 1), *((kind, scale) for kind in kinds for scale in scales if scale > 1)]:
        changes = dict(kinds.get(kind, {}))
        is_single = changes.pop("like", MULTI) == SINGLE or kind == BASE
        size = {"num_sets": 1 if is_single else scale, "embedding_dim": dim * scale if is_single else dim}
        if is_single and base.get("task_sets"):
            size["task_sets"] = False
        grid = grids[SINGLE if kind == BASE else kind]
        first = {key: values[0] for key, values in grid.items()}
        fixed = {key: base[key] for key in ("seed", "model", "dataset_id")}
        cells.append(Cell(get_class_name(model), kind, scale, {**base, **size, **changes, **first, **fixed}, grid))
    return cells


def _check_cells(cells: Sequence[Cell], num_seeds: int, dataset: dict) -> None:
    """Refuse cells of which any run could not start, and those that cannot be compared."""
    check_number_of_runs(num_seeds, [cell.grid for cell in cells])
    check_comparable(cells)
    for cell in cells:
        _check_cell(cell, dataset)
        check_monitor(cell.settings, f"{cell.name}: ")


def _check_cell(cell: Cell, dataset: dict) -> None:
    """Refuse settings with which any run of a cell could not start."""
    model_class = find_model(cell.settings["model"])
    try:
        for values in itertools.product(*cell.grid.values()):
            settings = {**dataset, **cell.settings, **dict(zip(cell.grid, values, strict=True))}
            check_model_settings(model_class, settings)
            if cell.grid.keys() & set(DATASET_KEYS_OF_RUNS):
                check_dataset_values(settings)
        check_dataset_values({**dataset, **cell.settings})
        build_callbacks(cell.settings.get("callbacks"))
        if dataset.get("label_col"):
            labels = [column["name"] for column in check_label_columns(dataset["label_col"])]
            check_labels(model_class, settings, labels)
    except UsageError as error:
        raise UsageError(f"{cell.name}: {error}") from error
