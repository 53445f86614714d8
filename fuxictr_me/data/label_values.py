"""Check the labels of ids that are built already."""

from pathlib import Path

import numpy as np

from fuxictr_me.errors import UsageError

BINARY = "binary_classification"


def binary_labels(labels: list[str], task: str | list[str] | None) -> list[str]:
    """Return the labels that must be 0 or 1: those of ``binary_classification``, by a task for all or for each."""
    tasks = task if isinstance(task, list) else [task] * len(labels)
    return [label for label, one in zip(labels, tasks, strict=False) if one == BINARY]


def check_label(values: np.ndarray, label: str, path: str | Path, is_binary: bool = True) -> None:
    """Refuse labels that are not finite, or neither 0 nor 1 where they must be.

    Raises:
        UsageError: with the values found, and in how many rows.
    """
    if values.dtype.kind not in "fiub":
        raise UsageError(f"{path}: label {label!r} holds {values.dtype}, not numbers")
    wrong = values[(values != 0) & (values != 1)] if is_binary else values[~np.isfinite(values)]
    if len(wrong):
        allowed = "0 or 1 for binary_classification" if is_binary else "finite"
        raise UsageError(
            f"{path}: label {label!r} must be {allowed}, "
            f"found {', '.join(f'{value:g}' for value in np.unique(wrong)[:3])} in {len(wrong)} rows"
        )
