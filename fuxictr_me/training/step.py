"""One training step, equal to FuxiCTR's, with fewer passes over the tables."""

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from fuxictr.pytorch.torch_utils import get_regularizer
from torch import Tensor
from torch.nn import Parameter

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.training.catch_up import CaughtUpRows
from fuxictr_me.training.cpu_memory import keep_freed_memory
from fuxictr_me.training.dense_update import choose_dense_update
from fuxictr_me.training.parameters import fused_tables, split_parameters
from fuxictr_me.training.table_updates import UPDATES, DenseRows
from fuxictr_me.training.touched_rows import LazyRows


class LocalTotals:
    """The gradient norm and the loss of a model whose parameters all lie in this process.

    ``DistributedTotals`` is the counterpart for several processes.

    Attributes:
        tables_by_rows: whether fused tables are updated by ``RowUpdates``; else autograd computes a gradient of every
            row.
    """

    tables_by_rows = True

    def select_counted(self, parameters: list[Parameter]) -> list[Parameter]:
        """Return the parameters whose norms this process adds to the total: all of them."""
        return parameters

    def join(self, square: Tensor | float, loss: Tensor, penalty: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return the total of ‖gradient‖² and the loss with regularisers.

        Args:
            square: (), ‖gradient‖² of the counted parameters; 0.0 if this process counts none.
            loss: (), the task loss of this process.
            penalty: the regularisers' value of the counted parameters.
        """
        return torch.as_tensor(square), loss + penalty


class Step:
    """Backward pass, regularisers, clipping and update of a model.

    It does what FuxiCTR's ``train_step`` does, in the same arithmetic. The regularisers' gradients are added to those
    of the loss directly instead of by autograd, and nothing waits for the device.

    Args:
        model: with its optimizer.
        embedding_updates: ``dense``, ``catch_up`` (see ``CaughtUpRows``) or ``lazy`` (see ``LazyRows``).
        on_cpu: whether to use the code paths of a CPU; None: where the model lies.
        totals: joins the norm and the loss of several processes; None: ``LocalTotals``.
        kernels: the module that updates fused tables on a GPU; None: see ``find_kernels``.

    Attributes:
        gradient_norm: (), to which each step copies the norm of the gradient before clipping; None: it is not kept.

    Raises:
        UsageError: see ``check_updates``.
    """

    gradient_norm: Tensor | None = None

    def __init__(
        self,
        model: BaseModel,
        embedding_updates: str = "dense",
        on_cpu: bool | None = None,
        totals: LocalTotals | None = None,
        kernels: ModuleType | None = None,
    ):
        self.optimizer, self.totals = model.optimizer, totals or LocalTotals()
        check_updates(model, embedding_updates)
        tables = fused_tables(model) if self.totals.tables_by_rows else []
        of_tables, of_embeddings, of_networks = split_parameters(model)
        if not self.totals.tables_by_rows:
            of_tables, of_embeddings = [], of_tables + of_embeddings
        weights = {2: 0.0, 1: 0.0, **dict(get_regularizer(model._embedding_regularizer))}
        self.rows: list[DenseRows]
        if embedding_updates == "dense":
            self.rows = [
                choose_dense_update(table, self.optimizer, weights[1], weights[2], on_cpu, kernels) for table in tables
            ]
        else:
            by_rows = {"catch_up": CaughtUpRows, "lazy": LazyRows}[embedding_updates]
            self.rows = [by_rows(table, self.optimizer, on_cpu, kernels) for table in tables]
        for table, rows in zip(tables, self.rows, strict=True):
            table.settle()  # completes the updates that an earlier optimizer has postponed
            table.updates = rows
        self.parameters = of_embeddings + of_networks
        self.counted = self.totals.select_counted(self.parameters)
        self.penalised: list[tuple[list[Tensor], list[Tensor], int, float]] = [
            ([*parameters], [*self.totals.select_counted(parameters)], p, weight)
            for parameters, regularizer in (
                (of_embeddings, model._embedding_regularizer),
                (of_networks, model._net_regularizer),
            )
            for p, weight in get_regularizer(regularizer)
            if parameters
        ]
        lies_on_cpu = all(p.device.type == "cpu" for p in [*self.parameters, *of_tables])
        self.on_cpu = lies_on_cpu if on_cpu is None else on_cpu
        if lies_on_cpu:
            keep_freed_memory()

    def __call__(self, forward: Callable[[], Tensor], max_gradient_norm: float) -> Tensor:
        """Take the step.

        Args:
            forward: returns the task loss, a Tensor ().
            max_gradient_norm: of the gradient of all parameters.

        Returns:
            The loss, regularisers included, detached.
        """
        self.prepare()
        loss = self.compute(forward, max_gradient_norm)
        self.count()
        return loss

    def prepare(self) -> None:
        """Do what precedes ``compute`` on the host."""
        for rows in self.rows:
            rows.prepare()

    def count(self) -> None:
        """Do what follows ``compute`` on the host."""
        for rows in self.rows:
            rows.count()

    def compute(self, forward: Callable[[], Tensor], max_gradient_norm: float) -> Tensor:
        """Do the part of a step that can be recorded: it never waits for the device or depends on Python values."""
        self.begin()
        return self.update(self.backward(forward), max_gradient_norm)

    def begin(self) -> None:
        """Forget the gradients of the last step."""
        self.optimizer.zero_grad()
        for rows in self.rows:
            rows.begin()

    def backward(self, forward: Callable[[], Tensor]) -> Tensor:
        """Add the gradients of a loss to those since ``begin``. Return the loss, a Tensor (), detached."""
        for rows in self.rows:
            rows.reading = True
        try:
            loss = forward()
        finally:
            for rows in self.rows:
                rows.reading = False
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def scale_gradients(self, factor: float) -> None:
        """Multiply the gradients since ``begin`` by a factor, before ``update`` adds those of the regularisers."""
        torch._foreach_mul_(_grads(self.parameters), factor)
        for rows in self.rows:
            rows.scale_reads(factor)

    def update(self, loss: Tensor, max_gradient_norm: float) -> Tensor:
        """Add the regularisers' gradients, clip, and update all parameters. Return the loss with regularisers."""
        with torch.no_grad():
            squares, penalties = [], []
            for rows in self.rows:
                square, penalty = rows.collect()
                squares.append(square)
                penalties.append(penalty)
            total_penalty = sum(penalties) + self._regularise()
            total_square = self._squared_norm() + sum(squares)
            square, total_loss = self.totals.join(total_square, loss, total_penalty)
            norm = square.sqrt()
            if self.gradient_norm is not None:
                self.gradient_norm.copy_(norm)
            self._clip(norm, max_gradient_norm)
        self.optimizer.step()
        for rows in self.rows:
            rows.finish()
        return total_loss

    def _regularise(self) -> Tensor | float:
        """Add the gradients of (λ/p)‖w‖ₚᵖ of parameters outside fused tables; return its value for those counted."""
        value: Tensor | float = 0.0
        for parameters, counted, p, weight in self.penalised:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = _grads(parameters)
            if p == 2:
                torch._foreach_add_(grads, parameters, alpha=weight)
            else:
                torch._foreach_add_(grads, torch._foreach_sign(parameters), alpha=weight)
            if counted:
                values = torch.stack(torch._foreach_norm(counted, p))
                value = value + weight / p * (values.square() if p == 2 else values).sum()
        return value

    def _squared_norm(self) -> Tensor | float:
        """Return ‖·‖² of the gradients outside fused tables, of the parameters counted."""
        grads = _grads(self.counted)
        return torch.stack(torch._foreach_norm(grads)).square().sum() if grads else 0.0

    def _clip(self, norm: Tensor, max_gradient_norm: float) -> None:
        """Do what ``torch.nn.utils.clip_grad_norm_`` does on all parameters, whose gradients have this norm."""
        factor = (max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        if self.on_cpu and factor == 1:  # on a GPU this comparison would wait for the device
            return
        torch._foreach_mul_(_grads(self.parameters), factor)
        for rows in self.rows:
            rows.scale(factor)


def _grads(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def regularization_penalty(model: BaseModel) -> Tensor | float:
    """Return FuxiCTR's regularisation loss Σ (λ/p)‖w‖ₚᵖ, for autograd, counting fused tables as embeddings."""
    tables, embeddings, networks = split_parameters(model)
    return sum(
        (weight / p) * torch.norm(parameter, p) ** p
        for parameters, regularizer in (
            (tables + embeddings, model._embedding_regularizer),
            (networks, model._net_regularizer),
        )
        for p, weight in get_regularizer(regularizer)
        for parameter in parameters
    )


def check_updates(model: BaseModel, embedding_updates: str) -> None:
    """Refuse updates by rows if every row has a gradient, or if the optimizer is not plain Adam.

    Raises:
        UsageError: one line that gives the reason.
    """
    if embedding_updates not in UPDATES:
        raise unknown("embedding_updates", embedding_updates, UPDATES)
    if embedding_updates == "dense":
        return
    optimizer, reason = model.optimizer, None
    if not fused_tables(model):
        reason = "there is no fused table (fused_embedding: False, or no plain categorical field)"
    elif model._embedding_regularizer:
        reason = "embedding_regularizer gives every row a gradient: set it to 0"
    elif type(optimizer) is not torch.optim.Adam:
        reason = f"the optimizer must be adam, got {type(optimizer).__name__}"
    elif optimizer.param_groups[0]["weight_decay"]:
        reason = "weight_decay gives every row a gradient: leave it out"
    elif variant := next((v for v in ("amsgrad", "maximize") if optimizer.param_groups[0][v]), None):
        reason = f"the optimizer must be adam without {variant}"
    if reason:
        raise UsageError(f"embedding_updates: {embedding_updates} is not supported here: {reason}")
