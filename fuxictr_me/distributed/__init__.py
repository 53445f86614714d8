"""Training on several processes, on torch.distributed."""

from fuxictr_me.distributed.asked import distribute_as_asked
from fuxictr_me.distributed.model import distribute
from fuxictr_me.distributed.ranks import Ranks, start, stop
from fuxictr_me.distributed.settings import check_class
from fuxictr_me.distributed.weights import to_rank, to_whole

__all__ = ["Ranks", "check_class", "distribute", "distribute_as_asked", "start", "stop", "to_rank", "to_whole"]
