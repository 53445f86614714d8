"""Choose the runtime of a run: this process alone, or the processes that torchrun has started."""

from fuxictr_me.errors import UsageError
from fuxictr_me.runs.runtime import Runtime


def open_runtime(
    gpu: int = -1, engine: str | None = None, set_groups: int | None = None, resume: bool = False
) -> Runtime:
    """Return the runtime that the arguments of ``run_expid`` ask for.

    Args:
        gpu: CUDA device, -1 for the CPU.
        engine: of ``fuxictr_me.distributed``, or ``auto``; None for one process.
        set_groups: see ``TorchrunRuntime``.
        resume: see ``Runtime``.

    Raises:
        UsageError: an argument that one process has no use for.
    """
    if engine is None:
        if set_groups is not None:
            raise UsageError("--set-groups is for runs on several processes: it needs --engine, and torchrun")
        return Runtime(gpu, resume)
    from fuxictr_me.runs.torchrun import TorchrunRuntime  # torch.distributed takes time to import

    return TorchrunRuntime(gpu, engine, set_groups, resume)
