"""Run a model without a trace: random states, running statistics and training modes are as before."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Restore random states, running statistics and the training mode of every module at the end of the context."""
    states = random.getstate(), np.random.get_state()
    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
