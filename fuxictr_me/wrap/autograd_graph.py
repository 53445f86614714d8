"""What a tensor depends on: walks over the autograd graph behind it."""

import re


def nodes_behind(nodes, stop=()):
    """All nodes that ``nodes`` depend on, themselves included, but for ``stop`` and what lies behind it alone."""
    seen, todo = set(), list(nodes)
    while todo:
        node = todo.pop()
        if node is not None and node not in seen and node not in stop:
            seen.add(node)
            todo += [follower for follower, _ in node.next_functions]
    return seen


def parameters_behind(nodes, stop=()):
    """The ids of the parameters on which ``nodes`` depend."""
    return {id(node.variable) for node in nodes_behind(nodes, stop) if hasattr(node, "variable")}


def operation(node):
    """``Add``, ``Cat``, ... of a node ``AddBackward0``."""
    return re.sub(r"(ByExpr)?Backward\d*$", "", type(node).__name__)
