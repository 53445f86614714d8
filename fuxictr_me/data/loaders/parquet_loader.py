"""Batches of a parquet data set that is held in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from fuxictr.features import FeatureMap

from fuxictr_me.data.loaders.rank_shares import order_seed
from fuxictr_me.data.manifest_checks import check_parquet_rows
from fuxictr_me.data.row_checks import binary_labels, check_column, check_label
from fuxictr_me.errors import UsageError, missing, unknown


class InMemoryLoader:
    """Loader that holds each column of a parquet data set as one tensor; a batch is one ``index_select`` per column.

    It keeps the contract of FuxiCTR's loaders (shapes, keys, ``num_samples``, ``num_blocks``, ``len``), so it can also
    be their ``data_loader``. It starts no Ray. The order of a shuffled epoch depends only on ``seed``, which FuxiCTR's
    parquet loader (wheel) ignores.

    Args:
        feature_map: of the data set.
        data_path: a parquet file, or a folder of them.
        split: ``train``, ``valid`` or ``test``, for messages.
        batch_size: rows of a batch; the last batch may have fewer.
        shuffle: whether each epoch has a new random order.
        seed: of the order; None takes torch's seed, as ``torch.manual_seed`` set it.
        task: one for all labels, or one per label: those of ``binary_classification`` must be 0 or 1.

    Raises:
        UsageError: no such file, a damaged file, a missing column, missing values, ids outside the vocabulary, labels
            other than 0 and 1, or no rows.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        data_path: str | Path,
        split: str = "train",
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
        task: str | list[str] | None = None,
        **_: object,
    ) -> None:
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.columns = read_columns(feature_map, data_path, split)
        for label in binary_labels(feature_map.labels, task):
            check_label(self.columns[label].numpy(), label, data_path)
        self.num_samples = len(next(iter(self.columns.values())))
        self.num_blocks = 1
        self._generator = torch.Generator().manual_seed(order_seed(seed))

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = torch.randperm(self.num_samples, generator=self._generator) if self.shuffle else None
        for start in range(0, self.num_samples, self.batch_size):
            stop = start + self.batch_size
            if order is None:
                yield {name: column[start:stop] for name, column in self.columns.items()}
            else:
                rows = order[start:stop]
                yield {name: column.index_select(0, rows) for name, column in self.columns.items()}


def read_columns(feature_map: FeatureMap, data_path: str | Path, split: str) -> dict[str, torch.Tensor]:
    """Return name -> Tensor (N,), or (N, L) for sequences and vectors, of all features and labels of a split.

    Raises:
        UsageError: see ``InMemoryLoader``.
    """
    path = Path(data_path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise missing("parquet data", data_path)
    check_parquet_rows(files, path.is_dir())
    names = [*feature_map.features, *feature_map.labels]
    tables = [(file, table) for file in files if len(table := _read_table(file, names))]
    if not tables:
        raise UsageError(f"{data_path}: the {split} split holds no rows")
    columns = {}
    for name in names:
        parts: list[np.ndarray] = []
        for file, table in tables:
            part = _to_numpy(table[name], file, name)
            check_column(part, feature_map.features.get(name), name, file)
            if parts and part.shape[1:] != parts[0].shape[1:]:
                widths = [list(array.shape[1:]) or "one" for array in (part, parts[0])]
                raise UsageError(f"{file}: column {name!r} has {widths[0]} values a row, in {tables[0][0]} {widths[1]}")
            parts.append(part)
        columns[name] = torch.from_numpy(np.concatenate(parts))  # a copy, since arrow's memory is read-only
    return columns


def _read_table(file: Path, names: list[str]) -> pa.Table:
    try:
        table = pq.ParquetFile(file)
        for name in names:
            if name not in table.schema_arrow.names:
                raise unknown(f"column (of the feature map, in {file})", name, table.schema_arrow.names)
        return table.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a valid parquet file: {str(error).splitlines()[0]}") from error


def _to_numpy(column: pa.ChunkedArray, file: Path, name: str) -> np.ndarray:
    """Return a column as an array (N,) or (N, L) of a dtype that torch has."""
    if column.null_count:
        raise UsageError(f"{file}: column {name!r} misses {column.null_count} of {len(column)} values")
    column = column.combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.min_max(pc.list_value_length(column)).as_py()
        if lengths["min"] != lengths["max"]:
            raise UsageError(f"{file}: column {name!r} has sequences of {lengths['min']} to {lengths['max']} ids")
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    else:
        values = column.to_numpy(zero_copy_only=False)
    if values.dtype == object or values.dtype.kind not in "iufb":
        raise UsageError(f"{file}: column {name!r} holds {column.type}, not numbers: it has not been turned into ids")
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # torch lacks arithmetic for these
        values = values.astype(np.int64)
    return values
