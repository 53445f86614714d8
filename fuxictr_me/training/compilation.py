"""torch.compile, with a way back."""

import logging

import torch

LARGEST_MEAN = 16  # sets whose mean is computed as a sum that is written out, which is faster than a loop


class CompiledOrEager:
    """``function`` through ``torch.compile``; where that fails, a line in the log says why and ``function`` goes on.

    It is compiled once, for the first batch size; other batches (the last of an epoch) go to ``function`` itself.

    Args:
        function (callable): takes a list of tensors (B, ...) first.
        device (torch.device): where it runs.

    Attributes:
        has_graphs (bool): on a GPU, whether its kernels are replayed as CUDA graphs of their own; not where the whole
            step is recorded.
    """

    def __init__(self, function, device):
        self.function, self.device, self.has_graphs = function, device, device.type == "cuda"
        self.compiled, self.works, self.rows = None, True, None

    def use_graphs(self, has_graphs: bool) -> None:
        """Set ``has_graphs``; the function is compiled anew if it changes."""
        if self.device.type == "cuda" and has_graphs != self.has_graphs:
            self.has_graphs, self.compiled = has_graphs, None

    def __call__(self, first, *args):
        if self.compiled is None:
            self.rows = first[0].shape[0]
        if self.works and first[0].shape[0] == self.rows:
            try:
                if self.compiled is None:
                    options = {"unroll_reductions_threshold": LARGEST_MEAN, "triton.cudagraphs": self.has_graphs}
                    self.compiled = torch.compile(self.function, options=options, dynamic=False)
                return self.compiled(first, *args)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                logging.warning(f"compile: True is left out, torch.compile failed: {type(error).__name__}: {reason}")
                logging.debug("torch.compile", exc_info=error)
                self.works = False
        return self.function(first, *args)
