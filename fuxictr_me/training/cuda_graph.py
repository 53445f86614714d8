"""Recorders, which turn a function of static tensors into one that is replayed."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch


class Recorder(Protocol):
    """The interface of recorders that ``RecordedSteps`` uses."""

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """Run ``function``. Return its result, and where it waited for the device (empty: nowhere)."""

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that does what ``function`` does."""


class CudaGraphRecorder:
    """Record the kernels that a function launches as one CUDA graph."""

    # One per device, because cuBLAS allocates memory for each stream and never frees it.
    streams: ClassVar[dict[torch.device, torch.cuda.Stream]] = {}

    def __init__(self, device: torch.device):
        self.device = device
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)
        self.stream = self.streams[device]

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """Run ``function`` on a side stream, as PyTorch requires before a recording.

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
        """Record ``function``. It is called once, and its kernels do not run.

        Returns:
            A function that runs the kernels and returns what ``function`` returned: tensors that the next replay
            overwrites.
        """
        with torch.cuda.device(self.device):
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            state, graph = generator.clone_state(), torch.cuda.CUDAGraph()
            # thread_local, because a loader's thread may pin memory during the recording
            recording = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        try:
            # A recording that fails stays on its own stream; the outer context restores the current one.
            with torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream(self.device)), recording:
                result = function()
        except BaseException:
            generator.graphsafe_set_state(state)  # or the generator would wait for the end of the recording
            raise

        def replay() -> Any:
            with torch.cuda.device(self.device):
                graph.replay()
            return result

        return replay


class CallRecorder:
    """A recorder without a graph: a replay calls the function again. It works on any device."""

    def warm_up(self, function: Callable[[], Any]) -> tuple[Any, str]:
        """Run ``function``. Waits for the device are not detected."""
        return function(), ""

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return ``function``."""
        return function
