"""``distribute``: a fuxictr-me model that several ranks train together."""

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from fuxictr.features import FeatureMap
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fuxictr_me.distributed.aggregation import AggregationOverRanks
from fuxictr_me.distributed.batch_norm import replace_batch_norms
from fuxictr_me.distributed.batch_part import BatchPart, PartialMeanLoss
from fuxictr_me.distributed.checked_loader import CheckedLoader
from fuxictr_me.distributed.data_parallel import wrap_forward
from fuxictr_me.distributed.distributed_totals import DistributedTotals
from fuxictr_me.distributed.dropout import replace_dropouts
from fuxictr_me.distributed.engines import ONE_PROCESS, make_engine
from fuxictr_me.distributed.gather_weights import gather_state_dict, scatter_state_dict
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.initial_weights import initialise_sets
from fuxictr_me.distributed.ranks import Ranks, translate_step_errors
from fuxictr_me.distributed.resume import ResumeState
from fuxictr_me.distributed.settings import Settings, check_class, check_engine, find_dims, settings_of_rank
from fuxictr_me.distributed.sharded_table import ShardedTable, find_sharded_tables
from fuxictr_me.distributed.weights_by_set import select_shared
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict
from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.training import split_parameters
from fuxictr_me.training.recorded_step import SelectedRows


def distribute(
    model_class: type[MultiEmbeddingModel], ranks: Ranks, engine: str = "set-parallel", groups: int | None = None
) -> type["DistributedModel"]:
    """Return the class of the part of a model that one rank holds.

    The R ranks are S groups of G members. Group s owns the sets s, s + S, ...: their interactions, projections and
    optimizer state. Of their fused tables member g has every G-th row (with ``ddp``: all rows), and of each batch it
    trains on the g-th part. Each rank sums h of its own sets, one all-reduce over the groups adds these sums, and each
    rank computes the loss of its rows. Within a group, embeddings are sent to the ranks that need them, and their
    gradients come back. All other gradients are summed by DistributedDataParallel, batch norm's sums by all-reduces. A
    last all-reduce of two numbers joins the norm of the gradients, for clipping, and the loss.

    With ``set-parallel`` and no more ranks than sets, G is 1: all ranks read every batch, and a step moves B · ΣH + 2
    numbers into all-reduces, whatever the size of the tables.

    The class is constructed from the settings of a run, as ``model_class`` is. With weights loaded from the same
    checkpoint, and torch's generator seeded alike, the ranks train what one process trains. From scratch they start
    elsewhere, see ``initialise_sets``. The constructor leaves torch's generator at ``seed`` on all ranks.

    ``save_weights`` and ``load_weights`` use checkpoints of the whole model. ``state_dict`` and ``parameters`` are
    those of the rank; ``num_parameters`` counts the whole.

    Args:
        model_class: a fuxictr-me model.
        ranks: all processes.
        engine, groups: see ``make_engine``.

    Returns:
        A subclass of ``model_class`` of the same name.

    Raises:
        UsageError: the model cannot be distributed. The constructor of the class raises it for settings with which
            the model cannot be distributed.
    """
    check_class(model_class)
    # A part differs from its model in how it is built (sets, tables, dropout, batch norm), and that happens inside the
    # model's constructor. The model may be a user's class. So the part has to be a subclass, made when the class is
    # known. It overrides each method of the loop at most once, and calls the loop's own.
    content = {
        "ranks": ranks,
        "engine_request": (engine, groups),
        "whole_class": model_class,
        "__module__": model_class.__module__,
        "__doc__": model_class.__doc__,
    }
    return type(model_class.__name__, (DistributedModel, model_class), content)


