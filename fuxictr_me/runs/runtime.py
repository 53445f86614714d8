"""How a run is spread over processes: in one process, or over those that torchrun has started."""

from types import TracebackType
from typing import Any

from fuxictr_me.compat import BaseModel
from fuxictr_me.runs.resume_file import resume_training


class Runtime:
    """The processes of a run, as one of them sees them. It is a context manager that joins and leaves them.

    This class is a run in one process. ``TorchrunRuntime`` overrides it for several.

    Args:
        gpu: CUDA device, -1 for the CPU.
        resume: keep what is needed to continue after each epoch in ``<expid>.resume`` beside the checkpoint, and
            continue from there if it exists.

    Attributes:
        gpu: CUDA device of this process, -1 for the CPU.
        num_processes: how many processes train the model.
        is_first: whether this process writes files and logs; no other one does.
        options: what the runtime adds to the command in the row of results.
        epochs_before, seconds_before: of the processes from which this run was resumed.
    """

    num_processes = 1
    is_first = True
    options = ""
    epochs_before, seconds_before = 0, 0.0

    def __init__(self, gpu: int = -1, resume: bool = False):
        self.gpu, self.resume = gpu, resume

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave the other processes, if there are any."""

    def check_model(self, model_class: type[BaseModel]) -> None:
        """Raise a ``UsageError`` if these processes cannot train a model of this class."""

    def place_model(self, model_class: type[BaseModel], feature_map: Any, params: dict) -> type[BaseModel]:
        """Return the class of the part of the model that this process holds."""
        return model_class

    def find_share(self, model: BaseModel) -> tuple[int, int] | None:
        """Return which rows this process reads, as ``H5DataLoader`` takes ``share``; None for all rows."""
        return None

    def prepare_training(self, model: BaseModel, params: dict, started: float) -> None:
        """Let ``fit`` resume, if this run can be resumed.

        Args:
            model: before ``fit``.
            params: settings of the run.
            started: time at which the run began, by ``time.perf_counter``.

        Raises:
            UsageError: there is a state of another run.
        """
        if self.resume:
            file = resume_training(model, params, started)
            self.epochs_before, self.seconds_before = file.epochs_done, file.seconds_before

    def fit_arguments(self, model: BaseModel) -> dict[str, Any]:
        """Return arguments that ``fit`` takes from the runtime."""
        return {}

    def describe(self, model: BaseModel) -> dict[str, Any]:
        """Return what a result records of the processes."""
        resumed = {"resumed_after_epochs": self.epochs_before} if self.epochs_before else {}
        return {"processes": self.num_processes, **resumed}
