"""Simulate training steps of a model on tensors without data, and record memory and operations."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fuxictr_me.config.model_registry import find_entry, get_backbone, is_fuxictr_me_model, is_wrapped
from fuxictr_me.data.column_layout import VALUES, Layout
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.kernel_costs import KernelCosts
from fuxictr_me.estimates.operation_ledger import Ledger, Operation, tensors_in
from fuxictr_me.estimates.tensors_without_data import tensors_without_data
from fuxictr_me.training import FastTraining
from fuxictr_me.training.catch_up import FIRST_STEPS, CaughtUpRows
from fuxictr_me.training.parameters import fused_tables
from fuxictr_me.training.step import Step
from fuxictr_me.training.touched_rows import LazyRows
from fuxictr_me.wrap import MultiEmbeddingOf

# Errors of torch if code needs the data of fake tensors:
NEED_DATA = ("DynamicOutputShapeException", "DataDependentOutputException")
# no device, files or hooks, and every batch is a step
SIMULATED = {"gpu": -1, "verbose": 0, "callbacks": None, "first_set_checkpoint": None, "accumulate_steps": 1}


@dataclass(frozen=True)
class Memory:
    """Bytes at the time of a step at which most are held.

    Attributes:
        weights: parameters and buffers.
        gradients: of parameters.
        optimizer_state: moments and step counts.
        activations: everything else: the batch, what the backward pass needs, and temporaries.
    """

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def peak(self) -> int:
        """All bytes."""
        return self.weights + self.gradients + self.optimizer_state + self.activations


@dataclass(frozen=True)
class Simulation:
    """Result of ``simulate``.

    Attributes:
        parameters, embedding_parameters: number of all trained parameters, and of those of embeddings.
        memory: at the peak.
        operations: of one step.
        tables: names of the fields and shape (ΣD, ΣK) of each fused table.
        hidden: H of h; None if the model is not fuxictr-me's.
    """

    parameters: int
    embedding_parameters: int
    memory: Memory
    operations: list[Operation]
    tables: list[tuple[list[str], tuple[int, ...]]]
    hidden: int | None


def simulate(
    model_class: type,
    feature_map: FeatureMap,
    params: dict[str, Any],
    on_gpu: bool = True,
    in_one_pass: bool = True,
) -> Simulation:
    """Build a model and train it for a few steps on tensors that have shapes but no data.

    The code is that of a real run, with these exceptions. On a GPU the kernels that update fused tables are
    ``KernelCosts``, as if Triton were installed. ``compile`` is ignored, and the sets of foreign models run one after
    another. With updates by rows, a batch is assumed to have as many different ids as possible, min(D, B) per field.
    With ``catch_up``, memory is the maximum of its first, dense steps and of those by rows, and operations are those of
    a step by rows.

    Memory that kernels use internally, memory that the allocator keeps, and the CUDA context are not included.
    Optimizers of fuxictr-me's models without a fused kernel are simulated as on the CPU, parameter by parameter. Those
    of other models step as PyTorch does by default: on a GPU all parameters together.

    Args:
        model_class: as ``find_model`` returns it.
        feature_map: of the data set.
        params: the model's settings, with ``batch_size``.
        on_gpu: whether dropout keeps a mask of bytes, as on a GPU, or one of floats.
        in_one_pass: whether a GPU kernel updates fused tables densely; otherwise their gradients are as large as they.

    Raises:
        UsageError: settings that the model refuses, or a foreign model whose code looks at data.
    """
    if on_gpu and _is_of_this_package(model_class) and params.get("precision") != "bf16":
        with contextlib.suppress(RuntimeError):  # a user's activation can need what fake tensors have
            return _simulate(model_class, feature_map, params, on_gpu, in_one_pass, is_fast=True)
    return _simulate(model_class, feature_map, params, on_gpu, in_one_pass)


def _simulate(
    model_class: type,
    feature_map: FeatureMap,
    params: dict[str, Any],
    on_gpu: bool,
    in_one_pass: bool,
    is_fast: bool = False,
) -> Simulation:
    settings = {**params, **SIMULATED} | {key: False for key in ("compile", "batched", "cuda_graph") if key in params}
    ledger = Ledger()
    ledger.is_recording = False  # the constructor is no part of a step
    with (
        _explain_errors(model_class),
        tensors_without_data(is_fast),
        ledger,
        MaskedDropout() if on_gpu else contextlib.nullcontext(),
    ):
        model = stay_on_device(model_class)(feature_map, **settings).train()
        model._max_gradient_norm = params.get("max_gradient_norm", 10.0)
        batch_size = params.get("batch_size", 32)
        tables = fused_tables(model)
        for table in tables:
            ledger.most_distinct = sum(min(rows.stop - rows.start, batch_size) for rows in table.rows)
        memory, operations = _train(model, make_batch(feature_map, batch_size), ledger, on_gpu, in_one_pass)
    parameters = model.num_parameters()
    embeddings = parameters - model.num_parameters(count_embedding=False)
    shapes = [(table.fields, tuple(table.weight.shape)) for table in tables]
    hidden = sum(model.head.widths) if is_fuxictr_me_model(model_class) else None
    return Simulation(parameters, embeddings, memory, operations, shapes, hidden)


def make_batch(feature_map: FeatureMap, batch_size: int) -> dict[str, Tensor]:
    """Return a batch of zeros with the shapes and dtypes of ``H5DataLoader``."""
    batch = {}
    for name, place in Layout.from_feature_map(feature_map).places.items():
        shape = (batch_size, place.width) if place.is_vector else (batch_size,)
        batch[name] = torch.zeros(shape, dtype=torch.float32 if place.matrix == VALUES else torch.int64)
    return batch


class MaskedDropout(TorchFunctionMode):
    """Dropout as PyTorch computes it on a GPU."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


