"""Tensors that have a shape but no data, in which a step is simulated."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._meta_registrations  # shapes of operations that PyTorch computes in Python
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU, META = torch.device("cpu"), torch.device("meta")


@contextlib.contextmanager
def tensors_without_data(is_fast: bool) -> Iterator[None]:
    """Create all tensors in the context without data.

    Args:
        is_fast: whether tensors are on PyTorch's device ``meta``, but say that they are on the CPU. This is three times
            as fast as PyTorch's fake tensors, for code that does not read values into lists and does not use autocast.
    """
    if is_fast:
        with _OnMeta(), _SaysCpu():
            yield
    else:
        with FakeTensorMode(allow_non_fake_inputs=True), _fake_tensors_become_lists():
            yield


@contextlib.contextmanager
def _fake_tensors_become_lists() -> Iterator[None]:
    """Let ``FakeTensor.tolist`` read each value. In PyTorch 2.4 it needs symbolic shapes; newer ones do the same."""
    before = FakeTensor.tolist
    setattr(FakeTensor, "tolist", _to_list)  # noqa: B010 - mypy refuses to assign to a method
    try:
        yield
    finally:
        setattr(FakeTensor, "tolist", before)  # noqa: B010


def _to_list(tensor: Tensor) -> Any:
    return [_to_list(part) for part in tensor] if tensor.dim() else tensor.item()


class _SaysCpu(TorchFunctionMode):
    """Let tensors on ``meta`` say that they are on the CPU, so that code does what it would do there."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:
            return CPU
        if func is Tensor.to:
            args = tuple(META if argument == CPU else argument for argument in args)
            kwargs = {key: META if value == CPU else value for key, value in kwargs.items()}
        return func(*args, **kwargs)


class _OnMeta(TorchDispatchMode):
    """Create tensors on ``meta``, whatever device is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._takes_device: dict[OpOverload, bool] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.lift_fresh.default:  # of torch.tensor(values)
            return args[0].to(META)
        if func not in self._takes_device:
            self._takes_device[func] = any(argument.name == "device" for argument in func._schema.arguments)
        if self._takes_device[func] and ("device" in kwargs or not any(isinstance(a, Tensor) for a in args)):
            kwargs = {**kwargs, "device": META}
        return func(*args, **kwargs)
