"""What a run needs to go on after an epoch, written by torch.distributed.checkpoint, set by set."""

import contextlib
import logging
import re
import shutil
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from fuxictr_me.distributed.optimizer_state import make_room, moments
from fuxictr_me.distributed.ranks import answered
from fuxictr_me.distributed.safe_metadata import check_metadata
from fuxictr_me.distributed.sharded_table import copy_common, rows_of
from fuxictr_me.distributed.weights_by_set import of_no_set, of_set
from fuxictr_me.errors import RunError, UsageError

COUNTERS = ("_total_steps", "_best_metric", "_stopping_steps", "_stop_training")
WHOLE = ".metadata"  # which torch.distributed.checkpoint writes last
WEIGHTS = "weights"
KIND_AT = {"set": 2, "head": 1}  # where in a name stands what it is: set.3.exp_avg.…, head.exp_avg.…
SHARD = re.compile(r"(.+)@(\d+)/(\d+)")  # divided rows: name@1/4, of the ids 1, 5, 9, ...


class Progress:
    """The state of a run on several ranks after each epoch, in ``folder/epoch-N``; one that is not whole is not used.

    Names are those of sets (``set.3.exp_avg.…``), and of divided rows (``…@1/4``: the ids 1, 5, 9, …), so another
    number of ranks, or one, and another engine can go on. What several ranks hold is written once. What
    torch.distributed.checkpoint writes beside the tensors is a pickle: resume your own runs alone.

    Args:
        model (Distributed)
        folder (str or Path): seen by all ranks.
    """

    def __init__(self, model, folder):
        self.model, self.folder, self.rows = model, Path(folder), rows_of(model)

    def take_up(self):
        """The number of epochs that are done. Where that is none, weights are taken up that ``convert`` put there."""
        done = self._last()
        if done == 0:
            self.load(0)
        return max(done, 0)

    def _last(self):
        """The last epoch whose state is whole, 0 for converted weights, -1 where there is nothing."""
        found = [path.parent.name for path in self.folder.glob(f"epoch-*/{WHOLE}")]
        epochs = [int(name.removeprefix("epoch-")) for name in found]
        return int(self.model.ranks.broadcast(torch.tensor(max(epochs, default=-1), device=self.model.device)))

    def save(self, epoch):
        """Write the state after ``epoch`` epochs, then remove older ones. All ranks."""
        path = self.folder / f"epoch-{epoch}"
        self.model.ranks.on_first(lambda: shutil.rmtree(path, ignore_errors=True))
        state = self._tensors(moments(self.model)) | {
            "rng": torch.get_rng_state(),
            "counters": torch.tensor([float(getattr(self.model, name)) for name in COUNTERS], dtype=torch.float64),
            "lr": torch.tensor([group["lr"] for group in self.model.optimizer.param_groups], dtype=torch.float64),
        }
        if self.model.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.model.device)
        with answered(), written():
            dcp.save(state, checkpoint_id=path)
        self.model.ranks.on_first(lambda: self._remove_all_but(path))

    def load(self, epoch):
        """Take up the state after ``epoch`` epochs. All ranks."""
        model, path = self.model, self.folder / f"epoch-{epoch}"
        check_metadata(path / WHOLE)
        saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        sizes = whole_sizes(saved)
        kinds = sorted({name.split(".")[KIND_AT[name.split(".")[0]]] for name in sizes if "." in name} - {WEIGHTS})

        def kinds_of(parameter):
            names = {kind: next(iter(self._by_sets(kind, {parameter: torch.zeros(len(model.own))}))) for kind in kinds}
            return {kind: not sizes[name] for kind, name in names.items() if name in sizes}

        make_room(model, kinds_of)
        state = self._tensors(moments(model))
        for name in ("rng", "cuda_rng", "counters", "lr"):
            if name in saved:
                state[name] = torch.empty(saved[name].size, dtype=saved[name].properties.dtype)
        for name, tensor in state.items():
            (name, _, members), shape = divided(name), tensor.shape
            if members > 1:
                shape = torch.Size((self.rows[_in_one_set(name)].size, *shape[1:]))
            if sizes.get(name) != shape:
                raise UsageError(f"{path} is of another model: it has no {name} of shape {tuple(shape)}")
        with answered(), written():
            dcp.load({name: tensor for name, tensor in state.items() if name in saved}, checkpoint_id=path)
            if otherwise_divided := {name: tensor for name, tensor in state.items() if name not in saved}:
                self._load_otherwise_divided(otherwise_divided, saved, path)
        if "counters" in state:
            self._go_on_from(state)
        logging.info(f"Resumed after {epoch} epochs, from {path}")

    def _go_on_from(self, state):
        model = self.model
        for name, value in zip(COUNTERS, state["counters"].tolist(), strict=True):
            setattr(model, name, value if name == "_best_metric" else int(value))
        for group, lr in zip(model.optimizer.param_groups, state["lr"].tolist(), strict=True):
            group["lr"] = lr
        torch.set_rng_state(state["rng"])
        if model.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], model.device)

    def _load_otherwise_divided(self, state, saved, path):
        """Rows that were divided by another number of members: each of these shards in turn, of all tensors."""
        members = max(members for _, _, members in map(divided, saved))
        for first in range(members):
            theirs = {name: divided(name)[0] + _suffix(first, members) for name in state}
            parts = {there: torch.empty(saved[there].size, dtype=state[name].dtype) for name, there in theirs.items()}
            dcp.load(parts, checkpoint_id=path)
            for name, there in theirs.items():
                ids = self._ids(self.rows[_in_one_set(divided(name)[0])])
                copy_common(state[name], ids, parts[there].to(state[name].device), slice(first, ids.stop, members))

    def _tensors(self, of_optimizer):
        """name -> Tensor, of this rank's sets and of the head: weights and moments, in place."""
        found = {}
        for kind, tensors in {WEIGHTS: self.model.state_dict(), **of_optimizer}.items():
            found |= self._by_sets(kind, tensors)
        return found

    def _by_sets(self, kind, tensors):
        own, found = self.model.own, {f"head.{kind}.{name}": x for name, x in of_no_set(tensors).items()}
        for at, m in enumerate(own):
            for name, x in of_set(tensors, at, len(own)).items():
                found[f"set.{m}.{kind}.{name}{self._shard_of(name) if x.ndim > 1 else ''}"] = x
        return found

    def _shard_of(self, name):
        shard = self.rows.get(name)
        return "" if shard is None else _suffix(self._ids(shard).start, shard.members)

    def _ids(self, shard):
        return shard.ids(self.model.grid.member if shard.members > 1 else 0)

    def _remove_all_but(self, path):
        for other in self.folder.glob("epoch-*"):
            if other != path:
                shutil.rmtree(other)


def _suffix(first, members):
    """Behind the name of the rows of every ``members``-th id, from ``first`` on."""
    return f"@{first}/{members}" if members > 1 else ""


def divided(name):
    """name@1/4 -> (name, 1, 4): of every 4th id, from 1 on; (name, 0, 1) of what is whole."""
    match = SHARD.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else (name, 0, 1)


def whole_sizes(saved):
    """name without shard -> torch.Size, the rows of shards added up."""
    sizes = {}
    for name, meta in saved.items():
        whole, _, members = divided(name)
        rows = sizes[whole][0] if whole in sizes else 0
        sizes[whole] = torch.Size((rows + meta.size[0], *meta.size[1:])) if members > 1 else meta.size
    return sizes


def _in_one_set(name):
    """set.3.exp_avg.embedding_layer.… -> embedding_layer.…"""
    return name.split(".", KIND_AT["set"] + 1)[-1]


@contextlib.contextmanager
def written():
    """What torch.distributed.checkpoint says of a rank that failed, a full disk, as a ``RunError`` of one line."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = next(iter(error.failures.items()))
        text = " ".join(str(reason).split())[:200]
        raise RunError(f"the state to resume from could not be written or read on rank {rank}: {text}") from error
