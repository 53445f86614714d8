"""Batches of a data set that fits in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from fuxictr.features import FeatureMap

from fuxictr_me.data.label_values import binary_labels, check_label
from fuxictr_me.data.loaders.rank_shares import order_seed
from fuxictr_me.data.manifest_checks import check_parquet_rows
from fuxictr_me.errors import UsageError, missing, unknown


class InMemoryLoader:
    """Ids from parquet, held as one tensor a column; a batch is one ``index_select`` of each.

    It keeps the contract of FuxiCTR's loaders (shapes, keys, ``num_samples``, ``num_blocks``, ``len``), so
    it can also be their ``data_loader``. The order of a shuffled epoch depends on ``seed`` alone, which
    FuxiCTR's parquet loader on the wheel ignores, and no Ray is started.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        data_path (str): a parquet file, or a folder of them.
        split (str): ``train``, ``valid`` or ``test``; for messages.
        batch_size (int), shuffle (bool)
        seed (int or None): of the order; None takes torch's, as ``torch.manual_seed`` left it.
        task (str or list of str): of all labels, or of each: those of ``binary_classification`` must be 0 or 1.

    Raises:
        UsageError: no such file, a damaged one, a missing column, missing values, ids past the
            vocabulary, labels other than 0 and 1, or no rows.
    """

    def __init__(self, feature_map, data_path, split="train", batch_size=32, shuffle=False, seed=None, task=None, **_):
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.columns = read_columns(feature_map, data_path, split)
        for label in binary_labels(feature_map.labels, task):
            check_label(self.columns[label].numpy(), label, data_path)
        self.num_samples = len(next(iter(self.columns.values())))
        self.num_blocks = 1
        self._generator = torch.Generator().manual_seed(order_seed(seed))

    def __len__(self):
        return -(-self.num_samples // self.batch_size)

    def __iter__(self):
        order = torch.randperm(self.num_samples, generator=self._generator) if self.shuffle else None
        for start in range(0, self.num_samples, self.batch_size):
            stop = start + self.batch_size
            if order is None:
                yield {name: column[start:stop] for name, column in self.columns.items()}
            else:
                rows = order[start:stop]
                yield {name: column.index_select(0, rows) for name, column in self.columns.items()}


def read_columns(feature_map: FeatureMap, data_path: str | Path, split: str) -> dict[str, torch.Tensor]:
    """column -> Tensor (N,), or (N, L) for sequences and vectors, of all features and labels.

    Raises:
        UsageError: see ``InMemoryLoader``.
    """
    path = Path(data_path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise missing("parquet data", data_path)
    check_parquet_rows(files, path.is_dir())
    names = [*feature_map.features, *feature_map.labels]
    tables = [_read(file, names) for file in files]
    read = [(file, table) for file, table in zip(files, tables, strict=True) if len(table)]
    if not read:
        raise UsageError(f"{data_path}: the {split} split holds no rows")
    columns = {}
    for name in names:
        parts = [_as_tensor(table[name], file, name) for file, table in read]
        for part, (file, _) in zip(parts, read, strict=True):
            _check(part, feature_map.features.get(name), file, name)
            if part.shape[1:] != parts[0].shape[1:]:
                widths = [list(tensor.shape[1:]) or "one" for tensor in (part, parts[0])]
                raise UsageError(f"{file}: column {name!r} has {widths[0]} values a row, in {read[0][0]} {widths[1]}")
        columns[name] = torch.cat(parts)
    return columns


def _read(file: Path, names: list[str]) -> pa.Table:
    try:
        table = pq.ParquetFile(file)
        for name in names:
            if name not in table.schema_arrow.names:
                raise unknown(f"column (of the feature map, in {file})", name, table.schema_arrow.names)
        return table.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a whole parquet file: {str(error).splitlines()[0]}") from error


def _as_tensor(column: pa.ChunkedArray, file: Path, name: str) -> torch.Tensor:
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
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:  # torch has no arithmetic of these
        values = values.astype(np.int64)
    return torch.from_numpy(np.array(values))  # its own memory: arrow's is read-only


def _check(column: torch.Tensor, spec: dict | None, path: Path, name: str) -> None:
    if column.is_floating_point() and not (finite := column.isfinite()).all():
        raise UsageError(f"{path}: column {name!r} has {int((~finite).sum())} values that are NaN or infinite")
    if spec and spec["type"] in ("categorical", "sequence"):
        if column.is_floating_point() and not (column == column.floor()).all():
            raise UsageError(f"{path}: field {name!r} has ids that are not whole numbers")
        low, high = int(column.min()), int(column.max())
        if low < 0 or high >= spec["vocab_size"]:
            raise UsageError(
                f"{path}: field {name!r} has ids from {low} to {high}, "
                f"but its vocabulary holds 0 to {spec['vocab_size'] - 1}"
            )
