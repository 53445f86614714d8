"""``MultiEmbeddingOf``: M embedding sets for any FuxiCTR model."""

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fuxictr.features import FeatureMap
from torch import nn

from fuxictr_me.compat import BaseModel, MultiTaskModel
from fuxictr_me.config.known_keys import WRAPPING_KEYS, find_known_keys
from fuxictr_me.config.model_registry import ModelEntry, register_model
from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.nn.preserve_state import preserve_state
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.training.checks import CheckedTraining
from fuxictr_me.wrap.batched_sets import BatchedSets
from fuxictr_me.wrap.describe_merge import describe_merge
from fuxictr_me.wrap.example_batch import example_batch, long_sequence_batch
from fuxictr_me.wrap.find_merge_points import find_merge_points
from fuxictr_me.wrap.merge_gate import Captured, MergeGate
from fuxictr_me.wrap.merge_points import MergePoint, ModelSplit, parse_merge, split_model
from fuxictr_me.wrap.rehearsal import check_no_bypass, rehearse_merge
from fuxictr_me.wrap.shared_head import share_head
from fuxictr_me.wrap.trace import Trace

if TYPE_CHECKING:  # the type checker sees the FuxiCTR model in front of which the mixin stands
    from fuxictr_me.compat import BaseModel as MixinBase
else:
    MixinBase = object


def MultiEmbeddingOf(
    Backbone: type,
    num_sets: int | None = None,
    merge: str | Sequence[str] | None = None,
    task_sets: bool | None = None,
    batched: bool | None = None,
) -> type:
    """Return a subclass of ``Backbone`` that has M sets of its embeddings, interactions and first hidden layers.

    Paper, section 4, for a class that stays unchanged. Set 0 is the model itself, with FuxiCTR's names in the state
    dict. Sets 1 … M - 1 are further models of the class, ``sets.1`` …, initialised with other random numbers,
    without the head. At the merge points the mean over the sets goes into the one head. A trained
    parameter belongs to a set if a merged value depends on it. ``num_sets=1`` is the model unwrapped, bit for bit.

    The arguments are defaults of the class. Each is also a keyword of its constructor, hence a key of a config.

    Args:
        Backbone: a subclass of FuxiCTR's ``BaseModel``.
        num_sets: M; 1 if it is given nowhere.
        merge: where the sets are averaged: the input of a module (``">fc"``), its output
            (``"crossnet>"``), the output of the first hidden layer in it (``"dnn"``), a list of these for
            branches, or ``"logits"``; None: found from one batch, see
            ``fuxictr_me.wrap.find_merge_points.find_merge_points``.
        task_sets: one set for all tasks and one for each task: at a merge point that leads to one task, the sets of
            the other tasks are merged without gradient (STEM, arXiv:2308.13537). M is then 1 + the number of tasks.
        batched: run sets 1 … M - 1 at once by ``torch.func.vmap``, if one batch shows that the result is the
            same, else in turn; None: on a GPU that has room for their tables once more.

    Returns:
        The subclass. Its constructor also takes ``callbacks``, and ``batch`` to trace the model with, which
        is made from the feature map if it is not given.

    Raises:
        UsageError: if the class is not a FuxiCTR model, is already multi-embedding, or takes such a keyword itself. The
            constructor of the class raises it for a model that cannot be merged, with the reason.
    """
    if not (inspect.isclass(Backbone) and issubclass(Backbone, BaseModel)):
        raise UsageError(f"MultiEmbeddingOf takes a class of FuxiCTR model, got {Backbone!r}")
    if issubclass(Backbone, MultiEmbeddingModel | _MultiEmbedding):
        raise UsageError(f"{Backbone.__name__} has embedding sets already: set its num_sets")
    if own := find_own_keys(Backbone):
        raise UsageError(f"{Backbone.__name__} takes {', '.join(sorted(own))} itself and cannot be wrapped: rename it")
    if isinstance(merge, list):
        merge = tuple(merge)
    return _make_class(Backbone, num_sets, merge, task_sets, batched)  # type: ignore[arg-type]  # a class is hashable


def wrap_if_configured(cls: type, settings: Mapping[str, Any]) -> type:
    """Return ``MultiEmbeddingOf(cls)`` if one of its keys is set in a FuxiCTR model's settings, else ``cls``.

    FuxiCTR's ``BaseModel`` ignores keys that it does not know. A class whose constructor takes a key of that name gives
    it another meaning and is not wrapped.
    """
    is_configured = any(settings.get(key) is not None for key in WRAPPING_KEYS)
    has_sets = issubclass(cls, MultiEmbeddingModel | _MultiEmbedding)
    return MultiEmbeddingOf(cls) if is_configured and not has_sets and not find_own_keys(cls) else cls


