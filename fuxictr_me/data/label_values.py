"""Check the labels of ids that are built already."""

from collections.abc import Iterator
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


def check_npz_labels(path: str | Path, labels: list[str], task: str | list[str] | None) -> None:
    """Refuse labels of an npz split, which FuxiCTR's loader takes as they are.

    Args:
        path: as FuxiCTR takes it: a file, a folder of blocks, or either without its ending.
        labels: of the feature map, in order.
        task: of all labels, or of each.

    Raises:
        UsageError: a label that is missing, not finite, or neither 0 nor 1 for binary_classification.
    """
    binary = binary_labels(labels, task)
    for file in _npz_files(Path(path)):
        with np.load(file, allow_pickle=False) as arrays:
            for label in labels:
                if label not in arrays:
                    raise UsageError(f"{file}: column {label!r} is missing (there are {', '.join(arrays)})")
                check_label(arrays[label], label, file, label in binary)


def _npz_files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(path.glob("*.npz"))
    else:
        candidates = (path, Path(f"{path}.npz"))
        yield from [file for file in candidates if file.is_file()][:1]