@contextlib.contextmanager
def _explain_errors(model_class: type) -> Iterator[None]:
    """Explain in one line that the code of a foreign model looks at data, or fails."""
    try:
        yield
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if is_fuxictr_me_model(model_class) or (
            isinstance(error, UsageError) and not any(kind in message for kind in NEED_DATA)
        ):
            raise
        name, needed = get_backbone(model_class).__name__, re.search(rf"({'|'.join(NEED_DATA)})[^)]*", message)
        reason = " ".join((needed[0] if needed else message).split())[:200]
        raise UsageError(
            f"memory and time of {name} cannot be estimated: its code fails on tensors without data ({reason})"
        ) from error


def _is_of_this_package(model_class: type) -> bool:
    """Return whether a class is fuxictr-me's and not a user's subclass, whose code may look at data."""
    return is_fuxictr_me_model(model_class) and model_class.__module__.startswith("fuxictr_me.")


def stay_on_device(model_class: type) -> type:
    """Return a subclass that does not move to a device, because fake tensors cannot; also for wrapped models."""
    stays = {"model_to_device": lambda self: None}
    if not is_wrapped(model_class):
        if _is_of_this_package(model_class):
            stays["reset_parameters"] = lambda self: None  # there are no values to initialise
        return type(model_class.__name__, (model_class,), stays)
    backbone, entry = get_backbone(model_class), find_entry(model_class)
    defaults: dict[str, Any] = entry.wrapping_defaults if entry else {}
    return MultiEmbeddingOf(type(backbone.__name__, (backbone,), stays), **defaults)


def _train(
    model: Any, batch: dict[str, Tensor], ledger: Ledger, on_gpu: bool, in_one_pass: bool
) -> tuple[Memory, list[Operation]]:
    """Train two steps, because the first creates the optimizer's state, and with ``catch_up`` two more, by rows."""
    gradients: set[int] = set()

    def record_gradients(*_: Any) -> None:
        gradients.update(ledger.serials(p.grad for p in model.parameters() if p.grad is not None))

    def step() -> None:
        ledger.operations = []
        model.train_step(batch)

    model.optimizer.register_step_pre_hook(record_gradients)
    caught_up = [rows for rows in _prepare(model, ledger, on_gpu, in_one_pass) if isinstance(rows, CaughtUpRows)]
    ledger.start([*model.parameters(), *model.buffers(), *batch.values()])
    step()
    step()
    for rows in caught_up:
        rows.steps = FIRST_STEPS
    if caught_up:
        step()
        step()
    weights = ledger.serials([*model.parameters(), *model.buffers()])
    state = tensors_in(list(model.optimizer.state.values()))
    state += [rows.last for rows in caught_up]
    parts = ledger.at_peak(weights, gradients, ledger.serials(state))
    return Memory(*parts), ledger.operations


def _prepare(model: Any, ledger: Ledger, on_gpu: bool, in_one_pass: bool) -> list[Any]:
    """Let a model step as on the device, and return the updates of its tables if it is fuxictr-me's."""
    if isinstance(model, FastTraining):
        kernels = KernelCosts(ledger) if on_gpu else None
        in_step = kernels if in_one_pass else None
        model._step = Step(model, model.embedding_updates, on_cpu=not on_gpu, kernels=in_step)  # type: ignore[arg-type]  # a stand-in of the module
        for rows in model._step.rows:
            if kernels and isinstance(rows, LazyRows | CaughtUpRows):
                rows.kernels = kernels
        if type(model.optimizer) is torch.optim.SGD:  # whose fused kernel would run on real tensors
            for group in model.optimizer.param_groups:
                group["fused"] = False
        return model._step.rows
    model.optimizer.register_step_pre_hook(lambda *_: setattr(ledger, "number", 1))  # number of steps, a divisor
    model.optimizer.register_step_post_hook(lambda *_: setattr(ledger, "number", 0))
    for group in model.optimizer.param_groups:
        if on_gpu and "foreach" in group:  # PyTorch's default there
            group["foreach"] = True
    return []