class DistributedModel(MultiEmbeddingModel):
    """The part of a model that one rank holds. ``distribute`` puts this class before that of the model.

    Attributes:
        ranks: all processes.
        engine_request: the arguments ``engine`` and ``groups`` of ``distribute``.
        whole_class: the model's class.
        engine: how the model is spread over the ranks.
        grid: the processes in groups; not set if ``is_initial``.
        all_sets: M; ``num_sets`` is the number of the rank's own sets.
        own_sets: the sets of this rank.
        part: the rows of this rank in the current batch.
        is_initial: whether this is a model of one set, in this process alone, from which ``initialise_sets`` copies.
    """

    ranks: ClassVar[Ranks]
    engine_request: ClassVar[tuple[str, int | None]]
    whole_class: ClassVar[type[MultiEmbeddingModel]]
    grid: Grid
    own_sets: range
    totals: DistributedTotals
    _resume_state: ResumeState | None = None
    _epochs_done = 0
    _reduced: tuple[DistributedDataParallel] | None = None
    _reads_its_part = _evaluates_its_part = False

    def __init__(self, feature_map: FeatureMap, own_sets: range | None = None, **given: Any):
        settings = Settings(self.whole_class, given)
        dims = find_dims(settings)
        self.all_sets, self.part = len(dims), BatchPart()
        self.is_initial = own_sets is not None
        if own_sets is not None:
            self.engine, self.own_sets, grid = ONE_PROCESS, own_sets, None
        else:
            name, groups = self.engine_request
            self.engine = make_engine(name, self.ranks.size, self.all_sets, groups)
            self.grid = grid = Grid(self.ranks, self.engine)
            self.own_sets = range(grid.group, self.all_sets, self.engine.groups)
            if self.engine.shards_tables:
                self.fused_table = partial(ShardedTable, ranks=grid.within)
        self._of_whole = settings("aggregation"), settings("nonlinear_projection")
        super().__init__(feature_map, **settings_of_rank(settings, self.own_sets, dims[0], self.ranks, grid))
        if not self.is_initial:
            check_engine(self)
            self.totals = DistributedTotals(self)
            initialise_sets(self, feature_map, settings)

    @property
    def share(self) -> tuple[int, int] | None:
        """(member, members) of those that divide a batch, as ``H5DataLoader`` takes it; None if each reads it all."""
        return (self.grid.member, self.engine.members) if self.engine.divides_batches else None

    @property
    def is_single(self) -> bool:
        """Whether the whole model has one set."""
        return self.all_sets == 1

    def assemble(self, *args: Any, **kwargs: Any) -> None:
        """Build the whole model's layers, and replace those that depend on other ranks' sets and rows."""
        self.aggregation_name, self.nonlinear_projection = self._of_whole
        super().assemble(*args, **kwargs)
        if self.is_initial:
            return
        divisor = self.all_sets if self.aggregation_name == "mean" else 1
        self.aggregation = AggregationOverRanks(self.grid.across, divisor)
        for module in (self.interaction, self.projection):
            replace_dropouts(module, self.part, self.own_sets, self.all_sets)
        replace_dropouts(self.head, self.part)
        if self.engine.members > 1:
            replace_batch_norms(self, self.grid.within, self.part)

    def reset_parameters(self) -> None:
        """Do nothing. Each set is initialised separately, see ``initialise_sets``."""
        if self.is_initial:
            super().reset_parameters()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Set the optimizer and the loss, which is this rank's part of the mean over the whole batch."""
        super().compile(*args, **kwargs)
        if self.engine.members > 1:
            self.loss_fn = PartialMeanLoss(self.loss_fn, self.part)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the model's predictions for this rank's rows."""
        if self.engine.members == 1 or not (self.training and torch.is_grad_enabled()):
            return super().forward(inputs)
        if self._reduced is None:
            sharded = {f"{path}.weight" for path in find_sharded_tables(self)}
            # in a tuple, so that it does not become a submodule
            self._reduced = (wrap_forward(self, super().forward, self.grid.within, sharded),)
        return self._reduced[0](inputs)

    def fit(  # type: ignore[override]  # it only adds an argument
        self, data_generator: Iterable, epochs: int = 1, resume_from: str | Path | None = None, **kwargs: Any
    ) -> None:
        """Train as the model does. A run can be stopped and resumed.

        Args:
            data_generator, epochs, **kwargs: see ``FastTraining.fit``.
            resume_from: a folder for the state after each epoch. If it holds that of an earlier run, of any number of
                ranks, this run continues from there.

        Raises:
            UsageError: see ``FastTraining.fit``; or ``embedding_updates`` is not dense, whose state is not saved.
        """
        if resume_from is not None and self.embedding_updates != "dense":
            raise UsageError(f"a run that can be resumed needs embedding_updates: dense, got {self.embedding_updates}")
        self._resume_state = None if resume_from is None else ResumeState(self, resume_from)
        self._epochs_done = 0 if self._resume_state is None else self._resume_state.find_start()
        super().fit(data_generator, epochs=epochs, **kwargs)

    def run_epoch(self, data_generator: Iterable) -> None:
        """Train on every batch once, after a check that all ranks are fed the same.

        Of an epoch that is completed already, only the order of the batches is drawn.
        """
        epoch = self._epoch_index + 1
        if epoch <= self._epochs_done:
            next(iter(data_generator))
            if epoch == self._epochs_done and self._resume_state is not None:
                self._resume_state.load(epoch)
            return
        self._reads_its_part = _is_divided(data_generator)
        try:
            super().run_epoch(CheckedLoader(data_generator, self.grid, self.part))
        finally:
            self._reads_its_part = False
        if self._resume_state is not None:
            self._resume_state.save(epoch)

    def train_step(self, batch_data: dict[str, Tensor] | SelectedRows) -> Tensor:
        """Take one step. Of a batch that all ranks are given whole, each uses its part."""
        if not self._reads_its_part and not isinstance(batch_data, SelectedRows):
            batch_data = self.part.slice_batch(batch_data, self.grid.member, self.engine.members)
        with translate_step_errors():
            return super().train_step(batch_data)

    def evaluate(self, data_generator: Iterable, metrics: list[str] | None = None) -> dict[str, float]:
        """Compute FuxiCTR's metrics of the rows of all ranks.

        Args:
            data_generator: yields whole batches, or, with ``rank_shares``, those of this rank's rows.
            metrics: names; None for those of the config.
        """
        self._evaluates_its_part = _is_divided(data_generator)
        return super().evaluate(data_generator, metrics)

    def predict(self, data_generator: Iterable) -> np.ndarray:
        """Return the predictions of every row, in order, on all ranks: (N,), float64."""
        y = super().predict(data_generator)
        return self._gather_rows(y) if _is_divided(data_generator) else y

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """Return the metrics that rank 0 computes, on all ranks, so that they agree when to stop.

        Raises:
            RunError: the heads of the ranks differ.
        """
        head = list(select_shared(self.state_dict()).values())
        self.ranks.check_equal(head, "the heads, which should be equal bit for bit,")
        if self._evaluates_its_part:
            y_true, y_pred = self._gather_rows(y_true), self._gather_rows(y_pred)
            group_id = None if group_id is None else self._gather_rows(group_id)
        values = super().evaluate_metrics(y_true, y_pred, metrics, group_id)
        of_first = self.ranks.broadcast(torch.tensor(list(values.values()), dtype=torch.float64))
        return type(values)(zip(values, of_first.tolist(), strict=True))

    def save_weights(self, checkpoint: str | Path) -> None:
        """Let rank 0 write the checkpoint of the whole model atomically, as one process would."""
        whole = gather_state_dict(self)

        def write() -> None:
            if whole is not None:
                Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
                save_state_dict(whole, checkpoint)

        self.ranks.run_on_first(write)

    def load_weights(self, checkpoint: str | Path) -> None:
        """Let rank 0 read a checkpoint of the whole model. Each rank gets its own sets and the head."""
        whole = self.ranks.run_on_first(lambda: load_state_dict(checkpoint))
        scatter_state_dict(whole, self, checkpoint)

    def num_parameters(self, count_embedding: bool = True) -> int:
        """Return the number of trained parameters of the whole model."""
        tables, embeddings, networks = split_parameters(self)
        counted = self.totals.select_counted(networks + (tables + embeddings if count_embedding else []))
        return int(self.ranks.sum(torch.tensor(sum(p.numel() for p in counted), device=self.device)))

    def count_parameters(self, count_embedding: bool = True) -> None:
        """Log the number of parameters of the whole model, in FuxiCTR's words."""
        logging.info(f"Total number of parameters: {self.num_parameters(count_embedding)}.")

    def _gather_rows(self, column: np.ndarray) -> np.ndarray:
        return self.grid.within.gather_rows(torch.as_tensor(column)).numpy()


def _is_divided(data_generator: Iterable) -> bool:
    """Whether a loader yields this rank's rows only."""
    return getattr(data_generator, "rank_shares", None) is not None
