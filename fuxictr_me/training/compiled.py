"""torch.compile, with a way back."""

import logging

import torch


class CompiledOrEager:
    """``function`` through ``torch.compile``; where that fails, a line in the log says why and ``function`` goes on.

    On a GPU its kernels are replayed as CUDA graphs.

    Args:
        function (callable)
        device (torch.device): where it runs.
    """

    def __init__(self, function, device):
        self.function, self.device = function, device
        self.compiled, self.works = None, True

    def __call__(self, *args):
        if self.works:
            try:
                if self.compiled is None:
                    mode = "reduce-overhead" if self.device.type == "cuda" else "default"
                    self.compiled = torch.compile(self.function, mode=mode, dynamic=False)
                return self.compiled(*args)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                logging.warning(f"compile: True is left out, torch.compile failed: {type(error).__name__}: {reason}")
                logging.debug("torch.compile", exc_info=error)
                self.works = False
        return self.function(*args)
