"""Which models and settings several ranks can train, and the settings of one rank's part of a model."""

import inspect
from typing import TYPE_CHECKING, Any

from fuxictr_me.compat import BaseModel
from fuxictr_me.config.optimizer_options import spell_optimizer
from fuxictr_me.distributed.aggregation import AGGREGATIONS
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.ranks import Ranks
from fuxictr_me.distributed.sharded_abundance import AbundanceOverRanks
from fuxictr_me.distributed.sharded_table import find_sharded_tables
from fuxictr_me.errors import UsageError
from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.models.assembly import check_options
from fuxictr_me.models.penalty_terms import PENALTIES
from fuxictr_me.nn.embedding_settings import resolve_embedding_dims
from fuxictr_me.training import FastTraining
from fuxictr_me.training.callbacks import InformationAbundance, build

if TYPE_CHECKING:
    from fuxictr_me.distributed.distributed_model import DistributedModel

NOT_BY_ENTRY = ("Adafactor", "LBFGS", "Muon")  # optimizers whose step of one entry depends on others


class Settings:
    """The settings of a model: ``settings(name)`` is what was given, or the default of the constructor that takes it.

    Args:
        model_class: has the constructor.
        given: name -> value.
    """

    def __init__(self, model_class: type, given: dict[str, Any]):
        self.given = given
        self.defaults: dict[str, Any] = {}
        for cls in reversed(model_class.__mro__):
            if "__init__" in vars(cls):
                arguments = inspect.signature(vars(cls)["__init__"]).parameters.values()
                self.defaults |= {a.name: a.default for a in arguments if a.default is not a.empty}

    def __call__(self, name: str) -> Any:
        return self.given.get(name, self.defaults.get(name))


def check_class(model_class: type) -> None:
    """Check that a model is one of fuxictr-me's, with FuxiCTR's loss.

    Raises:
        UsageError: one line that gives the reason.
    """
    if not issubclass(model_class, MultiEmbeddingModel):
        raise UsageError(f"several processes can only train fuxictr-me models, and {model_class.__name__} is not one")
    losses = (model_class.compute_loss, model_class.regularization_loss)
    if losses != (BaseModel.compute_loss, FastTraining.regularization_loss):
        raise UsageError(f"several processes need FuxiCTR's loss, and {model_class.__name__} defines another one")


def find_dims(settings: Settings) -> list[int]:
    """Return K of each of the M sets of the whole model.

    Raises:
        UsageError: impossible settings, or settings that several ranks do not support.
    """
    dims, num_sets, interactions = settings("embedding_dim"), settings("num_sets"), settings("interactions")
    if num_sets is None and not isinstance(dims, list | tuple):
        num_sets = len(interactions) if interactions else 4
    dims = resolve_embedding_dims(dims, num_sets)
    if reason := _find_obstacle(settings, dims):
        raise UsageError(f"a model on several processes {reason}")
    check_options(len(dims), settings("aggregation"), settings("nonlinear_projection"), False, dims)
    return dims


def check_engine(model: "DistributedModel") -> None:
    """Check that a model's tables and their updates suit its engine.

    Raises:
        UsageError: one line that gives the reason.
    """
    engine, updates = model.engine, model.embedding_updates
    if engine.shards_tables and not find_sharded_tables(model):
        raise UsageError(
            f"{engine} divides the rows of the fused table, and there is none: it needs fused_embedding: True "
            "and a plain categorical field"
        )
    if engine.name == "ddp" and updates != "dense":
        raise UsageError(f"ddp updates every row: it needs embedding_updates: dense, got {updates}")


def settings_of_rank(settings: Settings, own_sets: range, dim: int, ranks: Ranks, grid: Grid | None) -> dict[str, Any]:
    """Return the settings of a model of the sets ``own_sets`` alone.

    Those that a model of one set would refuse are set later, see ``DistributedModel.assemble``.

    Args:
        settings: of the whole model.
        own_sets: the sets of this rank.
        dim: K of each set.
        ranks: all processes.
        grid: the processes in groups; None for a model of one set from which initial weights are copied.
    """
    # Without a grid there are no callbacks: see ``initialise_sets``.
    built = build(settings("callbacks")) if grid else []
    callbacks = [AbundanceOverRanks(grid, c.tensorboard) for c in built if grid and isinstance(c, InformationAbundance)]
    changed = {
        "num_sets": len(own_sets),
        "embedding_dim": dim,
        "aggregation": "mean",
        "nonlinear_projection": True,
        "first_set_checkpoint": settings("first_set_checkpoint") if 0 in own_sets else None,
        "callbacks": callbacks,
        "verbose": settings("verbose") if ranks.is_first else 0,
    }
    if settings("interactions"):
        changed["interactions"] = [settings("interactions")[m] for m in own_sets]
    return {**settings.given, **changed}


def _find_obstacle(settings: Settings, dims: list[int]) -> str | None:
    """Return which setting several ranks do not support, as the end of a sentence; None if there is none."""
    if settings("aggregation") not in AGGREGATIONS:
        return f"needs aggregation {' or '.join(AGGREGATIONS)}, got {settings('aggregation')!r}"
    if len(set(dims)) > 1:
        return f"needs sets of one embedding_dim, got {dims}"
    if len(set(settings("interactions") or ())) > 1:
        return f"needs one interaction for all sets, got {list(settings('interactions'))}"
    for option in ("shared_interaction", "compile"):
        if settings(option):
            return f"needs {option}: False"
    for name in PENALTIES:
        if settings(f"{name}_regularizer"):
            return f"needs {name}_regularizer 0: only embedding_regularizer and net_regularizer are summed over ranks"
    if settings("lr_schedule"):
        return "needs lr_schedule null: it follows the steps of one process"
    if settings("accumulate_steps") != 1:
        return f"needs accumulate_steps 1, got {settings('accumulate_steps')}"
    for callback in build(settings("callbacks")):
        if type(callback) is not InformationAbundance:
            return f"supports only the callback InformationAbundance, got {type(callback).__name__}"
    if spell_optimizer(settings("optimizer")) in NOT_BY_ENTRY:
        return f"needs an optimizer that treats every entry by itself, such as adam, got {settings('optimizer')}"
    return None
