"""One forward pass of a model, watched: which modules were called, and what depends on what."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fuxictr_me.compat import FeatureEmbeddingDict, LogisticRegression
from fuxictr_me.wrap.autograd_graph import nodes_behind, parameters_behind


@dataclass
class Call:
    """A call of a module.

    Attributes:
        path (str): of the module in the model.
        module (nn.Module)
        inputs, outputs (list): the autograd node of each leaf, in the order of ``tree_leaves``, of what goes in
            (positional, then named) or comes out; None of what has no gradient.
    """

    path: str
    module: nn.Module
    inputs: list
    outputs: list


class Trace:
    """Module calls on the autograd graph of one batch.

    Hooks on the modules and the graph that autograd records anyway; the forward itself runs as it is, with its
    own control flow. What is cut off from gradients (``detach``, indices) is not seen as a dependence.

    Args:
        model (BaseModel): of FuxiCTR, in training mode.
        batch: as its ``forward`` takes it.

    Attributes:
        calls (list of Call): in the order in which they ended, inner modules first.
        predictions (dict): name in the returned dict -> node of a (B, 1) tensor.
        loss (node): of ``add_loss``, which is without regularisers.
        embeddings (dict): id of each trained parameter of the embeddings -> its name. Linear terms (FuxiCTR's
            ``LogisticRegression``) are none: M of them are one.
        linear_terms (set): ids of those parameters.
        decides_on_values (bool): whether the forward turns a value that depends on parameters into a Python one, as
            ``if`` does.
    """

    def __init__(self, model, batch):
        self.model, self.calls = model, []
        paths = {module: path for path, module in model.named_modules() if path}
        handles, stack = [], []

        def before(module, args, kwargs):
            stack.append(_nodes((args, kwargs)))

        def after(module, args, kwargs, output):
            self.calls.append(Call(paths[module], module, stack.pop(), _nodes(output)))

        for module in paths:
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        decisions = _Decisions()
        try:
            with torch.enable_grad(), decisions:
                returned = model(batch)
        finally:
            for handle in handles:
                handle.remove()
        self.decides_on_values = decisions.found
        self.predictions = {
            name: value.grad_fn
            for name, value in returned.items()
            if isinstance(value, torch.Tensor) and value.grad_fn is not None and value.ndim == 2 and value.shape[1] == 1
        }
        with torch.enable_grad():
            self.loss = model.add_loss(returned, model.get_labels(batch)).grad_fn
        self._held = returned  # a node is the same object only as long as something holds it
        self.linear_terms, self.embeddings = set(), {}
        for module in model.modules():
            if isinstance(module, LogisticRegression):
                self.linear_terms |= {id(p) for p in module.parameters()}
        for path, module in model.named_modules():
            if isinstance(module, FeatureEmbeddingDict | nn.Embedding):
                for name, p in module.named_parameters(prefix=path):
                    if p.requires_grad and id(p) not in self.linear_terms:
                        self.embeddings.setdefault(id(p), name)
        self.given_by = {}
        for call in self.calls:
            for node in filter(None, call.outputs):
                self.given_by.setdefault(node, []).append(call)
        self._of_a_set = {}

    def of_a_set(self, node):
        """Whether a node depends on embeddings."""
        if node is None:
            return False
        if node not in self._of_a_set:
            self._of_a_set[node] = not self.embeddings.keys().isdisjoint(parameters_behind([node]))
        return self._of_a_set[node]

    def operands(self, node):
        """The nodes that depend on embeddings, of those that the operation of ``node`` takes."""
        return [follower for follower, _ in node.next_functions if self.of_a_set(follower)]

    def leads_to(self, nodes):
        """The names of the predictions that depend on any of ``nodes``."""
        return [name for name, end in self.predictions.items() if not nodes_behind([end]).isdisjoint(nodes)]


def _nodes(value):
    return [getattr(leaf, "grad_fn", None) for leaf in tree_leaves(value)]


def _tensors(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


class _Decisions(TorchFunctionMode):
    """Watches for values that depend on parameters and become Python's, also where autograd does not follow."""

    DECIDING = tuple(
        getattr(torch.Tensor, name) for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist")
    )

    def __init__(self):
        super().__init__()
        self.found, self._held, self._marked = False, [], set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        of_lengths_alone = getattr(function, "__name__", "") == "_pack_padded_sequence"  # its integers
        if not of_lengths_alone and any(t.requires_grad or id(t) in self._marked for t in _tensors([args, kwargs])):
            self.found |= function in self.DECIDING
            without_gradient = [t for t in _tensors(result) if not t.requires_grad]
            self._held += without_gradient  # an id is a tensor's own only as long as it lives
            self._marked |= {id(t) for t in without_gradient}
        return result
