"""Ids in npz files, which FuxiCTR 2.2 wrote: read them with every check, since FuxiCTR's loader makes none."""

from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import META, Layout
from fuxictr_me.data.row_checks import binary_labels, check_column, check_label
from fuxictr_me.errors import UsageError, missing, unknown


def check_npz(path: str | Path, feature_map: FeatureMap, task: str | list[str] | None) -> None:
    """Refuse an npz split that is damaged, or that has impossible ids or labels.

    Args:
        path: as FuxiCTR takes it: a file, a folder of blocks, or either without its ending.
        feature_map: of the data set.
        task: one for all labels, or one per label.

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
    """Read and check the columns of a split, (N,) or (N, L), from one or several files.

    Raises:
        UsageError: a damaged file, a missing column, or ids and values that do not fit the feature map.
    """
    layout = Layout.from_feature_map(feature_map)
    parts = [_read_npz_file(file, layout, feature_map) for file in files]
    joined = {name: np.concatenate([columns[name] for columns in parts]) for name in layout.places}
    if len(next(iter(joined.values()))) == 0:
        raise UsageError(f"{files[0]} holds no rows")
    return joined


def _read_npz_file(file: Path, layout: Layout, feature_map: FeatureMap) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name in layout.places:
                if name not in arrays:
                    raise unknown(f"column (of the feature map, in {file})", name, arrays)
            columns = {name: arrays[name] for name in layout.places}
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{file} is not a valid npz file of numbers: {' '.join(str(error).split())[:200]}") from error
    rows = max((len(values) for values in columns.values() if values.ndim), default=0)
    for name, place in layout.places.items():
        values, shape = columns[name], (rows, place.width) if place.is_vector else (rows,)
        if values.ndim == 0:
            raise UsageError(f"{file}: column {name!r} holds a single value, not one for each row")
        if values.shape != shape:
            raise UsageError(f"{file}: column {name!r} has shape {values.shape}, expected {shape}")
        if values.dtype.kind not in "iufb":
            raise UsageError(f"{file}: column {name!r} holds {values.dtype}, not numbers")
        if place.matrix == META and values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise UsageError(f"{file}: column {name!r} holds ids that are not whole numbers")
        check_column(values, feature_map.features.get(name), name, file)
    return columns
