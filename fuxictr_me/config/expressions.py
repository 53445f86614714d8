"""Check settings that FuxiCTR evaluates as Python: only documented names with literal arguments are accepted."""

import ast
import inspect
import re
from functools import partial
from types import ModuleType

import torch
from torch import nn

from fuxictr_me.compat import fuxictr_layers as layers
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.errors import UsageError, unknown

PREPROCESSING = (
    "copy_from",
    "squared_log",
    "missing_as_value",
    "convert_to_bucket",
    "convert_weekday",
    "convert_weekend",
    "convert_hour",
)
MAX_CHARACTERS = 500  # of an expression
MAX_ARGUMENT = 10_000_000  # of a layer
NO_ENCODER = (None, "null", "None", "none")  # as FuxiCTR writes "no encoder" for a sequence


def check_feature_encoder(label: str, encoder: object) -> None:
    """Accept ``layers.<Name>(...)`` or ``nn.<Name>(...)`` with literal arguments, a list of them, or none.

    FuxiCTR evaluates the text as Python. The layer is constructed here without memory, to find wrong arguments.

    Args:
        label: what the setting is called in an error.
        encoder: the value in a config, a feature map or ``feature_specs``.

    Raises:
        UsageError: anything else.
    """
    if encoder is None or (isinstance(encoder, str) and encoder in NO_ENCODER):
        return
    if isinstance(encoder, list) and encoder:
        for layer in encoder:
            _check_layer(f"each of {label}", layer)
        return
    _check_layer(label, encoder)


def _check_layer(label: str, text: object) -> None:
    call = _parse(text)
    form = f"{label} must be like layers.MaskedAveragePooling(), or a list of such, got {short_repr(text)}"
    packages = {"layers": layers, "nn": nn}
    if not (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in packages
    ):
        raise UsageError(form)
    known, name = _layers_of(packages[call.func.value.id]), call.func.attr
    if name not in known:
        raise unknown(f"layer of {label}", name, known)
    try:
        arguments = [_literal(argument) for argument in call.args]
        named = _literal_keywords(call)
    except ValueError as error:
        raise UsageError(f"{form}: {error}") from error
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            known[name](*arguments, **named)
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UsageError(f"{label} {short_repr(text)} cannot be made: {reason}") from error


def check_preprocess(label: str, text: object) -> None:
    """Accept a name of ``PREPROCESSING``, optionally with the name of one column in brackets.

    FuxiCTR calls any method of its ``FeatureProcessor`` that the text names.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return
    match = (
        re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", text) if isinstance(text, str) and len(text) < MAX_CHARACTERS else None
    )
    if match is None:
        raise UsageError(f"{label} must be like squared_log or copy_from(column), got {short_repr(text)}")
    if match[1] not in PREPROCESSING:
        raise unknown(label, match[1], PREPROCESSING)
    if match[2] is not None and not match[2].strip():
        raise UsageError(f"{label} must name a column in its brackets, or have none, got {text!r}")


def check_initializer(initializer: object, label: str = "embedding_initializer") -> None:
    """Accept ``paper``, a callable, or one of ``torch.nn.init`` as FuxiCTR writes it, tried on a small table.

    FuxiCTR evaluates the text as Python: ``nn.init.xavier_normal_`` or ``partial(nn.init.normal_, std=1e-4)``.

    Raises:
        UsageError: anything else, or one that leaves values that are not finite.
    """
    if callable(initializer) or (isinstance(initializer, str) and initializer == "paper"):
        return
    call = _parse(initializer)
    named: dict[str, object] = {}
    form = (
        f"{label} must be paper, or like nn.init.xavier_normal_ or partial(nn.init.normal_, std=1e-4), "
        f"got {short_repr(initializer)}"
    )
    try:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "partial" and call.args:
            if len(call.args) > 1:
                raise ValueError("only named arguments")
            named = _literal_keywords(call)
            call = call.args[0]
        path = ast.unparse(call) if call is not None else ""
    except ValueError as error:
        raise UsageError(form) from error
    match = re.fullmatch(r"(?:torch\.)?nn\.init\.(\w+)", path)
    if match is None:
        raise UsageError(form)
    known = [name for name in vars(nn.init) if name.endswith("_") and name[0] != "_"]
    if match[1] not in known:
        raise unknown(f"initializer in {label}", match[1], known)
    _try_initializer(form, partial(getattr(nn.init, match[1]), **named))


def _try_initializer(form: str, initialise: partial) -> None:
    table = torch.zeros(4, 3, device="cpu")  # even if models are built on another device
    if type(table) is not torch.Tensor or table.is_meta:  # in a simulated step, tensors have no values to check
        return
    try:
        with torch.random.fork_rng(devices=[]):
            initialise(table)
    except Exception as error:
        raise UsageError(f"{form}: {' '.join(str(error).split())[:150]}") from error
    if not table.isfinite().all():
        raise UsageError(f"{form}: it leaves values that are not finite")


def _parse(text: object) -> ast.expr | None:
    """Return ``text`` as an expression, None if it is not one. Nothing is evaluated."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> object:
    """Return the value of a literal: None, a bool, a number, text, or a list or tuple of such.

    Raises:
        ValueError: anything else, or a number that is too large for a layer.
    """
    value = ast.literal_eval(node)
    for item in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(item, bool | int | float | str | None):
            raise ValueError("arguments are numbers, text, True, False, None, or lists of them")
        if isinstance(item, int | float) and abs(item) > MAX_ARGUMENT:
            raise ValueError(f"the argument {short_repr(item)} is larger than {MAX_ARGUMENT:,}")
    return value


def _literal_keywords(call: ast.Call) -> dict[str, object]:
    """Return the named arguments of a call. Raise a ValueError unless all are literals."""
    named = {keyword.arg: _literal(keyword.value) for keyword in call.keywords if keyword.arg is not None}
    if len(named) < len(call.keywords):
        raise ValueError("**arguments are not allowed")
    return named


def _layers_of(package: ModuleType) -> dict[str, type]:
    """Return the layers that a package exports, by name."""
    return {
        name: value
        for name, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    }
