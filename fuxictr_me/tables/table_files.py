"""Write one embedding table to a parquet or npz file, chunk by chunk."""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

CHUNK_ROWS = 1 << 15  # rows converted and written at a time


def write_parquet(path: Path, sets: Sequence[Tensor], values: Sequence[str | None]) -> None:
    """Write one table as parquet, with one row group per chunk.

    Args:
        path: must not exist.
        sets: M tables (D, K).
        values: D raw tokens.
    """
    kinds = [(f"set_{m}", pa.list_(pa.float32(), table.shape[1])) for m, table in enumerate(sets)]
    schema = pa.schema([("id", pa.int64()), ("value", pa.string()), *kinds])
    with open(path, "xb") as file, pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for chunk in _chunks(len(values)):
            columns = [pa.array(np.arange(chunk.start, chunk.stop)), pa.array(values[chunk], pa.string())]
            columns += [_lists(_float32(table, chunk)) for table in sets]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def write_npz(path: Path, sets: Sequence[Tensor], values: Sequence[str | None]) -> None:
    """Write one table as ``np.savez`` would, chunk by chunk. The text, which is mostly padding, is compressed.

    Arguments are those of ``write_parquet``.
    """
    rows, width = len(values), max((len(value) for value in values if value), default=1)
    texts = ([value or "" for value in values[chunk]] for chunk in _chunks(rows))
    known = ([value is not None for value in values[chunk]] for chunk in _chunks(rows))
    with zipfile.ZipFile(path, "x") as archive:
        _add_array(archive, "ids", "int64", (rows,), (np.arange(c.start, c.stop) for c in _chunks(rows)))
        _add_array(archive, "values", f"U{width}", (rows,), texts)
        _add_array(archive, "has_value", "bool", (rows,), known)
        for m, table in enumerate(sets):
            vectors = (_float32(table, chunk) for chunk in _chunks(rows))
            _add_array(archive, f"set_{m}", "float32", tuple(table.shape), vectors)


WRITERS = {"parquet": write_parquet, "npz": write_npz}


def _add_array(archive: zipfile.ZipFile, name: str, dtype_name: str, shape: tuple[int, ...], chunks: Iterable) -> None:
    dtype, entry = np.dtype(dtype_name), zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED if dtype.kind == "U" else zipfile.ZIP_STORED
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.asarray(chunk, dtype).tobytes())


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK_ROWS, rows)) for start in range(0, rows, CHUNK_ROWS))


def _lists(matrix: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _float32(table: Tensor, chunk: slice) -> np.ndarray:
    return table[chunk].float().cpu().numpy()
