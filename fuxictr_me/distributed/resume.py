"""What a run needs to go on after an epoch, written by torch.distributed.checkpoint, set by set."""

import contextlib
import logging
import shutil
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from fuxictr_me.distributed.optimizer_state import make_room, moments
from fuxictr_me.distributed.ranks import answered
from fuxictr_me.distributed.weights import of_no_set, of_set
from fuxictr_me.errors import RunError, UsageError

COUNTERS = ("_total_steps", "_best_metric", "_stopping_steps", "_stop_training")
WHOLE = ".metadata"  # which torch.distributed.checkpoint writes last
WEIGHTS = "weights"
KIND_AT = {"set": 2, "head": 1}  # where in a name stands what it is: set.3.exp_avg.…, head.exp_avg.…


class Progress:
    """The state of a set-parallel run after each epoch, in ``folder/epoch-N``; one that is not whole is not used.

    Names are those of sets (``set.3.exp_avg.…``), so another number of ranks, or one, can go on. The head is written
    once. What torch.distributed.checkpoint writes beside the tensors is a pickle: resume your own runs alone.

    Args:
        model (SetParallel)
        folder (str or Path): seen by all ranks.
    """

    def __init__(self, model, folder):
        self.model, self.folder = model, Path(folder)

    def last(self):
        """The number of epochs that are done, 0 where there is nothing to resume."""
        found = [path.parent.name for path in self.folder.glob(f"epoch-*/{WHOLE}")]
        epochs = [int(name.removeprefix("epoch-")) for name in found]
        done = self.model.ranks.broadcast(torch.tensor(max(epochs, default=0), device=self.model.device))
        return int(done)

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
        saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        kinds = sorted({name.split(".")[KIND_AT[name.split(".")[0]]] for name in saved if "." in name} - {WEIGHTS})

        def kinds_of(parameter):
            names = {kind: next(iter(self._by_sets(kind, {parameter: torch.zeros(len(model.own))}))) for kind in kinds}
            return {kind: not saved[name].size for kind, name in names.items() if name in saved}

        make_room(model, kinds_of)
        state = self._tensors(moments(model))
        for name in ("rng", "cuda_rng", "counters", "lr"):
            if name in saved:
                state[name] = torch.empty(saved[name].size, dtype=saved[name].properties.dtype)
        for name, tensor in state.items():
            if name not in saved or saved[name].size != tensor.shape:
                raise UsageError(f"{path} is of another model: it has no {name} of shape {tuple(tensor.shape)}")
        with answered(), written():
            dcp.load(state, checkpoint_id=path)
        for name, value in zip(COUNTERS, state["counters"].tolist(), strict=True):
            setattr(model, name, value if name == "_best_metric" else int(value))
        for group, lr in zip(model.optimizer.param_groups, state["lr"].tolist(), strict=True):
            group["lr"] = lr
        torch.set_rng_state(state["rng"])
        if model.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], model.device)
        logging.info(f"Resumed after {epoch} epochs, {model._total_steps} steps, from {path}")

    def _tensors(self, of_optimizer):
        """name -> Tensor, of this rank's sets and of the head: weights and moments, in place."""
        found = {}
        for kind, tensors in {WEIGHTS: self.model.state_dict(), **of_optimizer}.items():
            found |= self._by_sets(kind, tensors)
        return found

    def _by_sets(self, kind, tensors):
        own, found = self.model.own, {f"head.{kind}.{name}": x for name, x in of_no_set(tensors).items()}
        for at, m in enumerate(own):
            found |= {f"set.{m}.{kind}.{name}": x for name, x in of_set(tensors, at, len(own)).items()}
        return found

    def _remove_all_but(self, path):
        for other in self.folder.glob("epoch-*"):
            if other != path:
                shutil.rmtree(other)


@contextlib.contextmanager
def written():
    """What torch.distributed.checkpoint says of a rank that failed, a full disk, as a ``RunError`` of one line."""
    try:
        yield
    except CheckpointException as error:
        rank, (reason, _) = next(iter(error.failures.items()))
        text = " ".join(str(reason).split())[:200]
        raise RunError(f"the state to resume from could not be written or read on rank {rank}: {text}") from error
