"""The runtime of a run on the processes that torchrun has started."""

from types import TracebackType
from typing import Any

from fuxictr_me.compat import BaseModel
from fuxictr_me.distributed import check_class, distribute_by_engine, join_process_group, leave_process_group
from fuxictr_me.errors import UsageError
from fuxictr_me.runs.resume_file import find_resume_path
from fuxictr_me.runs.runtime import Runtime


class TorchrunRuntime(Runtime):
    """A run on several processes, which share the model.

    Args:
        gpu: -1 for the CPU; else every process takes the GPU of its number on its machine.
        engine: ``set-parallel``, ``sharded``, ``ddp``, or ``auto``, which chooses by estimates.
        set_groups: with ``set-parallel``: number of groups of ranks among which the sets are divided.
        resume: keep what is needed to continue after each epoch in ``<expid>.resume`` beside the checkpoint, and
            continue from there if it exists.
    """

    def __init__(self, gpu: int, engine: str, set_groups: int | None = None, resume: bool = False):
        super().__init__(gpu, resume)
        self.engine, self.set_groups = engine, set_groups
        self.options = f" --engine {engine}"

    def __enter__(self) -> "TorchrunRuntime":
        """Join the other processes.

        Raises:
            UsageError: torchrun has not started this process.
        """
        self.ranks, self.gpu = join_process_group(self.gpu)
        self.num_processes, self.is_first = self.ranks.size, self.ranks.is_first
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave the process group, unless the run has failed: then the others may no longer answer."""
        if error is None:
            leave_process_group()

    def check_model(self, model_class: type[BaseModel]) -> None:
        check_class(model_class)

    def place_model(self, model_class: type[BaseModel], feature_map: Any, params: dict) -> type[BaseModel]:
        return distribute_by_engine(model_class, feature_map, params, self.ranks, self.engine, self.set_groups)

    def find_share(self, model: BaseModel) -> tuple[int, int] | None:
        return model.share

    def prepare_training(self, model: BaseModel, params: dict, started: float) -> None:
        """Refuse to resume from the state of one process, which is a file. ``fit`` itself resumes."""
        path = find_resume_path(model)
        if self.resume and path.is_file():
            raise UsageError(f"{path} is of a run in one process: continue it without --engine, or move it away")

    def fit_arguments(self, model: BaseModel) -> dict[str, Any]:
        """Return where the state of the run is kept, if it can be resumed."""
        return {"resume_from": find_resume_path(model)} if self.resume else {}

    def describe(self, model: BaseModel) -> dict[str, Any]:
        return {**super().describe(model), "engine": str(model.engine)}