def find_own_keys(cls: type) -> set[str]:
    """Return the keywords of ``MultiEmbeddingOf`` that the constructor of a FuxiCTR model's class takes itself."""
    return WRAPPING_KEYS & find_known_keys(cls)


@functools.cache
def _make_class(
    Backbone: type,
    num_sets: int | None,
    merge: str | tuple[str, ...] | None,
    task_sets: bool | None,
    batched: bool | None,
) -> type:
    defaults: dict[str, object] = {"num_sets": num_sets, "merge": merge, "task_sets": task_sets, "batched": batched}
    content = {
        "_backbone": Backbone,
        "_defaults": defaults,
        "__module__": Backbone.__module__,
        "__doc__": Backbone.__doc__,
    }
    # Made at run time, because its base class is the caller's.
    wrapped = type(f"{Backbone.__name__}_ME", (_MultiEmbedding, Backbone), content)
    register_model(wrapped, ModelEntry(Backbone, defaults))
    return wrapped


class _MultiEmbedding(CheckedTraining):
    """Mixed in front of a FuxiCTR model's class by ``MultiEmbeddingOf``.

    Attributes:
        merge_points: where the sets are averaged; none with one set.
        sets: a ``ModuleDict`` ``"1"`` … -> the further sets; absent with one set.
        batched: whether sets 1 … M - 1 run at once.
    """

    merge_points: tuple[MergePoint, ...] = ()
    batched = False
    _backbone: Any
    _defaults: dict[str, Any]

    def __init__(
        self, feature_map: FeatureMap, *args: Any, callbacks: Any = None, batch: Any = None, **kwargs: Any
    ) -> None:
        given = {key: kwargs.pop(key, None) for key in self._defaults}
        options = {key: default if given[key] is None else given[key] for key, default in self._defaults.items()}
        task_sets = options["task_sets"] or False
        check_bool("task_sets", task_sets)
        if options["num_sets"] is not None:
            check_positive_int("num_sets", options["num_sets"])
        elif options["merge"] and not task_sets:
            raise UsageError(f"merge: {options['merge']} says where sets are averaged: set num_sets, too")
        self._backbone.__init__(self, feature_map, *args, **kwargs)
        self.num_sets = _count_sets(self, options["num_sets"], task_sets)
        if self.num_sets > 1:
            others = [self._backbone(feature_map, *args, **kwargs) for _ in range(1, self.num_sets)]
            try:
                batch = self._add_sets(others, batch, kwargs.get("max_len"), options["merge"], task_sets)
            except UsageError as error:
                raise UsageError(f"{self._backbone.__name__} cannot have {self.num_sets} sets: {error}") from error
            self._choose_batched(options["batched"], batch)
            logging.info(self.describe())
        attach(self, build(callbacks))

    def _add_sets(self, others: list[Any], batch: Any, max_len: int | None, merge: Any, task_sets: bool) -> Any:
        """Find where ``others`` merge with this model, and let them share its head; return the batch of the trace."""
        if hasattr(self, "sets"):
            raise UsageError("it has an attribute of its own called sets, where the sets go")
        trace, batch = _trace_model(others[0], batch, max_len)
        if not trace.embeddings:
            raise UsageError("it has no embeddings but linear terms, M of which are one")
        points = find_merge_points(trace) if merge is None else parse_merge(merge, trace)
        if not points:
            raise UsageError(
                "no place was found that every path from embeddings to prediction passes before a trained head; "
                "name one (merge: a module's path), or average logits (merge: logits)"
            )
        self._split = split_model(trace, points, headless=merge == "logits")
        if task_sets:
            _check_tasks(self._split)
        called = {call.path for call in trace.calls}
        del trace  # and the graph that it holds
        self._passes: dict[bool, int | None] = {**rehearse_merge(others[0], self._split, batch)}
        for other in others:
            share_head(self, other, self._split, called)
            del other.optimizer
        self.merge_points = self._split.points
        self.sets = nn.ModuleDict({str(m): other for m, other in enumerate(others, 1)})
        self._gates = [MergeGate(model, self._split, task_sets) for model in (self, *others)]
        check_no_bypass(self._backbone.forward, (self, others[0]), self._gates, self._split, batch)
        arguments, named_arguments = self._compile_arguments
        self.compile(*arguments, **named_arguments)
        return batch

    def _choose_batched(self, batched: bool | None, batch: Any) -> None:
        """Run sets 1 … at once if that is configured, or on a GPU with room, and if the result is the same."""
        self._why_in_turn = " (a CPU is no faster at once)" if self.device.type == "cpu" else ""
        if not (batched or (batched is None and self.device.type == "cuda" and self.num_sets > 2)):
            return
        self._batched_sets = BatchedSets(list(self.sets.values()), self._gates[1])
        if batched or self._batched_sets.fits(self.device):
            reason = self._batched_sets.find_difference(self._capture_in_turn, batch, self._passes)
            self.batched, self._why_in_turn = not reason, f" (torch.func.vmap fails: {reason})"

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Build optimizer and loss as FuxiCTR does. It is called again when all sets exist, with their parameters."""
        self._compile_arguments = args, kwargs
        super().compile(*args, **kwargs)

    def forward(self, inputs: Any) -> Any:
        """Return what the backbone's forward returns, with the sets averaged at the merge points."""
        if self.num_sets == 1:
            return super().forward(inputs)
        capture = self._batched_sets.capture if self.batched else self._capture_in_turn
        return self._gates[0].run_merged(super().forward, inputs, capture(inputs, self._passes[self.training]))

    def _capture_in_turn(self, inputs: Any, passes: int | None) -> list[Captured]:
        sets = zip(self._gates[1:], self.sets.values(), strict=True)
        return [gate.capture(model, inputs, passes) for gate, model in sets]

    def run_sets_to_their_ends(self) -> None:
        """Run sets 1 … beyond their last merge point from now on, for tools that record a forward as a graph.

        ``torch.export`` cannot follow the exception that ends them. Predictions are the same.
        """
        self._passes = dict.fromkeys((True, False))

    def describe(self) -> str:
        """Return a few lines that say where the sets are merged, and what belongs to a set and to the head."""
        name = self._backbone.__name__
        if self.num_sets == 1:
            return f"{name} with one embedding set: as it is"
        run = "at once (torch.func.vmap)" if self.batched else f"in turn{self._why_in_turn}"
        return (
            f"{name} with {self.num_sets} embedding sets\n{describe_merge(self, self._split)}\n  Sets 1 ... run {run}"
        )


