"""Training on several processes, on torch.distributed."""

from fuxictr_me.distributed.distributed_model import distribute
from fuxictr_me.distributed.ranks import Ranks, start, stop
from fuxictr_me.distributed.resolve_engine import distribute_as_asked
from fuxictr_me.distributed.settings import check_class
from fuxictr_me.distributed.weights_by_set import to_rank, to_whole

__all__ = ["Ranks", "check_class", "distribute", "distribute_as_asked", "start", "stop", "to_rank", "to_whole"]
