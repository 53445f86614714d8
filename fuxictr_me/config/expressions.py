"""Settings that FuxiCTR evaluates as Python: only documented names with literal arguments come through."""

import ast
import inspect
import re
from functools import partial

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
LONGEST = 500  # characters of an expression
LARGEST = 10_000_000  # an argument of a layer
NO_ENCODER = (None, "null", "None", "none")  # as FuxiCTR writes "no encoder" for a sequence


def check_feature_encoder(label: str, encoder: object) -> None:
    """Accept ``layers.<Name>(...)`` or ``nn.<Name>(...)`` with literal arguments, a list of them, or none.

    FuxiCTR evaluates the text as Python. The layer is made once, on no device, so that wrong arguments are named here.

    Args:
        label: what the setting is called in an error.
        encoder: as a config, a feature map or ``feature_specs`` has it.

    Raises:
        UsageError: anything else.
    """
    if encoder is None or (isinstance(encoder, str) and encoder in NO_ENCODER):
        return
    if isinstance(encoder, list) and encoder:
        for one in encoder:
            _check_layer(f"each of {label}", one)
        return
    _check_layer(label, encoder)


def _check_layer(label: str, text: object) -> None:
    call = _parse(text)
    form = f"{label} must be like layers.MaskedAveragePooling(), or a list of such, got {short_repr(text)}"
    function = getattr(call, "func", None)
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        raise UsageError(form)
    homes = {"layers": _modules_of(layers), "nn": _modules_of(nn)}
    if function.value.id not in homes:
        raise UsageError(form)
    known = homes[function.value.id]
    if function.attr not in known:
        raise unknown(f"layer of {label}", function.attr, known)
    try:
        arguments = [_literal(argument) for argument in call.args]
        named = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    except ValueError as error:
        raise UsageError(f"{form}: {error}") from error
    if None in named:
        raise UsageError(form)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            known[function.attr](*arguments, **named)
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UsageError(f"{label} {short_repr(text)} cannot be made: {reason}") from error


def check_preprocess(label: str, text: object) -> None:
    """Accept a name of ``PREPROCESSING``, with the name of one column in brackets or without.

    FuxiCTR calls the method of its ``FeatureProcessor`` that the text names, whatever it is.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", text) if isinstance(text, str) and len(text) < LONGEST else None
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
    arguments, named = [], {}
    form = (
        f"{label} must be paper, or like nn.init.xavier_normal_ or partial(nn.init.normal_, std=1e-4), "
        f"got {short_repr(initializer)}"
    )
    try:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "partial" and call.args:
            arguments = [_literal(argument) for argument in call.args[1:]]
            named = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
            call = call.args[0]
        path = ast.unparse(call) if call is not None else ""
    except ValueError as error:
        raise UsageError(form) from error
    match = re.fullmatch(r"(?:torch\.)?nn\.init\.(\w+)", path)
    if match is None or arguments or None in named:
        raise UsageError(form)
    known = [name for name in vars(nn.init) if name.endswith("_") and name[0] != "_"]
    if match[1] not in known:
        raise unknown(f"initializer in {label}", match[1], known)
    _try_initializer(form, partial(getattr(nn.init, match[1]), **named))


def _try_initializer(form: str, initialise: partial) -> None:
    table = torch.zeros(4, 3, device="cpu")  # also where models are built on another device
    if type(table) is not torch.Tensor:  # where a step is simulated, tensors have no values to look at
        return
    try:
        with torch.random.fork_rng(devices=[]):
            initialise(table)
    except Exception as error:
        raise UsageError(f"{form}: {' '.join(str(error).split())[:150]}") from error
    if not table.isfinite().all():
        raise UsageError(f"{form}: it leaves values that are not finite")


def _parse(text: object) -> ast.expr | None:
    """Return the expression that ``text`` is, None where it is none. Nothing is run."""
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _literal(node: ast.expr) -> object:
    """Return the value of a literal: None, a bool, a number, text, or a list or tuple of such.

    Raises:
        ValueError: anything else, or a number that no layer has.
    """
    value = ast.literal_eval(node)
    for one in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(one, bool | int | float | str | None):
            raise ValueError("arguments are numbers, text, True, False, None, or lists of them")
        if isinstance(one, int | float) and abs(one) > LARGEST:
            raise ValueError(f"the argument {short_repr(one)} is larger than {LARGEST:,}")
    return value


def _modules_of(package: object) -> dict[str, type]:
    """Return the layers that a package exports, by name."""
    return {
        name: value
        for name, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not name.startswith("_")
    }
