"""torch.compile with a fallback."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGEST_MEAN = 16  # up to this number of sets, a mean is compiled to a written-out sum, which is faster than a loop


class CompiledOrEager:
    """A function run through ``torch.compile``. If that fails, a log line says why, and the function runs eagerly.

    It is compiled once, for the first batch size. Other batches (the last of an epoch) are computed eagerly.

    Args:
        function: takes a list of tensors (B, ...) first.
        device: where it runs.

    Attributes:
        has_graphs: whether its kernels are replayed as CUDA graphs. That needs a GPU, and a step that is not recorded
            as a whole.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device):
        self.function, self.device, self.has_graphs = function, device, device.type == "cuda"
        self.compiled: Callable[..., Any] | None = None
        self.works, self.rows = True, -1

    def use_graphs(self, has_graphs: bool) -> None:
        """Set ``has_graphs``. The function is compiled again if it changes."""
        if self.device.type == "cuda" and has_graphs != self.has_graphs:
            self.has_graphs, self.compiled = has_graphs, None

    def __call__(self, first: list[Tensor], *args: Any) -> Any:
        if self.compiled is None:
            self.rows = first[0].shape[0]
        if self.works and first[0].shape[0] == self.rows:
            try:
                if self.compiled is None:
                    options: dict[str, Any] = {
                        "unroll_reductions_threshold": LARGEST_MEAN,
                        "triton.cudagraphs": self.has_graphs,
                    }
                    self.compiled = torch.compile(self.function, options=options, dynamic=False)
                return self.compiled(first, *args)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                logging.warning(f"compile: True has no effect, torch.compile failed: {type(error).__name__}: {reason}")
                logging.debug("torch.compile", exc_info=error)
                self.works = False
        return self.function(first, *args)
