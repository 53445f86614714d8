"""``MultiEmbeddingOf``: M embedding sets for any FuxiCTR model."""

import functools
import inspect
import logging

from torch import nn

from fuxictr_me.compat import BaseModel, MultiTaskModel
from fuxictr_me.config.known_keys import WRAPPING_KEYS, find_known_keys
from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.training.checks import CheckedTraining
from fuxictr_me.wrap.batched_sets import BatchedSets
from fuxictr_me.wrap.describe_merge import describe
from fuxictr_me.wrap.example_batch import example_batch, long_sequence_batch
from fuxictr_me.wrap.find_merge_points import find
from fuxictr_me.wrap.merge_points import named, split
from fuxictr_me.wrap.rehearsal import aside, exchange, rehearse
from fuxictr_me.wrap.set_average import Gate
from fuxictr_me.wrap.shared_head import share_head
from fuxictr_me.wrap.trace import Trace


def MultiEmbeddingOf(Backbone, num_sets=None, merge=None, task_sets=None, batched=None):
    """A FuxiCTR model's class -> the same with M sets of its embeddings, interactions and first hidden layers.

    Paper, section 4, for a class that is left as it is. Set 0 is the model itself, with FuxiCTR's names in the state
    dict; sets 1 ... M - 1 are further models of the class, ``sets.1`` ..., built with random numbers of their own,
    from which the head is taken out. Where the sets are merged, the mean over them goes on into the one head. A trained
    parameter is a set's if what is merged depends on it. ``num_sets=1`` is the model unwrapped, bit for bit.

    The arguments are defaults of the class; each is a keyword of its constructor, too, hence a key of a config.

    Args:
        Backbone (type): a subclass of FuxiCTR's ``BaseModel``.
        num_sets (int): M; 1 if it is given nowhere.
        merge (str or list of str): where the sets are averaged: what goes into a module (``">fc"``), what comes out of
            it (``"crossnet>"``), what has passed the first hidden layer in it (``"dnn"``), a list of these for
            branches, or ``"logits"``; None: found from one batch, see ``fuxictr_me.wrap.find_merge_points.find``.
        task_sets (bool): one set for all tasks and one a task: at a merge point that leads to one task, the sets of
            the others are merged without gradient (STEM, arXiv:2308.13537). M is then 1 + the number of tasks.
        batched (bool): run sets 1 ... M - 1 at once by ``torch.func.vmap``, if one batch shows that this gives the
            same, else in turn; None: on a GPU that has room for their tables once more.

    Returns:
        type: a subclass of ``Backbone``. Its constructor also takes ``callbacks``, and ``batch`` to trace with, which
        is made from the feature map if not given.

    Raises:
        UsageError: what is no FuxiCTR model, is multi-embedding already, or takes such a keyword itself. The class's
            constructor: a model that cannot be merged there, with the reason.
    """
    if not (inspect.isclass(Backbone) and issubclass(Backbone, BaseModel)):
        raise UsageError(f"MultiEmbeddingOf takes a class of FuxiCTR model, got {Backbone!r}")
    if issubclass(Backbone, MultiEmbeddingModel | _MultiEmbedding):
        raise UsageError(f"{Backbone.__name__} has embedding sets already: set its num_sets")
    if own := own_keys(Backbone):
        raise UsageError(f"{Backbone.__name__} takes {', '.join(sorted(own))} itself and cannot be wrapped: rename it")
    if isinstance(merge, list):
        merge = tuple(merge)
    return _class_of(Backbone, num_sets, merge, task_sets, batched)


def with_configured_sets(cls, settings):
    """The class that is meant by a FuxiCTR model's ``cls`` and the settings that it is constructed with.

    FuxiCTR's ``BaseModel`` swallows keys that it does not know. A class that takes a key of that name itself means
    something of its own by it.

    Returns:
        type: ``MultiEmbeddingOf(cls)`` where one of its keys is set, else ``cls``.
    """
    asked = any(settings.get(key) is not None for key in WRAPPING_KEYS)
    has_sets = issubclass(cls, MultiEmbeddingModel | _MultiEmbedding)
    return MultiEmbeddingOf(cls) if asked and not has_sets and not own_keys(cls) else cls


