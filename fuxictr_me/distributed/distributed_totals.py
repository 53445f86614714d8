"""The gradient norm and the loss of a model whose parameters lie on several ranks."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Parameter

from fuxictr_me.distributed.sharded_table import find_sharded_tables
from fuxictr_me.distributed.weights_by_set import select_shared
from fuxictr_me.training.step import LocalTotals

if TYPE_CHECKING:
    from fuxictr_me.distributed.distributed_model import DistributedModel


class DistributedTotals(LocalTotals):
    """Sum the norm and the loss over ranks.

    A parameter that several ranks hold is counted by one of them: the head by rank 0, a set's parameters by member 0
    of its group. Of a sharded table each rank counts its own rows.
    """

    def __init__(self, model: "DistributedModel"):
        self.grid, self.tables_by_rows = model.grid, model.engine.name != "ddp"
        self.heads = {id(p) for p in select_shared(dict(model.named_parameters())).values()}
        self.sharded = {id(table.weight) for table in find_sharded_tables(model).values()}

    def select_counted(self, parameters: list[Parameter]) -> list[Parameter]:
        """Return the parameters that this rank counts."""
        is_first, is_member_0 = self.grid.all.is_first, self.grid.within.is_first
        return [p for p in parameters if id(p) in self.sharded or (is_first if id(p) in self.heads else is_member_0)]

    def join(self, square: Tensor | float, loss: Tensor, penalty: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return the total of ‖gradient‖² and the loss with regularisers, in one all-reduce of two numbers."""
        value = penalty + loss if self.grid.across.is_first else penalty  # all groups compute the same predictions
        parts = torch.stack([torch.as_tensor(x, dtype=loss.dtype, device=loss.device) for x in (square, value)])
        total_square, total_loss = self.grid.all.sum(parts).unbind()
        return total_square, total_loss