def _count_sets(model: BaseModel, num_sets: int | None, task_sets: bool) -> int:
    if not task_sets:
        return num_sets or 1
    if not isinstance(model, MultiTaskModel):
        raise UsageError(f"task_sets needs a multi-task model, which {type(model).__name__} is not")
    needed = 1 + model.num_tasks
    if num_sets not in (None, needed):
        raise UsageError(
            f"task_sets: one set for all tasks and one for each task make num_sets {needed}, got {num_sets}"
        )
    return needed


def _check_tasks(split: ModelSplit) -> None:
    for point, tasks in split.tasks.items():
        if len(tasks) != 1:
            raise UsageError(
                f"task_sets needs merge points that lead to one task each; {point} leads to {', '.join(tasks)}: "
                "name points in the towers (merge: [tower.0, tower.1])"
            )


def _trace_model(model: BaseModel, batch: Any, max_len: int | None) -> tuple[Trace, Any]:
    """Trace a model on the given batch, or on the first batch made from its feature map that it accepts.

    Returns:
        The trace and its batch.
    """
    makers: dict[str, Callable[[], Any]] = {
        "a batch made from the feature map": lambda: example_batch(model.feature_map)
    }
    if type(model).get_inputs is not BaseModel.get_inputs:
        makers["one with a history, as LongCTR's"] = lambda: long_sequence_batch(model.feature_map, max_len)
    if batch is not None:
        makers = {"the batch that was given": lambda: batch}
    failures = []
    for kind, make_batch in makers.items():
        try:
            with preserve_state(model):
                made = make_batch()
                model.train()
                return Trace(model, made), made
        except Exception as error:  # noqa: BLE001 - a stranger's forward may raise anything
            reason = " ".join(str(error).split())
            failures.append(f"its forward and loss fail on {kind} ({type(error).__name__}: {reason[:150]})")
    hint = "" if batch is not None else "; batch= takes one of yours"
    raise UsageError(f"{', and '.join(failures)}{hint}")
