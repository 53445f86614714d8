"""A record of one forward pass of a model: which modules were called, and what depends on what."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fuxictr_me.compat import BaseModel, FeatureEmbeddingDict, LogisticRegression
from fuxictr_me.wrap.autograd_graph import (
    ACTIVATION_OPERATIONS,
    ACTIVATIONS,
    PASSING,
    Node,
    find_nodes_behind,
    find_parameters_behind,
    operation_name,
)


@dataclass
class Call:
    """A call of a module.

    Attributes:
        path: of the module in the model.
        module: the module.
        inputs, outputs: the autograd node of each leaf, in the order of ``tree_leaves``, of the arguments
            (positional, then named) and of the result; None for a leaf without gradient.
    """

    path: str
    module: nn.Module
    inputs: list[Node | None]
    outputs: list[Node | None]


class Trace:
    """Module calls on the autograd graph of one batch.

    It uses hooks on the modules and the graph that autograd records anyway. The forward itself runs unchanged, with its
    own control flow. A dependence that has no gradient (``detach``, indices) is not seen.

    Args:
        model: a FuxiCTR model in training mode.

    Attributes:
        calls: in the order in which they ended, inner modules first.
        predictions: name in the returned dict -> node of a (B, 1) tensor.
        loss: node of ``add_loss``, which has no regularisers.
        embeddings: id of each trained parameter of the embeddings -> its name. Linear terms (FuxiCTR's
            ``LogisticRegression``) do not count: M of them are equivalent to one.
        linear_terms: ids of the parameters of linear terms.
        calls_by_output: node -> the calls that return it.
        decides_on_values: whether the forward turns a value that depends on parameters into a Python value, as
            ``if`` does.
    """

    def __init__(self, model: BaseModel, batch: Any) -> None:
        self.model = model
        self.calls: list[Call] = []
        returned = self._run(batch)
        self.predictions: dict[str, Node] = {
            name: value.grad_fn
            for name, value in returned.items()
            if isinstance(value, Tensor) and value.grad_fn is not None and value.ndim == 2 and value.shape[1] == 1
        }
        with torch.enable_grad():
            self.loss = model.add_loss(returned, model.get_labels(batch)).grad_fn
        self._held = returned  # a node is the same object only as long as something holds it
        self.linear_terms = {
            id(p) for module in model.modules() if isinstance(module, LogisticRegression) for p in module.parameters()
        }
        self.embeddings: dict[int, str] = {}
        for path, module in model.named_modules():
            if isinstance(module, FeatureEmbeddingDict | nn.Embedding):
                for name, p in module.named_parameters(prefix=path):
                    if p.requires_grad and id(p) not in self.linear_terms:
                        self.embeddings.setdefault(id(p), name)
        self.calls_by_output: dict[Node, list[Call]] = {}
        for call in self.calls:
            for node in filter(None, call.outputs):
                self.calls_by_output.setdefault(node, []).append(call)
        self._depends: dict[Node, bool] = {}

    def _run(self, batch: Any) -> dict[str, Any]:
        """Run the forward with hooks on all modules, and return its result."""
        paths = {module: path for path, module in self.model.named_modules() if path}
        stack: list[list[Node | None]] = []

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            stack.append(_nodes_of((args, kwargs)))

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.calls.append(Call(paths[module], module, stack.pop(), _nodes_of(output)))

        handles = []
        for module in paths:
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        decisions = _Decisions()
        try:
            with torch.enable_grad(), decisions:
                returned = self.model(batch)
        finally:
            for handle in handles:
                handle.remove()
        self.decides_on_values = decisions.has_decided
        return returned

    def depends_on_embeddings(self, node: Node | None) -> bool:
        """Return whether a node depends on embeddings."""
        if node is None:
            return False
        if node not in self._depends:
            self._depends[node] = not self.embeddings.keys().isdisjoint(find_parameters_behind([node]))
        return self._depends[node]

    def operands(self, node: Node) -> list[Node]:
        """Return the operands of the operation of ``node`` that depend on embeddings."""
        return [follower for follower, _ in node.next_functions if self.depends_on_embeddings(follower)]

    def predictions_from(self, nodes: Iterable[Node]) -> list[str]:
        """Return the names of the predictions that depend on any of ``nodes``."""
        nodes = set(nodes)
        return [name for name, end in self.predictions.items() if not find_nodes_behind([end]).isdisjoint(nodes)]

    def follows_activation(self, node: Node) -> bool:
        """Return whether ``node`` comes directly after an activation.

        Reshapes, concatenations, norms and products may lie between them.
        """
        while not self._is_activation(node):
            operands = self.operands(node)
            if operation_name(node) not in PASSING or not operands:
                return False
            node = operands[0]
        return True

    def _is_activation(self, node: Node) -> bool:
        modules = (type(call.module).__name__ for call in self.calls_by_output.get(node, ()))
        return operation_name(node) in ACTIVATION_OPERATIONS or any(name in ACTIVATIONS for name in modules)


def _nodes_of(value: Any) -> list[Node | None]:
    return [getattr(leaf, "grad_fn", None) for leaf in tree_leaves(value)]


def _tensors_of(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class _Decisions(TorchFunctionMode):
    """Detects values that depend on parameters and become Python values, also where autograd does not follow.

    Attributes:
        has_decided: whether there was one.
    """

    DECIDING = tuple(
        getattr(torch.Tensor, name) for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
    )

    def __init__(self) -> None:
        super().__init__()
        self.has_decided = False
        self._held: list[Tensor] = []
        self._marked: set[int] = set()

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        depends_on_lengths = getattr(function, "__name__", "") == "_pack_padded_sequence"  # its integers are lengths
        inputs = _tensors_of([args, kwargs])
        if not depends_on_lengths and any(t.requires_grad or id(t) in self._marked for t in inputs):
            self.has_decided |= function in self.DECIDING
            without_gradient = [t for t in _tensors_of(result) if not t.requires_grad]
            self._held += without_gradient  # an id is unique only as long as its tensor lives
            self._marked |= {id(t) for t in without_gradient}
        return result
