"""Training steps of a model on tensors without data: what they take, before there is anything to take it."""

import contextlib
import re
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fuxictr_me.data.column_layout import VALUES, Layout
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.kernel_costs import KernelCosts
from fuxictr_me.estimates.operation_ledger import Ledger, tensors_in
from fuxictr_me.training import FastTraining
from fuxictr_me.training.catch_up import FIRST_STEPS, CaughtUpRows
from fuxictr_me.training.parameters import fused_tables
from fuxictr_me.training.step import Step
from fuxictr_me.training.touched_rows import LazyRows
from fuxictr_me.wrap import MultiEmbeddingOf
from fuxictr_me.zoo.find_model import get_backbone, is_fuxictr_me_model, is_wrapped

NEED_DATA = ("DynamicOutputShapeException", "DataDependentOutputException")  # of torch, from operations on fake tensors
ALONE = {"gpu": -1, "verbose": 0, "callbacks": None, "first_set_checkpoint": None}  # no device, files or hooks


@dataclass(frozen=True)
class Memory:
    """Bytes held at the time in a step at which most are.

    Attributes:
        weights (int): parameters and buffers.
        gradients (int): of parameters.
        optimizer_state (int): moments and step counts.
        activations (int): all else: the batch, what the backward pass needs, and temporaries.
    """

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def peak(self):
        """Bytes in all."""
        return self.weights + self.gradients + self.optimizer_state + self.activations


@dataclass(frozen=True)
class Simulation:
    """What ``simulate`` found.

    Attributes:
        parameters, embedding_parameters (int): trained; in all, and of embeddings.
        memory (Memory)
        operations (list of Operation): of one step.
        tables (list of tuple): names of the fields and shape (ΣD, ΣK) of each fused table.
        hidden (int or None): H of h; None of a model that is not ours.
    """

    parameters: int
    embedding_parameters: int
    memory: Memory
    operations: list
    tables: list
    hidden: int | None


def simulate(model_class, feature_map, params, on_gpu=True, in_one_pass=True):
    """Build a model and let it train for a few steps on fake tensors, which have shapes but no data.

    All code is that of a real run, so what is found follows it, but for this: on a GPU the kernels that update fused
    tables are ``KernelCosts``, as where Triton is installed; ``compile`` is left out, and the sets of
    a model that is not ours are taken to run in turn; with updates by rows, a batch is
    taken to hold as many different ids as it can, min(D, B) of a field. With ``catch_up`` memory is the most of its
    dense first steps and of those by rows, operations are those of a step by rows.

    Not seen: what kernels use for themselves, memory that the allocator holds without need, the CUDA context.
    Optimizers of our models that have no fused kernel are simulated as on the CPU, parameter by parameter; those of
    others as PyTorch steps by default, on a GPU all parameters together.

    Args:
        model_class (type): as ``find_model`` gives it.
        feature_map (FeatureMap): of FuxiCTR.
        params (dict): the model's settings, ``batch_size`` included.
        in_one_pass (bool): whether a GPU's kernel updates fused tables densely; else their gradients are as large as
            they are.
        on_gpu (bool): dropout as a GPU computes it, which keeps a mask of bytes; else of floats.

    Returns:
        Simulation

    Raises:
        UsageError: settings that the model refuses, or a model of another's whose code looks at data.
    """
    settings = {**params, **ALONE} | {key: False for key in ("compile", "batched", "cuda_graph") if key in params}
    anywhere, ledger = staying(model_class), Ledger()
    with (
        _named_errors(model_class),
        FakeTensorMode(allow_non_fake_inputs=True),
        ledger,
        MaskedDropout() if on_gpu else contextlib.nullcontext(),
    ):
        model = anywhere(feature_map, **settings).train()
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


def make_batch(feature_map, batch_size):
    """A batch of zeros in the shapes and dtypes in which ``H5DataLoader`` feeds it."""
    batch = {}
    for name, place in Layout.of(feature_map).places.items():
        shape = (batch_size, place.stop - place.start) if place.is_vector else (batch_size,)
        batch[name] = torch.zeros(shape, dtype=torch.float32 if place.matrix == VALUES else torch.int64)
    return batch


class MaskedDropout(TorchFunctionMode):
    """Dropout as PyTorch computes it on a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(x, p=0.5, training=True, inplace=False):
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


@contextlib.contextmanager
def _named_errors(model_class):
    """One line for a stranger's code that looks at data, or fails."""
    try:
        yield
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        if is_fuxictr_me_model(model_class) or (
            isinstance(error, UsageError) and not any(kind in told for kind in NEED_DATA)
        ):
            raise
        name, needed = get_backbone(model_class).__name__, re.search(rf"({'|'.join(NEED_DATA)})[^)]*", told)
        reason = " ".join((needed[0] if needed else told).split())[:200]
        raise UsageError(
            f"what {name} takes cannot be predicted: on tensors without data its code fails ({reason})"
        ) from error


def staying(model_class):
    """Return the class as one that stays where it is made: fake tensors do not move. Of a wrapped model all sets do."""
    stays = {"model_to_device": lambda self: None}
    if not is_wrapped(model_class):
        return type(model_class.__name__, (model_class,), stays)
    backbone = get_backbone(model_class)
    return MultiEmbeddingOf(type(backbone.__name__, (backbone,), stays), **model_class._defaults)


def _train(model, batch, ledger, on_gpu, in_one_pass):
    """Two steps, for the optimizer's state is made in the first; then two by rows where rows are caught up."""
    gradients = set()

    def note_gradients(*_):
        gradients.update(ledger.serials(p.grad for p in model.parameters() if p.grad is not None))

    def step():
        ledger.operations = []
        model.train_step(batch)

    model.optimizer.register_step_pre_hook(note_gradients)
    caught_up = [rows for rows in _prepare(model, ledger, on_gpu, in_one_pass) if isinstance(rows, CaughtUpRows)]
    ledger.start()
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


def _prepare(model, ledger, on_gpu, in_one_pass):
    """Let a model step as on the device; what updates its tables, where that is ours."""
    if isinstance(model, FastTraining):
        kernels = KernelCosts(ledger) if on_gpu else None
        in_step = kernels if in_one_pass else None
        model._step = Step(model, model.embedding_updates, on_cpu=not on_gpu, kernels=in_step)
        for rows in model._step.rows:
            if kernels and isinstance(rows, LazyRows | CaughtUpRows):
                rows.kernels = kernels
        if type(model.optimizer) is torch.optim.SGD:  # whose fused kernel would run on real tensors
            for group in model.optimizer.param_groups:
                group["fused"] = False
        return model._step.rows
    model.optimizer.register_step_pre_hook(lambda *_: setattr(ledger, "number", 1))  # steps done, which it divides by
    model.optimizer.register_step_post_hook(lambda *_: setattr(ledger, "number", 0))
    for group in model.optimizer.param_groups:
        if on_gpu and "foreach" in group:  # PyTorch's default there
            group["foreach"] = True
    return []
