"""One training step, equal to FuxiCTR's, without its sweeps over the tables."""

import torch
from fuxictr.pytorch.torch_utils import get_regularizer

from fuxictr_me.compat import FeatureEmbeddingDict
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.catch_up import CaughtUpRows
from fuxictr_me.training.cpu_memory import keep_freed_memory
from fuxictr_me.training.table_updates import UPDATES, dense_rows
from fuxictr_me.training.touched_rows import LazyRows


class Alone:
    """One process has all parameters: what it counts is the whole."""

    tables_by_rows = True  # else the gradients of fused tables are autograd's, and of every row

    def counted(self, parameters):
        """Those of ``parameters`` whose norms this process adds to the whole: all."""
        return parameters

    def whole(self, square, loss, penalty):
        """‖gradient‖² of all parameters, and the loss with regularisers, from those of the parameters counted."""
        return square, loss + penalty


class Step:
    """Backward, regularisers, clipping and update of a model.

    What FuxiCTR's ``train_step`` does, in the same arithmetic: the regularisers' gradients are added to those of the
    loss rather than found by autograd, and nothing waits for the device.

    Args:
        model (BaseModel): with its optimizer.
        embedding_updates (str): see ``dense_rows``, ``CaughtUpRows``, ``LazyRows``.
        on_cpu (bool or None): whether to go the ways of a CPU; None: where the model lies.
        kernels (module or None): that update fused tables on a GPU; None: those that run there, see ``find_kernels``.
        joint (Alone): what makes the whole norm and loss of those of this process.

    Raises:
        UsageError: row-wise updates with an optimizer or a regulariser that they do not go with.
    """

    def __init__(self, model, embedding_updates="dense", on_cpu=None, joint=None, kernels=None):
        self.optimizer, self.joint = model.optimizer, joint or Alone()
        check_updates(model, embedding_updates)
        tables = fused_tables(model) if self.joint.tables_by_rows else []
        of_tables, of_embeddings, of_networks = split_parameters(model)
        if not self.joint.tables_by_rows:
            of_tables, of_embeddings = [], of_tables + of_embeddings
        penalties = {2: 0.0, 1: 0.0, **dict(get_regularizer(model._embedding_regularizer))}
        if embedding_updates == "dense":
            self.rows = [
                dense_rows(table, self.optimizer, penalties[1], penalties[2], on_cpu, kernels) for table in tables
            ]
        else:
            by_rows = {"catch_up": CaughtUpRows, "lazy": LazyRows}[embedding_updates]
            self.rows = [by_rows(table, self.optimizer, on_cpu, kernels) for table in tables]
        for table, rows in zip(tables, self.rows, strict=True):
            table.settle()  # what an earlier optimizer has put off
            table.updates = rows
        self.parameters = of_embeddings + of_networks
        self.counted = self.joint.counted(self.parameters)
        self.penalised = [
            (parameters, self.joint.counted(parameters), p, weight)
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

    def __call__(self, forward, max_gradient_norm):
        """Do the step.

        Args:
            forward (callable): gives the task loss, a Tensor ().
            max_gradient_norm (float): of the gradient of all parameters.

        Returns:
            Tensor: the loss, regularisers included, detached.
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

    def compute(self, forward, max_gradient_norm):
        """The part of a step that can be recorded: without waiting for the device, and nothing depends on Python."""
        self.optimizer.zero_grad()
        for rows in self.rows:
            rows.begin()
            rows.reading = True
        try:
            loss = forward()
        finally:
            for rows in self.rows:
                rows.reading = False
        loss.backward()
        with torch.no_grad():
            squares, penalties = [], []
            for rows in self.rows:
                square, penalty = rows.collect()
                squares.append(square)
                penalties.append(penalty)
            penalty = sum(penalties) + self._regularise()
            square, whole_loss = self.joint.whole(self._squared_norm() + sum(squares), loss.detach(), penalty)
            self._clip(square.sqrt(), max_gradient_norm)
        self.optimizer.step()
        for rows in self.rows:
            rows.finish()
        return whole_loss

    def _regularise(self):
        """Add the gradients of (λ/p)‖w‖ₚᵖ of parameters outside fused tables; returns its value, of those counted."""
        value = 0.0
        for parameters, counted, p, weight in self.penalised:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in parameters]
            if p == 2:
                torch._foreach_add_(grads, parameters, alpha=weight)
            else:
                torch._foreach_add_(grads, torch._foreach_sign(parameters), alpha=weight)
            if counted:
                values = torch.stack(torch._foreach_norm(counted, p))
                value = value + weight / p * (values.square() if p == 2 else values).sum()
        return value

    def _squared_norm(self):
        """‖·‖² of the gradients outside fused tables, of the parameters counted."""
        grads = _grads(self.counted)
        return torch.stack(torch._foreach_norm(grads)).square().sum() if grads else 0.0

    def _clip(self, norm, max_gradient_norm):
        """As ``torch.nn.utils.clip_grad_norm_`` on all parameters, whose gradients have this norm."""
        factor = (max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        if self.on_cpu and factor == 1:  # where asking costs nothing
            return
        torch._foreach_mul_(_grads(self.parameters), factor)
        for rows in self.rows:
            rows.scale(factor)


def _grads(parameters):
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def split_parameters(model):
    """The trained parameters of a model as FuxiCTR's regularisers tell them apart.

    Returns:
        (list, list, list): fused tables, other parameters of feature-embedding layers, all the rest.
    """
    tables, embeddings = [], {}
    for module in model.modules():
        if isinstance(module, FusedTable):
            tables.append(module.weight)
        elif type(module) is FeatureEmbeddingDict:
            embeddings.update({id(p): p for p in module.parameters() if p.requires_grad})
    known = {id(p) for p in tables} | set(embeddings)
    return tables, list(embeddings.values()), [p for p in model.parameters() if p.requires_grad and id(p) not in known]


def penalty(model):
    """FuxiCTR's regularisation loss Σ (λ/p)‖w‖ₚᵖ, for autograd; fused tables count as the embeddings that they are."""
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


def check_updates(model, embedding_updates):
    """Refuse updates by rows where every row has a gradient, or where the optimizer is not plain Adam.

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
    if reason:
        raise UsageError(f"embedding_updates: {embedding_updates} cannot be: {reason}")


def fused_tables(model):
    """The ``FusedTable`` modules of a model."""
    return [module for module in model.modules() if isinstance(module, FusedTable)]
