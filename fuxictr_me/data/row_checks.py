"""Checks of ids, numeric values and labels before they are fed to a model."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import ID_DTYPES, Layout, Matrices
from fuxictr_me.errors import UsageError

BINARY = "binary_classification"
REDUCED_AT_ONCE = 1 << 10  # values in one row of a reduction


def binary_labels(labels: list[str], task: str | list[str] | None) -> list[str]:
    """Return the labels that must be 0 or 1, given one task for all labels or one task per label."""
    tasks = task if isinstance(task, list) else [task] * len(labels)
    return [label for label, one in zip(labels, tasks, strict=False) if one == BINARY]


def check_label(values: np.ndarray, label: str, path: str | Path, is_binary: bool = True) -> None:
    """Refuse labels that are not finite or, if ``is_binary``, not 0 or 1.

    Raises:
        UsageError: names the wrong values and counts their rows.
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


def check_column(values: np.ndarray, spec: dict | None, name: str, path: str | Path) -> None:
    """Refuse values that are not finite in 32 bits, and ids that are not whole numbers or lie outside the vocabulary.

    Args:
        values: (N,) or (N, L), numbers.
        spec: the field's entry in the feature map; None for a label.
        name: of the column.
        path: file that the values come from, which error messages name.

    Raises:
        UsageError: names the column, the wrong values and the allowed ones.
    """
    holds_ids = spec is not None and spec["type"] in ("categorical", "sequence")
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32, copy=False))  # models compute in 32 bits
        if not finite.all():
            raise _not_finite(path, name, finite)
        if holds_ids and not (values == np.floor(values)).all():
            raise UsageError(f"{path}: field {name!r} has ids that are not whole numbers")
    if spec is not None and holds_ids and values.size:
        _check_range(int(values.min()), int(values.max()), spec["vocab_size"], name, path)


def check_matrices(
    matrices: Matrices, layout: Layout, feature_map: FeatureMap, path: str | Path, binary: Iterable[str] = ()
) -> None:
    """Check rows that lie side by side in matrices as ``check_column`` and ``check_label`` do, one pass per matrix.

    Args:
        matrices: matrix -> array (n, width), with n > 0.
        layout: positions of the columns.
        feature_map: of the data set.
        path: file that the rows come from, which error messages name.
        binary: labels that must be 0 or 1.

    Raises:
        UsageError: names the column, the wrong values and the allowed ones.
    """
    lows = {matrix: reduce_columns(np.minimum, values) for matrix, values in matrices.items()}
    highs = {matrix: reduce_columns(np.maximum, values) for matrix, values in matrices.items()}
    for name, place in layout.places.items():
        low, high = (bounds[place.matrix][place.start : place.stop] for bounds in (lows, highs))
        if matrices[place.matrix].dtype.kind == "f":
            if not (np.isfinite(low).all() and np.isfinite(high).all()):  # min and max of a column with a NaN are NaN
                raise _not_finite(path, name, np.isfinite(place.slice(matrices[place.matrix])))
        elif place.matrix in ID_DTYPES:
            _check_range(int(low.min()), int(high.max()), feature_map.features[name]["vocab_size"], name, path)
    for label in binary:
        check_label(layout.places[label].slice(matrices[layout.places[label].matrix]), label, path)


def reduce_columns(function: np.ufunc, values: np.ndarray) -> np.ndarray:
    """Return ``function.reduce(values, axis=0)`` of rows (n, width), n > 0, as (width,).

    numpy reduces long rows ten times faster than short ones, so several rows are laid side by side first. ``function``
    must not depend on the order of its operands, as minimum and maximum do not.
    """
    width = values.shape[1]
    side_by_side = max(1, REDUCED_AT_ONCE // width)
    whole = len(values) // side_by_side * side_by_side
    if whole == 0:
        return function.reduce(values, axis=0)
    folded = function.reduce(values[:whole].reshape(-1, side_by_side * width), axis=0)
    return function.reduce(np.concatenate([folded.reshape(side_by_side, width), values[whole:]]), axis=0)


def _check_range(low: int, high: int, vocab_size: int, name: str, path: str | Path) -> None:
    if low < 0 or high >= vocab_size:
        raise UsageError(
            f"{path}: field {name!r} has ids from {low} to {high}, but its vocabulary holds 0 to {vocab_size - 1}"
        )


def _not_finite(path: str | Path, name: str, is_finite: np.ndarray) -> UsageError:
    count = int(np.count_nonzero(~is_finite))
    return UsageError(f"{path}: column {name!r} has {count} values that are NaN or infinite")
