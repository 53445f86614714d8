"""What several ranks can train, and which of a run's settings a rank's own model has."""

import inspect

from fuxictr_me.compat import BaseModel
from fuxictr_me.distributed.aggregation import AGGREGATIONS
from fuxictr_me.distributed.sharded_abundance import AbundanceOverRanks
from fuxictr_me.distributed.sharded_table import sharded_tables
from fuxictr_me.errors import UsageError
from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.models.assembly import check_options
from fuxictr_me.models.penalty_terms import PENALTIES
from fuxictr_me.nn.embedding_settings import resolve_embedding_dims
from fuxictr_me.training import FastTraining
from fuxictr_me.training.callbacks import InformationAbundance, build

NOT_BY_ENTRY = ("Adafactor", "LBFGS", "Muon")  # optimizers whose step of one entry depends on others


def check_class(model_class):
    """Refuse a model that is not made of our parts, or has a loss of its own.

    Raises:
        UsageError: one line that gives the reason.
    """
    if not issubclass(model_class, MultiEmbeddingModel):
        raise UsageError(f"several processes train the models of fuxictr_me, and {model_class.__name__} is none")
    own_loss = (model_class.compute_loss, model_class.regularization_loss)
    if own_loss != (BaseModel.compute_loss, FastTraining.regularization_loss):
        raise UsageError(f"several processes need FuxiCTR's loss, and {model_class.__name__} has one of its own")


def all_dims(get):
    """K of each of the M sets, as the whole model would have them.

    Args:
        get (Settings)

    Raises:
        UsageError: settings that cannot be, or not on several ranks.
    """
    dims, num_sets, interactions = get("embedding_dim"), get("num_sets"), get("interactions")
    if num_sets is None and not isinstance(dims, list | tuple):
        num_sets = len(interactions) if interactions else 4
    dims = resolve_embedding_dims(dims, num_sets)
    if reason := _reason_against(get, dims):
        raise UsageError(f"a model on several processes {reason}")
    check_options(len(dims), get("aggregation"), get("nonlinear_projection"), False, dims)
    return dims


def check_engine(model):
    """Refuse an engine that a model's tables, or their updates, do not go with.

    Args:
        model (Distributed)

    Raises:
        UsageError: one line that gives the reason.
    """
    engine, updates = model.engine, model.embedding_updates
    if engine.shards and not sharded_tables(model):
        raise UsageError(
            f"{engine} divides the rows of the fused table, and there is none: it needs fused_embedding: True "
            "and a plain categorical field"
        )
    if engine.name == "ddp" and updates != "dense":
        raise UsageError(f"ddp updates every row: it needs embedding_updates: dense, got {updates}")


def settings_of_rank(get, own, dim, ranks, grid):
    """The settings of the model that holds the sets ``own`` (range), of dimension ``dim``, alone.

    What would be refused of a model of one set is left to ``Distributed.assemble``.
    """
    changed = {
        "num_sets": len(own),
        "embedding_dim": dim,
        "aggregation": "mean",
        "nonlinear_projection": True,
        "first_set_checkpoint": get("first_set_checkpoint") if 0 in own else None,
        "callbacks": [AbundanceOverRanks(grid, callback.tensorboard) for callback in build(get("callbacks"))],
        "verbose": get("verbose") if ranks.is_first else 0,
    }
    if get("interactions"):
        changed["interactions"] = [get("interactions")[m] for m in own]
    return {**get.given, **changed}


class Settings:
    """What a setting is: as given, else the default of the constructor that takes it."""

    def __init__(self, model_class, given):
        self.given, self.defaults = given, {}
        for cls in reversed(model_class.__mro__):
            if "__init__" in vars(cls):
                arguments = inspect.signature(vars(cls)["__init__"]).parameters.values()
                self.defaults |= {a.name: a.default for a in arguments if a.default is not a.empty}

    def __call__(self, name):
        return self.given.get(name, self.defaults.get(name))


def _reason_against(get, dims):
    if get("aggregation") not in AGGREGATIONS:
        return f"needs aggregation {' or '.join(AGGREGATIONS)}, got {get('aggregation')!r}"
    if len(set(dims)) > 1:
        return f"needs sets of one embedding_dim, got {dims}"
    if len(set(get("interactions") or ())) > 1:
        return f"needs one interaction for all sets, got {list(get('interactions'))}"
    for option in ("shared_interaction", "compile"):
        if get(option):
            return f"needs {option}: False"
    for name in PENALTIES:
        if get(f"{name}_regularizer"):
            return f"needs {name}_regularizer 0: only embedding_regularizer and net_regularizer are added up over ranks"
    for callback in build(get("callbacks")):
        if type(callback) is not InformationAbundance:
            return f"has the callback InformationAbundance alone, got {type(callback).__name__}"
    if get("optimizer") in NOT_BY_ENTRY:
        return f"needs an optimizer that treats every entry by itself, such as adam, got {get('optimizer')}"
    return None