def own_keys(cls):
    """The keywords of ``MultiEmbeddingOf`` that a constructor of a FuxiCTR model's class takes itself (set of str)."""
    return WRAPPING_KEYS & find_known_keys(cls)


@functools.cache
def _class_of(Backbone, num_sets, merge, task_sets, batched):
    defaults = {"num_sets": num_sets, "merge": merge, "task_sets": task_sets, "batched": batched}
    content = {
        "_backbone": Backbone,
        "_defaults": defaults,
        "__module__": Backbone.__module__,
        "__doc__": Backbone.__doc__,
    }
    return type(f"{Backbone.__name__}_ME", (_MultiEmbedding, Backbone), content)


class _MultiEmbedding(CheckedTraining):
    """Mixed in front of a FuxiCTR model's class by ``MultiEmbeddingOf``.

    Attributes:
        num_sets (int): M.
        merge_points (tuple of MergePoint): where the sets are averaged; none with one set.
        sets (nn.ModuleDict): ``"1"`` ... -> the further sets; not there with one set.
        batched (bool): whether sets 1 ... M - 1 run at once.
    """

    merge_points, batched = (), False

    def __init__(self, feature_map, *args, callbacks=None, batch=None, **kwargs):
        own = {key: kwargs.pop(key, None) for key in self._defaults}
        own = {key: default if own[key] is None else own[key] for key, default in self._defaults.items()}
        task_sets = own["task_sets"] or False
        check_bool("task_sets", task_sets)
        if own["num_sets"] is not None:
            check_positive_int("num_sets", own["num_sets"])
        elif own["merge"] and not task_sets:
            raise UsageError(f"merge: {own['merge']} says where sets are averaged: set num_sets, too")
        self._backbone.__init__(self, feature_map, *args, **kwargs)
        self.num_sets = _number_of_sets(self, own["num_sets"], task_sets)
        if self.num_sets > 1:
            others = [self._backbone(feature_map, *args, **kwargs) for _ in range(1, self.num_sets)]
            try:
                batch = self._join(others, batch, kwargs.get("max_len"), own["merge"], task_sets)
            except UsageError as error:
                raise UsageError(f"{self._backbone.__name__} cannot have {self.num_sets} sets: {error}") from error
            self._batch_sets(own["batched"], batch)
            logging.info(self.describe())
        attach(self, build(callbacks))

    def _join(self, others, batch, max_len, merge, task_sets):
        """Find where ``others`` merge with this model, and let them share its head; returns the batch traced."""
        if hasattr(self, "sets"):
            raise UsageError("it has an attribute of its own called sets, where the sets go")
        trace, batch = _traced(others[0], batch, max_len)
        if not trace.embeddings:
            raise UsageError("it has no embeddings but linear terms, M of which are one")
        points = find(trace) if merge is None else named(merge, trace)
        if not points:
            raise UsageError(
                "no place was found that every path from embeddings to prediction passes before a trained head; "
                "name one (merge: a module's path), or average logits (merge: logits)"
            )
        self._split = split(trace, points, headless=merge == "logits")
        if task_sets:
            _check_tasks(self._split)
        called = {call.path for call in trace.calls}
        del trace  # and the graph that it holds
        self._passes = rehearse(others[0], self._split, batch)
        for other in others:
            share_head(self, other, self._split, called)
            del other.optimizer
        self.merge_points = self._split.points
        self.sets = nn.ModuleDict({str(m): other for m, other in enumerate(others, 1)})
        self._gates = [Gate(model, self._split, task_sets) for model in (self, *others)]
        exchange(self._backbone.forward, (self, others[0]), self._gates, self._split, batch)
        arguments, named_arguments = self._compile_arguments
        self.compile(*arguments, **named_arguments)
        return batch

    def _batch_sets(self, batched, batch):
        """Decide whether sets 1 ... run at once: where that is asked for, or on a GPU with room, and gives the same."""
        self._why_looped = " (a CPU is no faster at once)" if self.device.type == "cpu" else ""
        if not (batched or (batched is None and self.device.type == "cuda" and self.num_sets > 2)):
            return
        self._at_once = BatchedSets(list(self.sets.values()), self._gates[1])
        if batched or self._at_once.fits(self.device):
            reason = self._at_once.differs(self._take_in_turn, batch, self._passes)
            self.batched, self._why_looped = not reason, f" (torch.func.vmap fails: {reason})"

    def compile(self, *args, **kwargs):
        """FuxiCTR's; once more when all sets stand, with the parameters of all."""
        self._compile_arguments = args, kwargs
        super().compile(*args, **kwargs)

    def forward(self, inputs):
        """As the backbone's; ``inputs`` and what is returned are its own."""
        if self.num_sets == 1:
            return super().forward(inputs)
        take = self._at_once.take if self.batched else self._take_in_turn
        return self._gates[0].put(super().forward, inputs, take(inputs, self._passes[self.training]))

    def _take_in_turn(self, inputs, passes):
        sets = zip(self._gates[1:], self.sets.values(), strict=True)
        return [gate.take(model, inputs, passes) for gate, model in sets]

    def run_sets_to_their_ends(self):
        """From now on sets 1 ... do not end at their last merge point, for what follows a forward as a graph.

        ``torch.export`` cannot follow the exception that ends them. Predictions are the same.
        """
        self._passes = dict.fromkeys((True, False))

    def describe(self):
        """Where the sets are merged, what is a set's and what the head's: a few lines of text."""
        name = self._backbone.__name__
        if self.num_sets == 1:
            return f"{name} with one embedding set: as it is"
        run = "at once (torch.func.vmap)" if self.batched else f"in turn{self._why_looped}"
        return f"{name} with {self.num_sets} embedding sets\n{describe(self, self._split)}\n  Sets 1 ... run {run}"


