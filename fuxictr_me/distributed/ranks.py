"""The processes of one run, as one of them sees them: a thin layer on torch.distributed."""

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fuxictr_me.errors import RunError, UsageError

TIMEOUT = timedelta(minutes=10)  # a lost connection is noticed at once; this is for a rank that only falls silent
FROM_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
Result = TypeVar("Result")


class Ranks:
    """A member of a process group.

    Every method except ``send`` is a collective: all ranks of the group must call it, in the same order. If a rank has
    ended or does not answer, those that wait for it raise a ``RunError``.

    Args:
        group: None for all processes.

    Attributes:
        rank: this process in the group, 0 to R - 1.
        size: R.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._first = 0 if group is None else dist.get_global_rank(group, 0)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0. Of all processes, only rank 0 writes files, logs and shows progress."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks, on all of them. No gradient passes."""
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        if self.size > 1:
            with translate_dist_errors():
                dist.all_reduce(total, group=self.group)
        return total

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Overwrite ``tensor`` with that of rank 0, and return it."""
        of_first = tensor.detach().contiguous()
        with translate_dist_errors():
            dist.broadcast(of_first, src=self._first, group=self.group)
        return tensor.detach().copy_(of_first)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every rank's tensor, all of one shape, on all ranks."""
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with translate_dist_errors():
            dist.all_gather(parts, tensor.detach().contiguous(), group=self.group)
        return parts

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """Return the rows of every rank's tensor (n, ...), in the order of ranks, on all ranks. n may differ."""
        lengths = [int(n) for n in self.gather(torch.tensor(len(tensor), device=tensor.device))]
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor.detach()
        return torch.cat([part[:n] for part, n in zip(self.gather(padded), lengths, strict=True)])

    def exchange(self, parts: list[Tensor], sizes: list[int]) -> list[Tensor]:
        """Send part r to rank r.

        Args:
            parts: R tensors of one dtype, of any shape.
            sizes: how many numbers come from each rank.

        Returns:
            What came from each rank, flat.
        """
        outgoing = torch.cat([part.flatten() for part in parts])
        incoming = self.exchange_rows(outgoing, [part.numel() for part in parts], sizes)
        return list(incoming.split(sizes))

    def exchange_rows(self, tensor: Tensor, num_sent: list[int], num_received: list[int]) -> Tensor:
        """Send the first ``num_sent[0]`` rows of a tensor (n, ...) to rank 0, the next to rank 1, and so on.

        Args:
            tensor: (Σ num_sent, ...).
            num_sent, num_received: rows for each rank, and from each.

        Returns:
            (Σ num_received, ...), the rows from rank 0, then those from rank 1, and so on. No gradient passes.
        """
        incoming = tensor.new_empty(sum(num_received), *tensor.shape[1:])
        with translate_dist_errors():
            dist.all_to_all_single(incoming, tensor.detach().contiguous(), num_received, num_sent, group=self.group)
        return incoming

    def send(self, tensor: Tensor, source: int, target: int) -> Tensor:
        """Copy a tensor from rank ``source`` to that of rank ``target`` of all processes, through RAM.

        Only the two ranks need to call it. Return ``tensor``, which the target has filled.
        """
        with translate_dist_errors():
            if dist.get_rank() == source:
                dist.send(tensor.detach().cpu().contiguous(), target)
            elif dist.get_rank() == target:
                received = torch.empty(tensor.shape, dtype=tensor.dtype)
                dist.recv(received, source)
                tensor.detach().copy_(received)
        return tensor

    def run_on_first(self, function: Callable[[], Result]) -> Result | None:
        """Call ``function`` on rank 0. Return its result there, and None on the other ranks.

        Raises:
            UsageError, RunError, OSError: what it raised; on the other ranks with its message, an OSError as RunError.
        """
        result, failure = None, None
        if self.is_first:
            try:
                result = function()
            except (UsageError, RunError, OSError) as error:
                failure = error
        shared = [(isinstance(failure, UsageError), str(failure)) if failure else None]
        with translate_dist_errors():
            dist.broadcast_object_list(shared, src=self._first, group=self.group)
        if failure:
            raise failure
        if shared[0]:
            is_usage, message = shared[0]
            raise (UsageError if is_usage else RunError)(message)
        return result

    def check_equal(self, tensors: list[Tensor], what: str) -> None:
        """Check that tensors are the same on all ranks.

        Args:
            tensors: of any shapes; compared by the sums of their entries, bit for bit.
            what: their name in the message.

        Raises:
            RunError: they differ.
        """
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors]).nan_to_num()
        if any(not torch.equal(sums, other) for other in self.gather(sums)):
            raise RunError(f"the ranks have come apart: {what} differ between them")


def join_process_group(gpu: int = -1) -> tuple[Ranks, int]:
    """Join the other processes that torchrun has started.

    Args:
        gpu: -1 for the CPU; else every process takes the GPU of its number on its machine.

    Returns:
        All processes, and the GPU to use, -1 for the CPU.

    Raises:
        UsageError: torchrun has not started this process.
    """
    if lacking := [name for name in FROM_TORCHRUN if name not in os.environ]:
        raise UsageError(
            f"several processes are started by torchrun --nproc-per-node N -m fuxictr_me ...: {lacking[0]} is not set"
        )
    if gpu >= 0:
        gpu = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(gpu)
    with translate_dist_errors():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu >= 0 else "gloo", timeout=TIMEOUT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_terminated)
    ranks = Ranks()
    if not ranks.is_first:
        logging.getLogger().setLevel(logging.ERROR)
    return ranks, gpu


def _raise_terminated(*_: object) -> NoReturn:
    raise RunError("torchrun has ended this process, because another of this run ended; the last checkpoint is kept")


def leave_process_group() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def translate_dist_errors() -> Iterator[None]:
    """Turn what torch.distributed raises if a rank has ended into a ``RunError`` of one line."""
    try:
        yield
    except (RunError, UsageError):
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"another process of this run has ended or does not answer; the last checkpoint is kept ({reason})"
        ) from error


@contextlib.contextmanager
def translate_step_errors() -> Iterator[None]:
    """Do what ``translate_dist_errors`` does for a whole step, in which PyTorch itself exchanges gradients.

    Other errors pass unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search("gloo|NCCL|[Cc]onnection", str(error)):
            raise
        with translate_dist_errors():
            raise
