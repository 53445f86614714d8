"""Imports of the server from which processes of the tests are forked, so that they need not import anything.

Only that server imports this module. ``gc.freeze`` keeps garbage collections in forked processes from visiting, and so
copying, all of this memory.
"""

import atexit
import gc

import torch._dynamo  # noqa: F401  (which the first optimizer imports otherwise)

import fuxictr_me.runs.experiment
import fuxictr_me.zoo.host  # noqa: F401
from helpers import rank_worker  # noqa: F401

gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # of the server, so that libraries free their memory when it ends
