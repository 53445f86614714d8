"""The choice of the fastest dense update of a fused table."""

from types import ModuleType

import torch

from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.one_pass import OnePassRows, SweptRows
from fuxictr_me.training.table_updates import DenseRows, find_kernels


def choose_dense_update(
    table: FusedTable,
    optimizer: torch.optim.Optimizer,
    l1: float = 0.0,
    l2: float = 0.0,
    on_cpu: bool | None = None,
    kernels: ModuleType | None = None,
) -> DenseRows:
    """Return the fastest dense update: in one pass over the memory with Adam, ``DenseRows`` with other optimizers.

    Args:
        table, optimizer, l1, l2: see ``DenseRows``.
        on_cpu: where it runs; None: where the table lies.
        kernels: None for those of ``find_kernels``.
    """
    on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
    variants = ("amsgrad", "maximize", "decoupled_weight_decay")  # of Adam, some in newer versions of PyTorch
    group = optimizer.param_groups[0]
    if type(optimizer) is not torch.optim.Adam or any(group.get(variant) for variant in variants):
        return DenseRows(table, optimizer, l1, l2)
    if on_cpu:
        return SweptRows(table, optimizer, l1, l2)
    kernels = kernels or find_kernels(table.weight)
    if kernels is None:
        return DenseRows(table, optimizer, l1, l2)
    return OnePassRows(table, optimizer, l1, l2, kernels)
