"""How a run is spread over processes: in one process, or over those that torchrun has started."""

from types import TracebackType
from typing import Any, Protocol

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError


class Runtime(Protocol):
    """The processes of a run, as one of them sees them. It is a context manager that joins and leaves them.

    Attributes:
        gpu: CUDA device of this process, -1 for the CPU.
        num_processes: how many processes train the model.
        is_first: whether this process alone writes files and logs.
        options: what the runtime adds to the command in the row of results.
    """

    gpu: int
    num_processes: int
    is_first: bool
    options: str

    def __enter__(self) -> "Runtime": ...

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None: ...

    def check_model(self, model_class: type[BaseModel]) -> None:
        """Raise a ``UsageError`` if these processes cannot train a model of this class."""

    def place_model(self, model_class: type[BaseModel], feature_map: object, params: dict) -> type[BaseModel]:
        """Return the class of the part of the model that this process holds."""

    def find_share(self, model: BaseModel) -> tuple[int, int] | None:
        """Return which rows this process reads, as ``H5DataLoader`` takes ``share``; None for all rows."""

    def fit_arguments(self, model: BaseModel) -> dict[str, Any]:
        """Return arguments that ``fit`` takes from the runtime."""

    def describe(self, model: BaseModel) -> dict[str, Any]:
        """Return what a result records of the processes."""


class OneProcess:
    """A run in this process alone."""

    num_processes, is_first, options = 1, True, ""

    def __init__(self, gpu: int = -1):
        self.gpu = gpu

    def __enter__(self) -> "OneProcess":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Do nothing: there is nothing to leave."""

    def check_model(self, model_class: type[BaseModel]) -> None:
        """Do nothing: one process can train any model."""

    def place_model(self, model_class: type[BaseModel], feature_map: object, params: dict) -> type[BaseModel]:
        """Return the class itself."""
        return model_class

    def find_share(self, model: BaseModel) -> tuple[int, int] | None:
        """Return None: this process reads all rows."""
        return None

    def fit_arguments(self, model: BaseModel) -> dict[str, Any]:
        """Return no arguments."""
        return {}

    def describe(self, model: BaseModel) -> dict[str, Any]:
        """Return that there is one process."""
        return {"processes": 1}


def open_runtime(
    gpu: int = -1, engine: str | None = None, set_groups: int | None = None, resume: bool = False
) -> Runtime:
    """Return the runtime that the arguments of ``run_expid`` ask for.

    Args:
        gpu: CUDA device, -1 for the CPU.
        engine: of ``fuxictr_me.distributed``, or ``auto``; None for one process.
        set_groups, resume: see ``TorchrunRuntime``.

    Raises:
        UsageError: an argument that one process has no use for.
    """
    if engine is None:
        if resume or set_groups is not None:
            option = "--resume" if resume else "--set-groups"
            raise UsageError(f"{option} is for runs on several processes: it needs --engine, and torchrun")
        return OneProcess(gpu)
    from fuxictr_me.runs.torchrun import TorchrunRuntime  # torch.distributed takes time to import

    return TorchrunRuntime(gpu, engine, set_groups, resume)
