"""The norm of a gradient, the loss and the value of a penalty, whose parts lie on several ranks."""

import torch

from fuxictr_me.distributed.sharded_table import sharded_tables
from fuxictr_me.distributed.weights_by_set import of_no_set


class Joint:
    """Takes the place of ``fuxictr_me.training.step.Alone`` in a step.

    What several ranks hold is counted by one of them: the head by rank 0, what is a set's by member 0 of its group. Of
    a sharded table each counts its rows.

    Args:
        model (Distributed)
    """

    def __init__(self, model):
        self.grid, self.tables_by_rows = model.grid, model.engine.name != "ddp"
        self.heads = {id(p) for p in of_no_set(dict(model.named_parameters())).values()}
        self.divided = {id(table.weight) for table in sharded_tables(model).values()}

    def counted(self, parameters):
        """Those of ``parameters`` that this rank counts."""
        is_first, is_member_0 = self.grid.all.is_first, self.grid.within.is_first
        return [p for p in parameters if id(p) in self.divided or (is_first if id(p) in self.heads else is_member_0)]

    def whole(self, square, loss, penalty):
        """‖gradient‖² of all parameters, and the loss with regularisers, in one all-reduce of two numbers."""
        value = penalty + loss if self.grid.across.is_first else penalty  # groups have the same predictions
        parts = torch.stack([torch.as_tensor(x, dtype=loss.dtype, device=loss.device) for x in (square, value)])
        return self.grid.all.sum(parts).unbind()
