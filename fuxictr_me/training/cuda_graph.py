"""Recorders: what turns a function of static tensors into one that is replayed."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch


class Recorder(Protocol):
    """What ``RecordedSteps`` needs to record a function of static tensors and to replay it."""

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """Run ``function``; returns its result, and where it waited for the device (empty: nowhere)."""

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that does what ``function`` does."""


class CudaGraphRecorder:
    """Record the kernels that a function launches as one CUDA graph.

    Args:
        device (torch.device): a CUDA device.
    """

    streams: ClassVar[dict] = {}  # one a device: for each, cuBLAS takes memory that it never gives back

    def __init__(self, device: torch.device):
        self.device = device
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)
        self.stream = self.streams[device]

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """Run ``function`` on a side stream, as PyTorch asks for before a recording.

        Returns:
            Its result, and where it waited for the device (empty: nowhere), which cannot be recorded.
        """
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        mode = torch.cuda.get_sync_debug_mode()
        with (
            torch.cuda.device(self.device),
            torch.cuda.stream(self.stream),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = function()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        current.wait_stream(self.stream)
        waits = [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing CUDA operation" in str(w.message)]
        return result, ", ".join(dict.fromkeys(waits))

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Record ``function``, which is called once and whose kernels do not run.

        Returns:
            What runs the kernels and returns what ``function`` returned: tensors that the next replay overwrites.
        """
        with torch.cuda.device(self.device):
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            state, graph = generator.clone_state(), torch.cuda.CUDAGraph()
            # thread_local: a loader's thread may pin memory meanwhile
            recording = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        try:
            # the outer stream is there to come back to, for a recording that fails stays on its own
            with torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream(self.device)), recording:
                result = function()
        except BaseException:
            generator.graphsafe_set_state(state)  # a recording that failed would leave it waiting for its end
            raise

        def replay() -> Any:
            with torch.cuda.device(self.device):
                graph.replay()
            return result

        return replay


class CallRecorder:
    """The same interface without a graph: a replay calls the function again. It runs on any device."""

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """As ``CudaGraphRecorder.warm_up``; nothing is known of waits."""
        return function(), ""

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """As ``CudaGraphRecorder.record``."""
        return function
