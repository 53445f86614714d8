"""The norm of a gradient, and the value of a penalty, whose parts lie on several ranks."""

import torch

from fuxictr_me.distributed.weights import of_no_set


class Joint:
    """Takes the place of ``fuxictr_me.training.step.Alone`` in a step: what all ranks hold is counted by rank 0.

    Args:
        model (SetParallel)
    """

    def __init__(self, model):
        self.ranks = model.ranks
        self.heads = {id(p) for p in of_no_set(dict(model.named_parameters())).values()}

    def counted(self, parameters):
        """Those of ``parameters`` that this rank counts: its sets', on rank 0 the head's too."""
        return [p for p in parameters if self.ranks.is_first or id(p) not in self.heads]

    def whole(self, square, penalty):
        """‖gradient‖² and the regularisers' value of all parameters, in one all-reduce of two numbers."""
        penalty = penalty if isinstance(penalty, torch.Tensor) else torch.full_like(square, penalty)
        return self.ranks.sum(torch.stack([square, penalty])).unbind()
