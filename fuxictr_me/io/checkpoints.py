"""Save and load checkpoints as FuxiCTR does, one state dict per file; atomically, and without running code."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.atomic import write_atomically


def save_state_dict(state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Write ``state_dict`` to ``path`` atomically: if writing is interrupted, the old file stays.

    Raises:
        OSError: no space, no permission.
    """
    write_torch_file(state_dict, path)


def write_torch_file(content: Mapping[str, Any], path: str | Path) -> None:
    """Write tensors, numbers and text with ``torch.save``, atomically.

    Raises:
        OSError: no space, no permission.
    """
    try:
        write_atomically(path, lambda partial: torch.save(content, partial))
    except RuntimeError as error:  # how torch's writer reports a full disk
        raise OSError(f"could not write {path} (is the disk full?): {' '.join(str(error).split())[:200]}") from error


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint file, on the CPU. No code in the file is run.

    Raises:
        UsageError: there is no such file, or it does not hold weights (name -> tensor).
        OSError: there is no permission to read it.
    """
    state_dict = read_torch_file(path, "a checkpoint of weights", map_location="cpu")
    _check_tensors(state_dict, path)
    return state_dict


def read_torch_file(path: str | Path, kind: str, **options: Any) -> Any:
    """Return the content of a file of ``torch.save``: tensors, numbers and text. No code in the file is run.

    Args:
        path: of the file.
        kind: what the file must be, for errors.
        **options: of ``torch.load``.

    Raises:
        UsageError: there is no such file, or it holds anything else.
        OSError: there is no permission to read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign pickles, in addition to the error
            return torch.load(path, weights_only=True, **options)
    except FileNotFoundError as error:
        raise missing("checkpoint", path) from error
    except (IsADirectoryError, PermissionError):
        raise
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is not {kind}: it also holds objects that could run code, and is not loaded"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} is not {kind}: it is cut short or cannot be read") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is not {kind}: {reason[:200]}") from error


def check_finite(state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Raise a UsageError that names the first tensor with NaN or infinity: it cannot be measured or served."""
    for name, tensor in state_dict.items():
        # A sum reads the tensor once and allocates nothing. Single values are checked only if the sum is not finite.
        if tensor.is_floating_point() and not tensor.sum().isfinite():
            for problem, is_bad in (("NaN", tensor.isnan()), ("infinite", tensor.isinf())):
                if count := int(is_bad.sum()):
                    raise UsageError(
                        f"{path}: {count} of {tensor.numel()} values of {name!r} are {problem}: "
                        "the run that wrote it has diverged"
                    )


def _check_tensors(state_dict: object, path: str | Path) -> None:
    if not isinstance(state_dict, dict):
        raise UsageError(f"{path} is not a checkpoint of weights: it holds a {type(state_dict).__name__}")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            held = f"{name!r} -> {type(value).__name__}"
            raise UsageError(f"{path} is not a checkpoint of weights, names -> tensors: it holds {held}")
        if value.is_meta or value.layout is not torch.strided or value.is_complex() or value.is_quantized:
            kind = "without values" if value.is_meta else f"{value.layout}, {value.dtype}"
            raise UsageError(
                f"{path} is not a checkpoint of weights: {name!r} is not a plain tensor of numbers, but {kind}"
            )
