"""``set_parallel``: one of our models, its sets spread over ranks."""

import logging
import os
from pathlib import Path

import torch

from fuxictr_me.checkpoint import load_state_dict, save_state_dict
from fuxictr_me.distributed.aggregation import OverRanks
from fuxictr_me.distributed.dropout import replace_dropouts
from fuxictr_me.distributed.joint import Joint
from fuxictr_me.distributed.loader import SameBatches
from fuxictr_me.distributed.resume import Progress
from fuxictr_me.distributed.settings import Settings, all_dims, check_class, settings_of_rank
from fuxictr_me.distributed.transfer import gather_whole, scatter_whole
from fuxictr_me.distributed.weights import of_no_set, of_set
from fuxictr_me.errors import UsageError
from fuxictr_me.training import split_parameters


def set_parallel(model_class, ranks):
    """A class of model -> that of the part which a rank holds: its own sets, and a head equal to all other ranks'.

    Rank r of R owns sets r, r + R, ...: their tables, interactions, projections, and the optimizer's state of these.
    All ranks see every batch. Each sums h of its own sets, one all-reduce adds these up, and each goes on to the loss
    by itself; so gradients, batch norm and dropout of a set stay with its rank, and heads stay equal. A second
    all-reduce joins the gradients' norm, for clipping, and the regularisers' value. A step moves B · ΣH + 2 numbers
    into an all-reduce, whatever the size of the tables.

    Constructed from the settings of a run, as ``model_class`` is. With weights loaded from one and the same checkpoint,
    and torch's generator seeded alike, the ranks train what one process trains. From scratch they start elsewhere: each
    set is drawn by a generator of its own, of ``seed`` and the set's number, and the head goes with set 0; the start
    depends on the seed alone, not on R. The constructor leaves torch's generator at ``seed`` on all ranks.

    ``save_weights``, ``load_weights`` deal in checkpoints of the whole model. ``state_dict`` and ``parameters`` are the
    rank's own; ``num_parameters`` counts the whole.

    Args:
        model_class (type): one of our models.
        ranks (Ranks)

    Returns:
        type: a subclass of ``model_class``, of the same name.

    Raises:
        UsageError: a model that cannot be set-parallel; the class's constructor: settings with which it cannot.
    """
    check_class(model_class)
    content = {
        "ranks": ranks,
        "whole_class": model_class,
        "__module__": model_class.__module__,
        "__doc__": model_class.__doc__,
    }
    return type(model_class.__name__, (SetParallel, model_class), content)


class SetParallel:
    """Mixed in front of a model's class by ``set_parallel``.

    Attributes:
        ranks (Ranks)
        all_sets (int): M; ``num_sets`` is the number of the rank's own.
        own (range): the sets of this rank.
    """

    _progress, _epochs_done = None, 0

    def __init__(self, feature_map, own=None, **settings):
        get = Settings(self.whole_class, settings)
        dims, num_ranks = all_dims(get), self.ranks.size
        if len(dims) < num_ranks:
            raise UsageError(
                f"set-parallel needs a set or more a process: num_sets is {len(dims)}, got {num_ranks} processes"
            )
        self.all_sets = len(dims)
        self.own = range(self.ranks.rank, self.all_sets, num_ranks) if own is None else own
        self._of_whole = get("aggregation"), get("nonlinear_projection")
        super().__init__(feature_map, **settings_of_rank(get, self.own, dims[0], self.ranks))
        self.joint = Joint(self)
        if own is None:
            self._draw(feature_map, get)

    @property
    def is_single(self):
        return self.all_sets == 1

    def assemble(self, *args, **kwargs):
        """As of the whole model, but for the aggregation and the dropouts, which know of the other ranks' sets."""
        self.aggregation_name, self.nonlinear_projection = self._of_whole
        super().assemble(*args, **kwargs)
        self.aggregation = OverRanks(self.ranks, self.all_sets if self.aggregation_name == "mean" else 1)
        for part in (self.interaction, self.projection):
            replace_dropouts(part, self.own, self.all_sets)

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
        self._epochs_done = 0 if resume_from is None else self._progress.last()
        return super().fit(data_generator, epochs=epochs, **kwargs)

    def train_epoch(self, data_generator):
        """One epoch, after a look whether all ranks are fed the same; of one that is done already, the order alone."""
        epoch = self._epoch_index + 1
        if epoch <= self._epochs_done:
            next(iter(data_generator))
            if epoch == self._epochs_done:
                self._progress.load(epoch)
            return
        super().train_epoch(SameBatches(data_generator, self.ranks))
        if self._progress is not None:
            self._progress.save(epoch)

    def evaluate_metrics(self, *args, **kwargs):
        """The metrics that rank 0 finds, on all ranks, so that they agree when to stop.

        Raises:
            RunError: the heads of the ranks differ.
        """
        head = list(of_no_set(self.state_dict()).values())
        self.ranks.check_alike(head, "the heads, which should be equal bit for bit,")
        metrics = super().evaluate_metrics(*args, **kwargs)
        values = self.ranks.broadcast(torch.tensor(list(metrics.values()), dtype=torch.float64))
        return type(metrics)(zip(metrics, values.tolist(), strict=True))

    def save_weights(self, checkpoint):
        """Rank 0 writes the checkpoint of the whole model, as one process would: whole or not there."""
        whole = gather_whole(self.state_dict(), self.own, self.all_sets, self.ranks)

        def write():
            os.makedirs(Path(checkpoint).parent, exist_ok=True)
            save_state_dict(whole, checkpoint)

        self.ranks.on_first(write)

    def load_weights(self, checkpoint):
        """Rank 0 reads a checkpoint of the whole model; each rank gets its own sets and the head."""
        whole = self.ranks.on_first(lambda: load_state_dict(checkpoint))
        scatter_whole(whole, self.state_dict(), self.own, self.all_sets, self.ranks, checkpoint)

    def num_parameters(self, count_embedding=True):
        """Number of trained parameters of the whole model."""
        tables, embeddings, networks = split_parameters(self)
        counted = self.joint.counted(networks + (tables + embeddings if count_embedding else []))
        return int(self.ranks.sum(torch.tensor(sum(p.numel() for p in counted), device=self.device)))

    def count_parameters(self, count_embedding=True):
        """FuxiCTR's log line, of the whole model."""
        logging.info(f"Total number of parameters: {self.num_parameters(count_embedding)}.")

    def _draw(self, feature_map, get):
        """Draw each set from (seed, set) by way of a model of that set alone; the head is that of set 0."""
        seed = 2024 if get("seed") is None else get("seed")
        one_set, mine = set_parallel(self.whole_class, self.ranks), self.state_dict()
        for at, m in enumerate(self.own):
            torch.manual_seed(seed * 1_000_003 + m)
            drawn = one_set(feature_map, own=range(m, m + 1), **{**get.given, "callbacks": None}).state_dict()
            for name, tensor in of_set(mine, at, len(self.own)).items():
                tensor.copy_(drawn[name])
            if m == 0:
                for name, tensor in of_no_set(mine).items():
                    tensor.copy_(drawn[name])
        for tensor in of_no_set(mine).values():
            self.ranks.broadcast(tensor)
        torch.manual_seed(seed)
