"""Names of layers and of autograd's operations, as far as they say where a hidden layer ends."""

from fuxictr_me.wrap.autograd_graph import operation

ACTIVATIONS = ("ReLU", "Tanh", "Sigmoid", "PReLU", "LeakyReLU", "GELU", "ELU", "SELU", "SiLU", "Softplus", "Dice")
ACTIVATIONS += ("Hardswish", "Mish")
LAYERS = dict.fromkeys(ACTIVATIONS, "activation") | {"Linear": "linear"}
LAYERS |= dict.fromkeys(("BatchNorm1d", "LayerNorm", "Dropout", "Identity", "Flatten"), "other")

ACTIVATION_OPERATIONS = ("Relu", "Tanh", "Sigmoid", "PreluKernel", "LeakyRelu", "Gelu", "Elu", "Silu", "Softplus")
RESHAPES = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Clone", "ToCopy", "Alias")
SCALINGS = ("Mul", "Div", "NativeDropout")  # by what does not depend on embeddings
LINEAR = (*RESHAPES, "Add", "Sub", "Cat", "Stack", "Neg")
PASSING = (*RESHAPES, "Cat", "Gather", "NativeLayerNorm", "NativeBatchNorm", "NativeDropout", "Mul")


def activates(trace, node):
    """Whether ``node`` is an activation's, a module's or a function's."""
    modules = (type(call.module).__name__ for call in trace.given_by.get(node, ()))
    return operation(node) in ACTIVATION_OPERATIONS or any(name in ACTIVATIONS for name in modules)


def activated(trace, node):
    """Whether an activation lies right before ``node``, but for reshapes, concatenations, norms and products."""
    while not activates(trace, node):
        operands = trace.operands(node)
        if operation(node) not in PASSING or not operands:
            return False
        node = operands[0]
    return True
