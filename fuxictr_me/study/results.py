"""Results of the finished runs of a study, cell by cell."""

from dataclasses import dataclass

BASE, SINGLE, MULTI = "base", "SE", "ME"  # kinds: one set of dimension K, one set of k K, k sets of K
ENSEMBLE = "ensemble"  # the control of k single models whose logits are averaged


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Attributes:
        expid: of the run.
        seed: of the run.
        valid, test: metric -> value, e.g. ``{"AUC": 0.77, "logloss": 0.53}``.
        parameters: number of trained parameters.
        embedding_parameters: those of embeddings among them.
        seconds: of the whole run.
        steps: of the optimizer.
        peak_memory: bytes, or None if the run did not record it.
        abundance: one dict per field, for the best weights with the sets side by side: ``field``, ``num_ids`` (D),
            ``dim`` (columns), ``ia``, ``ia_ratio`` (ia / min(dim, D)), ``ia_random`` (or None). Empty if the run did
            not record information abundance.
    """

    expid: str
    seed: int
    valid: dict[str, float]
    test: dict[str, float]
    parameters: int
    embedding_parameters: int
    seconds: float
    steps: int
    peak_memory: int | None
    abundance: list[dict]


@dataclass(frozen=True)
class CellResult:
    """One cell of a study: a model, kind and scale.

    Attributes:
        model: e.g. ``DCNv2_ME``.
        kind: ``base`` (scale 1, shared by all kinds), ``SE``, ``ME``, or a control such as ``ensemble`` or ``ME-SI``.
        scale: k, the embedding parameters as a multiple of those of ``base``.
        num_sets, embedding_dim: M, and K of one set.
        chosen: setting -> value chosen from the grid on the validation split; empty if not tuned.
        runs: finished runs with the chosen settings, in the order of the study's seeds.
        tried: settings of the grid that were tried with all seeds for tuning, each with the validation value of the
            monitored metric, the mean over these seeds.
    """

    model: str
    kind: str
    scale: int
    num_sets: int
    embedding_dim: int
    chosen: dict
    runs: tuple[RunResult, ...]
    tried: tuple[tuple[dict, float], ...] = ()

    @property
    def title(self) -> str:
        """``base``, ``SE 4x``, ``ME 4x``, ``ensemble 4x``, ..."""
        return self.kind if self.kind == BASE else f"{self.kind} {self.scale}x"


@dataclass(frozen=True)
class StudyResults:
    """The results of a study so far.

    Attributes:
        name: of the study.
        dataset_id: as the user named it, e.g. ``criteo_paper``.
        seeds: of the design; a cell may have fewer runs.
        monitor: metric of early stopping and of the choice, e.g. ``AUC``.
        monitor_mode: ``max`` or ``min``.
        grid: kind -> setting -> values tried; empty if nothing was tuned.
        shared: settings that matter to the comparison, such as batch_size, and are the same in all runs.
        versions: of fuxictr_me, fuxictr, torch, python.
        cells: by model, then base, then kind, then scale; also those without a finished run.
        failed: expid and reason of each failed run.
        paper_data: the data set of the paper if the splits have its numbers of rows, e.g. ``criteo_paper``; else empty,
            also for another data set of the same name.
        tuning_seeds: number of seeds, the first ones, with which each value of a grid is tried.
    """

    name: str
    dataset_id: str
    seeds: tuple[int, ...]
    monitor: str
    monitor_mode: str
    grid: dict[str, dict[str, list]]
    shared: dict
    versions: dict[str, str]
    cells: tuple[CellResult, ...]
    failed: tuple[tuple[str, str], ...] = ()
    paper_data: str = ""
    tuning_seeds: int = 1

    def cell(self, model: str, kind: str, scale: int) -> CellResult | None:
        """Return a cell, or None if the study does not have it."""
        return next((c for c in self.cells if (c.model, c.kind, c.scale) == (model, kind, scale)), None)

    @property
    def models(self) -> list[str]:
        """Models in the study's order."""
        return list(dict.fromkeys(cell.model for cell in self.cells))
