"""What the finished runs of a study gave, cell by cell."""

from dataclasses import dataclass

BASE, SINGLE, MULTI = "base", "SE", "ME"  # kinds: one set of K, one set of k K, k sets of K


@dataclass(frozen=True)
class RunResult:
    """One finished run, as its files tell it.

    Attributes:
        expid (str)
        seed (int)
        valid, test (dict): metric -> value, e.g. ``{"AUC": 0.77, "logloss": 0.53}``.
        parameters, embedding_parameters (int): trained; in all, and of embeddings.
        seconds (float): of the whole run.
        steps (int): of the optimizer.
        peak_memory (int or None): bytes, where the run recorded it.
        abundance (list of dict): a dict a field, the sets side by side, of the best weights: ``field``, ``num_ids``
            (D), ``dim`` (columns), ``ia``, ``ia_ratio`` (ia / min(dim, D)), ``ia_random`` (or None); empty where the
            run has no IA file.
    """

    expid: str
    seed: int
    valid: dict
    test: dict
    parameters: int
    embedding_parameters: int
    seconds: float
    steps: int
    peak_memory: int | None
    abundance: list


@dataclass(frozen=True)
class CellResult:
    """A cell of the study's table: one model, kind and scale.

    Attributes:
        model (str): e.g. ``DCNv2_ME``.
        kind (str): ``base`` (scale 1, shared by all kinds), ``SE``, ``ME``, or a control, e.g. ``ensemble``, ``ME-SI``.
        scale (int): k: times the embedding parameters of ``base``.
        num_sets, embedding_dim (int): M and K of a set.
        chosen (dict): setting -> value chosen out of the grid by the first seed's validation; empty where nothing was
            tuned.
        runs (tuple of RunResult): finished, with the chosen settings, in the order of the study's seeds.
        tried (tuple of (dict, float)): settings of the grid that were tried with the first seed, and the validation
            value of the monitored metric.
    """

    model: str
    kind: str
    scale: int
    num_sets: int
    embedding_dim: int
    chosen: dict
    runs: tuple
    tried: tuple = ()

    @property
    def title(self):
        """``base``, ``SE 4x``, ``ME 4x``, ``ensemble 4x``, ..."""
        return self.kind if self.kind == BASE else f"{self.kind} {self.scale}x"


@dataclass(frozen=True)
class StudyResults:
    """A study's results so far.

    Attributes:
        name (str): of the study.
        dataset_id (str): as the user named it, e.g. ``criteo_paper``.
        seeds (tuple of int): asked for; a cell may have fewer runs.
        monitor (str): the metric of early stopping and of the choice, e.g. ``AUC``.
        monitor_mode (str): ``max`` or ``min``.
        grid (dict): kind -> {setting: values tried}; the same for all kinds unless the study says otherwise; empty:
            not tuned.
        shared (dict): settings that are the same in all runs and matter to the comparison: batch_size, epochs,
            early_stop_patience, optimizer, learning_rate, embedding_initializer, ...
        versions (dict): of fuxictr_me, fuxictr, torch, python.
        cells (tuple of CellResult): by model, then base, then kind, then scale; those without a finished run too.
        failed (tuple of (str, str)): expid and the line that tells why.
        paper_data (str): the paper's data set whose rows the splits have, e.g. ``criteo_paper``; empty for any other,
            also for one that only has its name.
    """

    name: str
    dataset_id: str
    seeds: tuple
    monitor: str
    monitor_mode: str
    grid: dict
    shared: dict
    versions: dict
    cells: tuple
    failed: tuple = ()
    paper_data: str = ""

    def cell(self, model, kind, scale):
        """The cell of these, None where the study has none."""
        return next((c for c in self.cells if (c.model, c.kind, c.scale) == (model, kind, scale)), None)

    @property
    def models(self):
        """In the study's order."""
        return list(dict.fromkeys(cell.model for cell in self.cells))
