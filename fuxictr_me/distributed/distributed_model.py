"""``distribute``: one of our models, trained by several ranks."""

import logging
import os
from functools import partial
from pathlib import Path

import torch

from fuxictr_me.distributed.aggregation import OverRanks
from fuxictr_me.distributed.batch_norm import replace_batch_norms
from fuxictr_me.distributed.batch_part import Part, PartOfMean
from fuxictr_me.distributed.checked_loader import Fed
from fuxictr_me.distributed.data_parallel import data_parallel
from fuxictr_me.distributed.distributed_totals import DistributedTotals
from fuxictr_me.distributed.dropout import replace_dropouts
from fuxictr_me.distributed.engines import ALONE, engine_of
from fuxictr_me.distributed.gather_weights import gather_whole, scatter_whole
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.initial_weights import draw
from fuxictr_me.distributed.ranks import answered_in_a_step
from fuxictr_me.distributed.resume import Progress
from fuxictr_me.distributed.settings import Settings, all_dims, check_class, check_engine, settings_of_rank
from fuxictr_me.distributed.sharded_table import ShardedTable, sharded_tables
from fuxictr_me.distributed.weights_by_set import of_no_set
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict
from fuxictr_me.training import split_parameters


def distribute(model_class, ranks, engine="set-parallel", groups=None):
    """A class of model -> that of the part of it which a rank holds.

    The R ranks are S groups of G members. Group s owns the sets s, s + S, ...: interactions, projections, and the
    optimizer's state of these. Of their fused tables member g has every G-th row (``ddp``: all of them), and of a
    batch it takes the g-th part. Each rank sums h of its own sets, one all-reduce over the groups adds these up, and
    each goes on to the loss of its rows by itself. Within a group, embeddings go to who asks for them and their
    gradients come back; the gradients of all else are added up by DistributedDataParallel, batch norm's sums by
    all-reduces. A last all-reduce, of two numbers, joins the gradients' norm, for clipping, and the loss.

    With ``set-parallel`` and no more ranks than sets, G is 1: all ranks see every batch, and a step moves B · ΣH + 2
    numbers into all-reduces, whatever the size of the tables.

    Constructed from the settings of a run, as ``model_class`` is. With weights loaded from one and the same checkpoint,
    and torch's generator seeded alike, the ranks train what one process trains. From scratch they start elsewhere: each
    set is drawn by a generator of its own, of ``seed`` and the set's number, and the head goes with set 0; the start
    depends on the seed alone, not on the ranks. The constructor leaves torch's generator at ``seed`` on all ranks.

    ``save_weights``, ``load_weights`` deal in checkpoints of the whole model. ``state_dict`` and ``parameters`` are the
    rank's own; ``num_parameters`` counts the whole.

    Args:
        model_class (type): one of our models.
        ranks (Ranks): all processes.
        engine (str), groups (int or None): as ``engine_of`` takes them.

    Returns:
        type: a subclass of ``model_class``, of the same name.

    Raises:
        UsageError: a model that cannot be distributed; the class's constructor: settings with which it cannot.
    """
    check_class(model_class)
    content = {
        "ranks": ranks,
        "asked": (engine, groups),
        "whole_class": model_class,
        "__module__": model_class.__module__,
        "__doc__": model_class.__doc__,
    }
    return type(model_class.__name__, (Distributed, model_class), content)