def _number_of_sets(model, num_sets, task_sets):
    if not task_sets:
        return num_sets or 1
    if not isinstance(model, MultiTaskModel):
        raise UsageError(f"task_sets needs a multi-task model, which {type(model).__name__} is not")
    needed = 1 + model.num_tasks
    if num_sets not in (None, needed):
        raise UsageError(f"task_sets: one set for all tasks and one a task make num_sets {needed}, got {num_sets}")
    return needed


def _check_tasks(split):
    for point, tasks in split.tasks.items():
        if len(tasks) != 1:
            raise UsageError(
                f"task_sets needs merge points that lead to one task each; {point} leads to {', '.join(tasks)}: "
                "name points in the towers (merge: [tower.0, tower.1])"
            )


def _traced(model, batch, max_len):
    """The trace of a model, and the batch: the one given, or the first made from its feature map that it takes."""
    made = {"a batch made from the feature map": lambda: example_batch(model.feature_map)}
    if type(model).get_inputs is not BaseModel.get_inputs:
        made["one with a history, as LongCTR's"] = lambda: long_sequence_batch(model.feature_map, max_len)
    if batch is not None:
        made = {"the batch that was given": lambda: batch}
    failures = []
    for kind, make in made.items():
        try:
            with aside(model):
                batch = make()
                model.train()
                return Trace(model, batch), batch
        except Exception as error:  # noqa: BLE001 - a stranger's forward may raise anything
            reason = " ".join(str(error).split())
            failures.append(f"its forward and loss fail on {kind} ({type(error).__name__}: {reason[:150]})")
    hint = "" if "batch that was" in failures[-1] else "; batch= takes one of yours"
    raise UsageError(f"{', and '.join(failures)}{hint}")
