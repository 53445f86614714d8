"""Writing of splits as H5 or parquet, as one file each or as blocks of a number of rows."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_writer import H5Writer
from fuxictr_me.errors import UsageError

Columns = Mapping[str, np.ndarray]  # name -> (n,) or (n, L)


class H5SplitWriter:
    """Writer of a split in H5.

    Args:
        folder: of the data set.
        split: its name.
        layout: positions of the columns.
        rows: number of rows of the split.
        block_rows: rows of a block; 0 writes one file, ``<split>.h5``, otherwise ``<split>/part_00000.h5`` and so on.

    Attributes:
        files: name -> entry of the manifest.
    """

    ending, block_name = "h5", "part_{:05d}.h5"

    def __init__(self, folder: Path, split: str, layout: Layout, rows: int, block_rows: int = 0) -> None:
        self.folder, self.split, self.layout = Path(folder), split, layout
        self.rows, self.block_rows = rows, block_rows
        self.files: dict[str, dict[str, Any]] = {}
        self._left = rows  # rows for which no file is open yet
        self._name = ""
        self._writer: H5Writer | _ParquetFile | None = None

    def __enter__(self) -> "H5SplitWriter":
        (self.folder / self.split if self.block_rows else self.folder).mkdir(parents=True, exist_ok=True)
        return self

    def write(self, columns: Columns) -> None:
        """Append rows.

        Raises:
            UsageError: the columns do not fit the layout, or there are more rows than announced.
        """
        count = len(next(iter(columns.values())))
        values, done = self._arrange(columns, count), 0
        while done < count:
            writer = self._writer or self._open_next()
            part = min(count - done, writer.left)
            writer.write({name: array[done : done + part] for name, array in values.items()})
            done += part
            if writer.left == 0:
                self._close()

    def manifest_entry(self) -> dict[str, Any]:
        """Return the split's entry of the manifest."""
        return {"rows": self.rows, "files": self.files}

    def _arrange(self, columns: Columns, rows: int) -> dict[str, np.ndarray]:
        return self.layout.gather(columns, rows)

    def _open_file(self, path: Path, rows: int) -> "H5Writer | _ParquetFile":
        return H5Writer(path, self.layout, rows)

    def _open_next(self) -> "H5Writer | _ParquetFile":
        if self._left == 0:
            raise UsageError(f"the {self.split} split has more than the {self.rows} rows that were counted")
        rows = min(self._left, self.block_rows) if self.block_rows else self._left
        block = f"{self.split}/{self.block_name.format(len(self.files))}"
        self._name = block if self.block_rows else f"{self.split}.{self.ending}"
        self._writer = self._open_file(self.folder / self._name, rows)
        self._left -= rows
        return self._writer

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.files[self._name] = self._writer.manifest_entry()
            self._writer = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._close()  # raises if rows are missing
        elif self._writer is not None:
            self._writer.abandon()


class ParquetSplitWriter(H5SplitWriter):
    """Writer of a split in parquet, with the file names of FuxiCTR's ``build_dataset``."""

    ending, block_name = "parquet", "part-{:06d}-0.parquet"

    def manifest_entry(self) -> dict[str, Any]:
        """Return the split's entry of the manifest, which lists no rows for parquet."""
        return {"files": self.files}

    def _arrange(self, columns: Columns, rows: int) -> dict[str, np.ndarray]:
        return dict(columns)

    def _open_file(self, path: Path, rows: int) -> "_ParquetFile":
        return _ParquetFile(path, rows)


class _ParquetFile:
    """Writer of one parquet file, with the interface of ``H5Writer``."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.left = path, rows
        self._writer: pq.ParquetWriter | None = None

    def write(self, values: dict[str, np.ndarray]) -> None:
        table = pa.table({name: _to_arrow(array) for name, array in values.items()})
        self._writer = self._writer or pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)
        self.left -= len(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self.left:
            raise UsageError(f"{self.path}: {self.left} rows fewer than were counted")

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.path.unlink(missing_ok=True)

    def manifest_entry(self) -> dict[str, Any]:
        return {}


def _to_arrow(values: np.ndarray) -> pa.Array:
    """Return (n,) as numbers, and (n, L) as lists of numbers."""
    if values.ndim == 1:
        return pa.array(values)
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def write_splits(
    writer: type[H5SplitWriter],
    folder: Path,
    layout: Layout,
    counts: Mapping[str, int],
    read_chunks: Callable[[str], Iterable[Columns]],
    block_rows: int = 0,
) -> dict[str, dict]:
    """Write each split from its chunks of rows, and return the manifest's entry of each split."""
    splits = {}
    for split, rows in counts.items():
        with writer(folder, split, layout, rows, block_rows) as ids:
            for columns in read_chunks(split):
                ids.write(columns)
        splits[split] = ids.manifest_entry()
    return splits
