"""Rows of random values, and how far an exported model's answers lie from those of the run's model."""

import torch

from fuxictr_me.errors import RunError, UsageError

BATCHES, LIMIT = (1, 1000), 1e-6


def inputs_of(feature_map):
    """What a model is given.

    Args:
        feature_map (FeatureMap): of FuxiCTR.

    Returns:
        dict: field -> (dtype, shape behind the batch): ids int64 (), sequences int64 (L,), numbers float32 (), vectors
        float32 (dim,). Group ids and labels are none.
    """
    inputs = {}
    for field, spec in feature_map.features.items():
        if spec["type"] in ("categorical", "sequence"):
            inputs[field] = (torch.int64, (spec["max_len"],) if spec["type"] == "sequence" else ())
        elif spec["type"] in ("numeric", "embedding"):
            inputs[field] = (torch.float32, (spec["pretrain_dim"],) if spec["type"] == "embedding" else ())
    return inputs


def random_rows(feature_map, rows):
    """Ids of the whole vocabulary, those of padding and of unseen values among them; standard normal numbers.

    Sequences are of every length, empty ones included.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        rows (int): B.

    Returns:
        dict: field -> Tensor (B,) or (B, ·).
    """
    random = torch.Generator().manual_seed(rows)
    drawn = {}
    for field, (dtype, shape) in inputs_of(feature_map).items():
        if dtype == torch.int64:
            size = feature_map.features[field]["vocab_size"]
            drawn[field] = torch.randint(0, size, (rows, *shape), generator=random)
            for length in shape:
                drawn[field][torch.arange(length) >= torch.randint(0, length + 1, (rows, 1), generator=random)] = 0
        else:
            drawn[field] = torch.randn((rows, *shape), generator=random)
    return drawn


def answers(model, rows):
    """Name -> Tensor of the predictions of a model, and of those alone.

    Raises:
        UsageError: a model that wants more than the fields of a row.
    """
    try:
        with torch.no_grad():
            returned = model(rows)
    except Exception as error:
        told = " ".join(str(error).split())[:150]
        raise UsageError(
            f"{type(model).__name__} cannot be exported: its forward fails on the fields of a row alone "
            f"({type(error).__name__}: {told})"
        ) from error
    return {name: value for name, value in returned.items() if name.endswith("pred")}


def largest_difference(expected, found):
    """max |a - b| / max(1, |a|) over all predictions; NaN where one of the two is."""
    differences = ((expected[name] - found[name]).abs() / expected[name].abs().clamp(min=1) for name in expected)
    return torch.cat([difference.detach().flatten() for difference in differences]).max().item()


def check(differences):
    """Refuse a model that answers otherwise than the run's.

    Args:
        differences (dict): rows of a batch -> ``largest_difference``.

    Raises:
        RunError: one above ``LIMIT``, or NaN.
    """
    for rows, difference in differences.items():
        if not difference <= LIMIT:
            raise RunError(
                f"the exported model's predictions differ by {difference:.1e} from those of the run's model in a batch "
                f"of {rows:,} rows, more than {LIMIT:.0e}: nothing was written"
            )