class Distributed:
    """Mixed in front of a model's class by ``distribute``.

    Attributes:
        engine (Engine)
        grid (Grid): the processes.
        all_sets (int): M; ``num_sets`` is the number of the rank's own.
        own (range): the sets of this rank.
        part (Part): the rows of this rank in the batch that is trained on.
        is_drawn (bool): whether this is a model of one set, on this process alone, from which ``draw`` copies.
    """

    _progress, _epochs_done, _reduced = None, 0, None
    _is_fed_its_part = _gathers = False

    def __init__(self, feature_map, own=None, **settings):
        get = Settings(self.whole_class, settings)
        dims = all_dims(get)
        self.all_sets, self.part = len(dims), Part()
        self.is_drawn = own is not None
        name, groups = self.asked
        self.engine = ALONE if self.is_drawn else engine_of(name, self.ranks.size, self.all_sets, groups)
        self.grid = None if self.is_drawn else Grid(self.ranks, self.engine)
        self.own = own or range(self.grid.group, self.all_sets, self.engine.groups)
        if self.engine.shards:
            self.fused_table = partial(ShardedTable, ranks=self.grid.within)
        self._of_whole = get("aggregation"), get("nonlinear_projection")
        super().__init__(feature_map, **settings_of_rank(get, self.own, dims[0], self.ranks, self.grid))
        if not self.is_drawn:
            check_engine(self)
            self.totals = DistributedTotals(self)
            draw(self, feature_map, get)

    @property
    def share(self):
        """(member, members) of those who divide a batch, as ``H5DataLoader`` takes it; None where all feed it all."""
        return (self.grid.member, self.engine.members) if self.engine.divides else None

    @property
    def is_single(self):
        return self.all_sets == 1

    def assemble(self, *args, **kwargs):
        """As of the whole model, but for what knows of other ranks' sets and rows: aggregation, dropout, batch norm."""
        self.aggregation_name, self.nonlinear_projection = self._of_whole
        super().assemble(*args, **kwargs)
        if self.is_drawn:
            return
        self.aggregation = OverRanks(self.grid.across, self.all_sets if self.aggregation_name == "mean" else 1)
        for part in (self.interaction, self.projection):
            replace_dropouts(part, self.part, self.own, self.all_sets)
        replace_dropouts(self.head, self.part)
        if self.engine.members > 1:
            replace_batch_norms(self, self.grid.within, self.part)

    def reset_parameters(self):
        """Nothing: a set is drawn by a model of its own, and copied."""
        if self.is_drawn:
            super().reset_parameters()

    def forward(self, inputs):
        """As the model's, of this rank's rows."""
        if self.engine.members == 1 or not (self.training and torch.is_grad_enabled()):
            return super().forward(inputs)
        if self._reduced is None:
            divided = {f"{path}.weight" for path in sharded_tables(self)}
            # in a tuple, so that it is no submodule
            self._reduced = (data_parallel(self, super().forward, self.grid.within, divided),)
        return self._reduced[0](inputs)

    def compile(self, *args, **kwargs):
        """FuxiCTR's; the loss is this rank's part of the mean over the whole batch."""
        super().compile(*args, **kwargs)
        if self.engine.members > 1:
            self.loss_fn = PartOfMean(self.loss_fn, self.part)

    def train_step(self, batch_data):
        """One step; of a batch that all ranks are given whole each takes its part."""
        if not self._is_fed_its_part:
            batch_data = self.part.cut(batch_data, self.grid.member, self.engine.members)
        with answered_in_a_step():
            return super().train_step(batch_data)

    def fit(self, data_generator, epochs=1, resume_from=None, **kwargs):
        """FuxiCTR's, which can be stopped and taken up again.

        Args:
            data_generator, epochs, **kwargs: as FuxiCTR's.
            resume_from (str or Path or None): a folder for what is needed to go on after each epoch; where it holds
                that of an earlier run, of any number of ranks, this one goes on from there.

        Raises:
            UsageError: as ``Checked.fit``; ``embedding_updates`` other than dense, of which that state does not know.
        """
        if resume_from is not None and self.embedding_updates != "dense":
            raise UsageError(f"a run that can be resumed needs embedding_updates: dense, got {self.embedding_updates}")
        self._progress = None if resume_from is None else Progress(self, resume_from)
        self._epochs_done = 0 if resume_from is None else self._progress.take_up()
        return super().fit(data_generator, epochs=epochs, **kwargs)

    def run_epoch(self, data_generator):
        """One epoch, after a look whether all ranks are fed the same; of one that is done already, the order alone."""
        epoch = self._epoch_index + 1
        if epoch <= self._epochs_done:
            next(iter(data_generator))
            if epoch == self._epochs_done:
                self._progress.load(epoch)
            return
        self._is_fed_its_part = getattr(data_generator, "lanes", None) is not None
        try:
            super().run_epoch(Fed(data_generator, self.grid, self.part))
        finally:
            self._is_fed_its_part = False
        if self._progress is not None:
            self._progress.save(epoch)

    def evaluate(self, data_generator, metrics=None):
        """FuxiCTR's metrics, of the rows of all ranks.

        Args:
            data_generator (iterable): whole batches, or, with ``lanes``, those of this rank's rows.
            metrics (list of str or None)
        """
        self._gathers = getattr(data_generator, "lanes", None) is not None
        return super().evaluate(data_generator, metrics)

    def predict(self, data_generator):
        """Predictions for every row, in order, on all ranks: array (N,), float64."""
        y = super().predict(data_generator)
        return y if getattr(data_generator, "lanes", None) is None else self._gathered(y)

    def evaluate_metrics(self, y_true, y_pred, metrics, group_id=None):
        """The metrics that rank 0 finds, on all ranks, so that they agree when to stop.

        Raises:
            RunError: the heads of the ranks differ.
        """
        head = list(of_no_set(self.state_dict()).values())
        self.ranks.check_alike(head, "the heads, which should be equal bit for bit,")
        if self._gathers:
            y_true, y_pred, group_id = (x if x is None else self._gathered(x) for x in (y_true, y_pred, group_id))
        metrics = super().evaluate_metrics(y_true, y_pred, metrics, group_id)
        values = self.ranks.broadcast(torch.tensor(list(metrics.values()), dtype=torch.float64))
        return type(metrics)(zip(metrics, values.tolist(), strict=True))

    def save_weights(self, checkpoint):
        """Rank 0 writes the checkpoint of the whole model, as one process would: whole or not there."""
        whole = gather_whole(self)

        def write():
            os.makedirs(Path(checkpoint).parent, exist_ok=True)
            save_state_dict(whole, checkpoint)

        self.ranks.on_first(write)

    def load_weights(self, checkpoint):
        """Rank 0 reads a checkpoint of the whole model; each rank gets its own sets and the head."""
        whole = self.ranks.on_first(lambda: load_state_dict(checkpoint))
        scatter_whole(whole, self, checkpoint)

    def num_parameters(self, count_embedding=True):
        """Number of trained parameters of the whole model."""
        tables, embeddings, networks = split_parameters(self)
        counted = self.totals.select_counted(networks + (tables + embeddings if count_embedding else []))
        return int(self.ranks.sum(torch.tensor(sum(p.numel() for p in counted), device=self.device)))

    def count_parameters(self, count_embedding=True):
        """FuxiCTR's log line, of the whole model."""
        logging.info(f"Total number of parameters: {self.num_parameters(count_embedding)}.")

    def _gathered(self, column):
        return self.grid.within.gather_rows(torch.as_tensor(column)).numpy()
