"""The state from which a run on several ranks continues, written set by set with torch.distributed.checkpoint."""

import contextlib
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from fuxictr_me.distributed.optimizer_state import allocate_moments, collect_moments
from fuxictr_me.distributed.ranks import translate_dist_errors
from fuxictr_me.distributed.safe_metadata import check_metadata
from fuxictr_me.distributed.sharded_table import Shard, copy_common_rows, find_table_rows
from fuxictr_me.distributed.weights_by_set import select_shared, slice_set
from fuxictr_me.errors import RunError, UsageError

if TYPE_CHECKING:
    from fuxictr_me.distributed.distributed_model import DistributedModel

COUNTERS = ("_total_steps", "_best_metric", "_stopping_steps", "_stop_training")
LAST_WRITTEN = ".metadata"  # torch.distributed.checkpoint writes it last: with it a state is complete
WEIGHTS = "weights"
KIND_AT = {"set": 2, "head": 1}  # which part of a name is the kind of tensor: set.3.exp_avg.…, head.exp_avg.…
SHARD = re.compile(r"(.+)@(\d+)/(\d+)")  # divided rows: name@1/4, of the ids 1, 5, 9, ...


class ResumeState:
    """The state of a run on several ranks after each epoch, in ``folder/epoch-N``. Incomplete states are not used.

    Names are those of sets (``set.3.exp_avg.…``) and of divided rows (``…@1/4``: the ids 1, 5, 9, …), so another
    number of ranks, or one, and another engine can continue. What several ranks hold is written once. The file that
    torch.distributed.checkpoint writes beside the tensors is a pickle; see ``safe_metadata``.

    Args:
        model: this rank's part.
        folder: visible to all ranks.
    """

    def __init__(self, model: "DistributedModel", folder: str | Path):
        self.model, self.folder, self.rows = model, Path(folder), find_table_rows(model)

    def find_start(self) -> int:
        """Return the number of completed epochs. If there is none, load converted weights, if there are any."""
        done = self._find_last_epoch()
        if done == 0:
            self.load(0)
        return max(done, 0)

    def _find_last_epoch(self) -> int:
        """Return the last epoch whose state is complete: 0 for converted weights, -1 if there is nothing."""
        found = [path.parent.name for path in self.folder.glob(f"epoch-*/{LAST_WRITTEN}")]
        epochs = [int(name.removeprefix("epoch-")) for name in found]
        return int(self.model.ranks.broadcast(torch.tensor(max(epochs, default=-1), device=self.model.device)))

    def save(self, epoch: int) -> None:
        """Write the state after ``epoch`` epochs, then remove older ones. A collective of all ranks."""
        model, path = self.model, self.folder / f"epoch-{epoch}"
        model.ranks.run_on_first(lambda: shutil.rmtree(path, ignore_errors=True))
        state = self._named_tensors(collect_moments(model)) | {
            "rng": torch.get_rng_state(),
            "counters": torch.tensor([float(getattr(model, name)) for name in COUNTERS], dtype=torch.float64),
            "lr": torch.tensor([group["lr"] for group in model.optimizer.param_groups], dtype=torch.float64),
        }
        if model.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(model.device)
        with translate_dist_errors(), translate_checkpoint_errors():
            dcp.save(state, checkpoint_id=path)
        model.ranks.run_on_first(lambda: self._remove_all_but(path))

    def load(self, epoch: int) -> None:
        """Load the state after ``epoch`` epochs. A collective of all ranks.

        Raises:
            UsageError: it is the state of another model.
        """
        path = self.folder / f"epoch-{epoch}"
        check_metadata(path / LAST_WRITTEN)
        saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        sizes = sum_shard_sizes(saved)
        self._allocate_moments(sizes)
        state = self._named_tensors(collect_moments(self.model))
        for name in ("rng", "cuda_rng", "counters", "lr"):
            if name in saved:
                state[name] = _empty_like(saved[name])
        for key, tensor in state.items():
            (name, _, members), shape = parse_shard_name(key), tensor.shape
            if members > 1:
                shape = torch.Size((self.rows[_name_in_one_set(name)].size, *shape[1:]))
            if sizes.get(name) != shape:
                raise UsageError(f"{path} is of another model: it has no {name} of shape {tuple(shape)}")
        with translate_dist_errors(), translate_checkpoint_errors():
            dcp.load({name: tensor for name, tensor in state.items() if name in saved}, checkpoint_id=path)
            if otherwise_divided := {name: tensor for name, tensor in state.items() if name not in saved}:
                self._load_otherwise_divided(otherwise_divided, saved, path)
        if "counters" in state:
            self._restore_counters(state)
        logging.info(f"Resumed after {epoch} epochs, from {path}")

    def _allocate_moments(self, sizes: dict[str, torch.Size]) -> None:
        """Allocate the moments of the optimizer that the saved state has."""
        kinds = sorted({name.split(".")[KIND_AT[name.split(".")[0]]] for name in sizes if "." in name} - {WEIGHTS})
        some_rows = torch.zeros(len(self.model.own_sets))

        def kinds_of(parameter: str) -> dict[str, bool]:
            names = {kind: next(iter(self._by_sets(kind, {parameter: some_rows}))) for kind in kinds}
            return {kind: not sizes[name] for kind, name in names.items() if name in sizes}

        allocate_moments(self.model, kinds_of)

    def _restore_counters(self, state: dict[str, Tensor]) -> None:
        model = self.model
        for name, value in zip(COUNTERS, state["counters"].tolist(), strict=True):
            setattr(model, name, value if name == "_best_metric" else int(value))
        for group, lr in zip(model.optimizer.param_groups, state["lr"].tolist(), strict=True):
            group["lr"] = lr
        torch.set_rng_state(state["rng"])
        if model.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], model.device)

    def _load_otherwise_divided(self, state: dict[str, Tensor], saved: Mapping[str, Any], path: Path) -> None:
        """Load rows that another number of members had divided: each of these shards in turn, of all tensors."""
        members = max(parse_shard_name(name).members for name in saved)
        for first in range(members):
            names = {name: parse_shard_name(name).name + _shard_suffix(first, members) for name in state}
            parts = {
                saved_name: _empty_like(saved[saved_name], state[name].dtype) for name, saved_name in names.items()
            }
            dcp.load(parts, checkpoint_id=path)
            for name, saved_name in names.items():
                ids = self._own_ids(self.rows[_name_in_one_set(parse_shard_name(name).name)])
                source = parts[saved_name].to(state[name].device)
                copy_common_rows(state[name], ids, source, slice(first, ids.stop, members))

    def _named_tensors(self, moments: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return name -> tensor for this rank's sets and the head: weights and moments, not copied."""
        found: dict[str, Tensor] = {}
        for kind, tensors in {WEIGHTS: self.model.state_dict(), **moments}.items():
            found |= self._by_sets(kind, tensors)
        return found

    def _by_sets(self, kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        own_sets = self.model.own_sets
        found = {f"head.{kind}.{name}": x for name, x in select_shared(tensors).items()}
        for i, m in enumerate(own_sets):
            for name, x in slice_set(tensors, i, len(own_sets)).items():
                found[f"set.{m}.{kind}.{name}{self._shard_of(name) if x.ndim > 1 else ''}"] = x
        return found

    def _shard_of(self, name: str) -> str:
        shard = self.rows.get(name)
        return "" if shard is None else _shard_suffix(self._own_ids(shard).start, shard.members)

    def _own_ids(self, shard: Shard) -> slice:
        return shard.ids(self.model.grid.member if shard.members > 1 else 0)

    def _remove_all_but(self, path: Path) -> None:
        for other in self.folder.glob("epoch-*"):
            if other != path:
                shutil.rmtree(other)


class ShardName(NamedTuple):
    """The parts of ``name@first/members``: the rows of every ``members``-th id, from ``first`` on."""

    name: str
    first: int
    members: int


def parse_shard_name(name: str) -> ShardName:
    """Parse the name of a saved tensor; one that is not divided has one member."""
    match = SHARD.fullmatch(name)
    return ShardName(match[1], int(match[2]), int(match[3])) if match else ShardName(name, 0, 1)


def _shard_suffix(first: int, members: int) -> str:
    """Return what follows the name of a tensor that has the rows of every ``members``-th id, from ``first`` on."""
    return f"@{first}/{members}" if members > 1 else ""


def sum_shard_sizes(saved: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Return name without shard -> size, with the rows of shards summed.

    Args:
        saved: name -> metadata of torch.distributed.checkpoint.
    """
    sizes: dict[str, torch.Size] = {}
    for key, meta in saved.items():
        name, _, members = parse_shard_name(key)
        rows = sizes[name][0] if name in sizes else 0
        sizes[name] = torch.Size((rows + meta.size[0], *meta.size[1:])) if members > 1 else meta.size
    return sizes


def _empty_like(meta: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(meta.size, dtype=dtype or meta.properties.dtype)


def _name_in_one_set(name: str) -> str:
    """Map set.3.exp_avg.embedding_layer.… to embedding_layer.…"""
    return name.split(".", KIND_AT["set"] + 1)[-1]


@contextlib.contextmanager
def translate_checkpoint_errors() -> Iterator[None]:
    """Turn what torch.distributed.checkpoint raises for a failed rank, e.g. a full disk, into a ``RunError``."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = next(iter(error.failures.items()))
        text = " ".join(str(reason).split())[:200]
        raise RunError(f"the state to resume from could not be written or read on rank {rank}: {text}") from error
