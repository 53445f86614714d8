"""Training on several processes, on torch.distributed."""

from fuxictr_me.distributed.auto_engine import distribute_by_engine
from fuxictr_me.distributed.distributed_model import distribute
from fuxictr_me.distributed.ranks import Ranks, join_process_group, leave_process_group
from fuxictr_me.distributed.settings import check_class

__all__ = [
    "Ranks",
    "check_class",
    "distribute",
    "distribute_by_engine",
    "join_process_group",
    "leave_process_group",
]
