"""Compare the predictions of an exported model with those of the run's model, on random rows."""

from collections.abc import Callable
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor

from fuxictr_me.errors import RunError, UsageError

BATCH_SIZES, LIMIT = (1, 1000), 1e-6
Tensors = dict[str, Tensor]
Signature = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def model_inputs(feature_map: FeatureMap) -> Signature:
    """Return the inputs of a model: field -> (dtype, shape after the batch dimension).

    These are ids, int64 (); sequences, int64 (L,); numbers, float32 (); and vectors, float32 (dim,). Group ids and
    labels are not inputs.
    """
    inputs: Signature = {}
    for field, spec in feature_map.features.items():
        if spec["type"] in ("categorical", "sequence"):
            inputs[field] = (torch.int64, (spec["max_len"],) if spec["type"] == "sequence" else ())
        elif spec["type"] in ("numeric", "embedding"):
            inputs[field] = (torch.float32, (spec["pretrain_dim"],) if spec["type"] == "embedding" else ())
    return inputs


def random_rows(feature_map: FeatureMap, batch_size: int) -> Tensors:
    """Return random inputs, field -> Tensor (B,) or (B, ·).

    Ids are of the whole vocabulary, with padding and unseen values. Sequences have every length, also 0. Numbers are
    standard normal.
    """
    generator = torch.Generator().manual_seed(batch_size)
    rows = {}
    for field, (dtype, shape) in model_inputs(feature_map).items():
        if dtype == torch.int64:
            size = feature_map.features[field]["vocab_size"]
            ids = torch.randint(0, size, (batch_size, *shape), generator=generator)
            for length in shape:
                lengths = torch.randint(0, length + 1, (batch_size, 1), generator=generator)
                ids[torch.arange(length) >= lengths] = 0
            rows[field] = ids
        else:
            rows[field] = torch.randn((batch_size, *shape), generator=generator)
    return rows


def predict_rows(model: Callable[[Tensors], dict[str, Any]], rows: Tensors) -> Tensors:
    """Return the predictions of a model for inputs: name -> Tensor.

    Raises:
        UsageError: the model needs more than the fields of a row.
    """
    try:
        with torch.no_grad():
            returned = model(rows)
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UsageError(
            f"{type(model).__name__} cannot be exported: its forward fails on the fields of a row alone "
            f"({type(error).__name__}: {reason})"
        ) from error
    return {name: value for name, value in returned.items() if name.endswith("pred")}


def largest_difference(expected: Tensors, predicted: Tensors) -> float:
    """Return max |a - b| / max(1, |a|) over all predictions; NaN if one of the two is NaN."""
    differences = ((expected[name] - predicted[name]).abs() / expected[name].abs().clamp(min=1) for name in expected)
    return torch.cat([difference.detach().flatten() for difference in differences]).max().item()


def check_differences(differences: dict[int, float]) -> None:
    """Refuse an exported model whose predictions differ from those of the run's model.

    Args:
        differences: batch size -> ``largest_difference``.

    Raises:
        RunError: a difference is above ``LIMIT``, or NaN.
    """
    for batch_size, difference in differences.items():
        if not difference <= LIMIT:
            raise RunError(
                f"the exported model's predictions differ by {difference:.1e} from those of the run's model in a batch "
                f"of {batch_size:,} rows, more than {LIMIT:.0e}: nothing was written"
            )
