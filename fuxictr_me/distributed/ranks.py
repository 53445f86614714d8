"""The processes of one run, as one of them sees them: a thin layer on torch.distributed."""

import contextlib
import logging
import os
import re
import signal
import threading
from datetime import timedelta

import torch
import torch.distributed as dist

from fuxictr_me.errors import RunError, UsageError

TIMEOUT = timedelta(minutes=10)  # a lost connection tells at once; this is for a rank that only falls silent
FROM_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """A member of a process group.

    Every method is a collective: all ranks of the group must call it, in the same order. Where a rank has died or does
    not answer, those who wait for it raise a ``RunError``.

    Args:
        group (ProcessGroup or None): None: all processes.

    Attributes:
        rank (int): this process in the group, 0 to R - 1.
        size (int): R.
    """

    def __init__(self, group=None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._first = 0 if group is None else dist.get_global_rank(group, 0)

    @property
    def is_first(self):
        """Whether this is rank 0, which of all processes alone writes files, logs and shows progress."""
        return self.rank == 0

    def sum(self, tensor):
        """The sum over the ranks of a tensor of one shape, on all of them; no gradient passes."""
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        if self.size > 1:
            with answered():
                dist.all_reduce(total, group=self.group)
        return total

    def broadcast(self, tensor):
        """Overwrite ``tensor`` with that of rank 0; returns it."""
        of_first = tensor.detach().contiguous()
        with answered():
            dist.broadcast(of_first, src=self._first, group=self.group)
        return tensor.detach().copy_(of_first)

    def gather(self, tensor):
        """A list of every rank's tensor, all of one shape, on all ranks."""
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with answered():
            dist.all_gather(parts, tensor.detach().contiguous(), group=self.group)
        return parts

    def gather_rows(self, tensor):
        """The rows of every rank's tensor (n, ...), n of its own, one rank's after another's, on all ranks."""
        lengths = [int(n) for n in self.gather(torch.tensor(len(tensor), device=tensor.device))]
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor.detach()
        return torch.cat([part[:n] for part, n in zip(self.gather(padded), lengths, strict=True)])

    def exchange(self, parts, sizes):
        """Give part r to rank r.

        Args:
            parts (list of Tensor): R of one dtype, any shape.
            sizes (list of int): how many numbers come from each rank.

        Returns:
            list of Tensor: what came from each rank, flat.
        """
        outgoing = torch.cat([part.flatten() for part in parts])
        incoming = self.exchange_rows(outgoing, [part.numel() for part in parts], sizes)
        return list(incoming.split(sizes))

    def exchange_rows(self, tensor, sent, got):
        """Give the first ``sent[0]`` rows of a tensor (n, ...) to rank 0, the next to rank 1, ...

        Args:
            tensor (Tensor): (Σ sent, ...).
            sent, got (list of int): rows for each rank, and from each.

        Returns:
            Tensor: (Σ got, ...), the rows from rank 0, then those from rank 1, ...; no gradient passes.
        """
        incoming = tensor.new_empty(sum(got), *tensor.shape[1:])
        with answered():
            dist.all_to_all_single(incoming, tensor.detach().contiguous(), got, sent, group=self.group)
        return incoming

    def move(self, tensor, source, target):
        """From rank ``source`` to rank ``target`` of all processes, which gives a tensor to be filled; through RAM.

        Only the two ranks need to call it.
        """
        with answered():
            if dist.get_rank() == source:
                dist.send(tensor.detach().cpu().contiguous(), target)
            elif dist.get_rank() == target:
                received = torch.empty(tensor.shape, dtype=tensor.dtype)
                dist.recv(received, source)
                tensor.detach().copy_(received)
        return tensor

    def on_first(self, function):
        """Do something on rank 0 alone; returns there what it gives, elsewhere None.

        Raises:
            UsageError, RunError, OSError: what it raised; on the other ranks with its message, an OSError as RunError.
        """
        result, failure = None, None
        if self.is_first:
            try:
                result = function()
            except (UsageError, RunError, OSError) as error:
                failure = error
        told = [(isinstance(failure, UsageError), str(failure)) if failure else None]
        with answered():
            dist.broadcast_object_list(told, src=self._first, group=self.group)
        if failure:
            raise failure
        if told[0]:
            is_usage, message = told[0]
            raise (UsageError if is_usage else RunError)(message)
        return result

    def check_alike(self, tensors, what):
        """Refuse to go on where ranks differ in what must be the same for all.

        Args:
            tensors (list of Tensor): of any shapes; compared by the sums of their entries, bit for bit.
            what (str): for the message.

        Raises:
            RunError
        """
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors]).nan_to_num()
        if any(not torch.equal(sums, other) for other in self.gather(sums)):
            raise RunError(f"the ranks have come apart: {what} differ between them")


def start(gpu=-1):
    """Join the other processes that torchrun has started.

    Args:
        gpu (int): -1 for the CPU; else every process takes the GPU of its number on its machine.

    Returns:
        (Ranks, int): and the GPU to use, -1 for the CPU.

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
    with answered():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu >= 0 else "gloo", timeout=TIMEOUT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    ranks = Ranks()
    if not ranks.is_first:
        logging.getLogger().setLevel(logging.ERROR)
    return ranks, gpu


def _terminated(*_):
    raise RunError("torchrun has ended this process, as another of this run ended; the last checkpoint stays whole")


def stop():
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def answered():
    """What torch.distributed says of a rank that is gone, as a ``RunError`` of one line."""
    try:
        yield
    except (RunError, UsageError):
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"another process of this run has ended or does not answer; the last checkpoint stays whole ({reason})"
        ) from error


@contextlib.contextmanager
def answered_in_a_step():
    """``answered`` around a whole step, where PyTorch itself exchanges gradients; other errors pass as they are."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not re.search("gloo|NCCL|[Cc]onnection", str(error)):
            raise
        with answered():
            raise
