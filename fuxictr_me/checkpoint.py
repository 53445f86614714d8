"""Checkpoints as FuxiCTR writes them, a state dict a file; whole or not there, and never run as code."""

import errno
import pickle
import warnings
from pathlib import Path

import torch

from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.atomic import replace_whole


def save_state_dict(state_dict, path):
    """Write ``state_dict`` to ``path``; whatever interrupts it, the file that was there stays whole.

    Raises:
        OSError: no space, no permission.
    """
    try:
        replace_whole(path, lambda partial: torch.save(state_dict, partial))
    except RuntimeError as error:  # torch's writer reports a full disk so
        raise OSError(f"could not write {path} (is the disk full?): {' '.join(str(error).split())[:200]}") from error


def load_state_dict(path):
    """The state dict in a checkpoint file, on the CPU.

    Raises:
        UsageError: no such file, or not a file of weights.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's on foreign pickles, beside the error
            state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise missing("checkpoint", path) from error
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path} is not a checkpoint of weights: what else it holds could run code, and is not loaded"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is not a checkpoint of weights: {reason[:200]}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # what torch says of an archive that is cut short
            raise
        raise UsageError(f"{path} is not a checkpoint of weights: it is cut short") from error
    if not isinstance(state_dict, dict):
        raise UsageError(f"{path} is not a checkpoint of weights: it holds a {type(state_dict).__name__}")
    if odd := [name for name in state_dict if not isinstance(name, str)]:
        raise UsageError(f"{path} is not a checkpoint of weights: their names must be text, one is {odd[0]!r}")
    return state_dict


def check_finite(state_dict: dict[str, torch.Tensor], path: str | Path) -> None:
    """Refuse weights from which nothing can be predicted or exported.

    Raises:
        UsageError: what is no tensor, NaN or infinite values; with the name of the weight.
    """
    for name, weight in state_dict.items():
        if not isinstance(weight, torch.Tensor):
            raise UsageError(f"{path}: {name!r} is {type(weight).__name__}, not a tensor of weights")
        if weight.is_floating_point() and (count := int((~weight.isfinite()).sum())):
            raise UsageError(f"{path}: {name!r} has {count:,} of {weight.numel():,} values that are NaN or infinite")
