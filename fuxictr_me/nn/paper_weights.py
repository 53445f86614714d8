"""``network_initializer: paper``, module by module."""

from torch import nn

from fuxictr_me.nn.set_linear import SetLinear


def initialise_as_paper(module: nn.Module) -> None:
    """Apply PyTorch's defaults, and a module's ``init_paper_weights``; inner modules come before outer ones."""
    if isinstance(module, nn.Linear | nn.Conv1d | SetLinear):
        module.reset_parameters()
    elif (initialise := getattr(module, "init_paper_weights", None)) is not None:
        initialise()
