"""Walks over the autograd graph of a forward pass, and the names of its operations."""

import re
from collections.abc import Container, Iterable
from typing import Any

Node = Any  # a node of autograd's graph, which PyTorch does not type

ACTIVATIONS = (
    *("ReLU", "Tanh", "Sigmoid", "PReLU", "LeakyReLU", "GELU", "ELU", "SELU", "SiLU", "Softplus", "Dice"),
    *("Hardswish", "Mish"),
)
LAYERS = dict.fromkeys(ACTIVATIONS, "activation") | {"Linear": "linear"}
LAYERS |= dict.fromkeys(("BatchNorm1d", "LayerNorm", "Dropout", "Identity", "Flatten"), "other")

ACTIVATION_OPERATIONS = ("Relu", "Tanh", "Sigmoid", "PreluKernel", "LeakyRelu", "Gelu", "Elu", "Silu", "Softplus")
RESHAPES = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Clone", "ToCopy", "Alias")
SCALINGS = ("Mul", "Div", "NativeDropout")  # by values that do not depend on embeddings
LINEAR = (*RESHAPES, "Add", "Sub", "Cat", "Stack", "Neg")
PASSING = (*RESHAPES, "Cat", "Gather", "NativeLayerNorm", "NativeBatchNorm", "NativeDropout", "Mul")


def find_nodes_behind(nodes: Iterable[Node], stop: Container[Node] = ()) -> set[Node]:
    """Return ``nodes`` and all nodes that they depend on, except ``stop`` and nodes reached only through it."""
    seen, todo = set(), list(nodes)
    while todo:
        node = todo.pop()
        if node is not None and node not in seen and node not in stop:
            seen.add(node)
            todo += [follower for follower, _ in node.next_functions]
    return seen


def find_parameters_behind(nodes: Iterable[Node], stop: Container[Node] = ()) -> set[int]:
    """Return the ids of the parameters on which ``nodes`` depend."""
    return {id(node.variable) for node in find_nodes_behind(nodes, stop) if hasattr(node, "variable")}


def operation_name(node: Node) -> str:
    """Return ``Add``, ``Cat``, … of a node ``AddBackward0``."""
    return re.sub(r"(ByExpr)?Backward\d*$", "", type(node).__name__)
