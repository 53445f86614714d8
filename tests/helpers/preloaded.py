"""What processes of the tests need, imported once: they are forked off a server that has it.

Imported by that server alone. ``gc.freeze`` lets no garbage collection of theirs go through, and copy, all of it.
"""

import atexit
import gc

import torch._dynamo  # noqa: F401  (which the first optimizer imports otherwise)

import fuxictr_me.runs.experiment
import fuxictr_me.zoo.host  # noqa: F401
from helpers import rank_worker  # noqa: F401

gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # of the server: what libraries hold is given back when it ends
