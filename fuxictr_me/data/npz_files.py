"""Ids as npz, which FuxiCTR 2.2 wrote and its loader takes as they are: read them with every check."""

from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.split_rows import check
from fuxictr_me.data.label_values import binary_labels, check_label
from fuxictr_me.errors import UsageError, missing, unknown

ROWS_A_TIME = 1 << 17


def check_npz(path: str | Path, feature_map: FeatureMap, task: str | list[str] | None) -> None:
    """Refuse a damaged npz split, and one with ids or labels that cannot be.

    Args:
        path: as FuxiCTR takes it: a file, a folder of blocks, or either without its ending.
        feature_map: of the data set.
        task: of all labels, or of each.

    Raises:
        UsageError: see ``read_npz``; or labels other than 0 and 1 for binary_classification.
    """
    path = Path(path)
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path if path.is_file() else Path(f"{path}.npz")]
    if not files or not files[0].is_file():
        raise missing("npz data", path)
    columns = read_npz(files, feature_map)
    for label in binary_labels(feature_map.labels, task):
        check_label(columns[label], label, path)


def read_npz(files: list[Path], feature_map: FeatureMap) -> dict[str, np.ndarray]:
    """Read the columns of a split, checked file by file.

    Raises:
        UsageError: a damaged file, a missing column, or ids and values that do not fit the feature map; with the file.
    """
    layout = Layout.of(feature_map)
    parts = [_read_npz_file(file, layout) for file in files]
    for file, columns in zip(files, parts, strict=True):
        rows = max((len(values) for values in columns.values()), default=0)
        for start in range(0, rows, ROWS_A_TIME):
            stop = min(start + ROWS_A_TIME, rows)
            try:
                matrices = layout.gather({name: values[start:stop] for name, values in columns.items()}, stop - start)
            except UsageError as error:
                raise UsageError(f"{file}: {error}") from error
            check(matrices, layout, feature_map, file)
    joined = {name: np.concatenate([columns[name] for columns in parts]) for name in layout.places}
    if len(next(iter(joined.values()))) == 0:
        raise UsageError(f"{files[0]} holds no rows")
    return joined


def _read_npz_file(file: Path, layout: Layout) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name in layout.places:
                if name not in arrays:
                    raise unknown(f"column (of the feature map, in {file})", name, arrays)
                if arrays[name].ndim == 0:
                    raise UsageError(f"{file}: column {name!r} holds a single value, not one for each row")
            return {name: arrays[name] for name in layout.places}
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} is not a whole npz file of numbers: {' '.join(str(error).split())[:200]}") from error
