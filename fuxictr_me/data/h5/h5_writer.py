"""Writing of one H5 file of a data set, which ``H5File`` reads."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuxictr_me.data.column_layout import Layout, Matrices, dtype_of
from fuxictr_me.data.h5.block_checksums import RunningChecksums, append_trailer
from fuxictr_me.data.h5.block_sizes import streamed_block_rows
from fuxictr_me.data.h5.h5_file import FORMAT
from fuxictr_me.errors import UsageError


class H5Writer:
    """Writer of a file with a known number of rows, chunk by chunk.

    Args:
        path: file to create.
        layout: positions of the columns.
        rows: number of rows of all chunks together.
    """

    def __init__(self, path: Path, layout: Layout, rows: int) -> None:
        self.path, self.layout, self.rows = Path(path), layout, rows
        self._written = 0
        self._trailer: str | None = None
        self._hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in layout.widths}
        block_rows = streamed_block_rows(layout.row_bytes)
        self._blocks = {matrix: RunningChecksums(block_rows) for matrix in layout.widths}
        self._file = h5py.File(self.path, "x")
        self._file.attrs["fuxictr_me"] = FORMAT
        self._file.attrs["layout"] = layout.to_json()
        self._file.attrs["rows"] = rows
        for matrix, width in layout.widths.items():
            self._file.create_dataset(matrix, (rows, width), dtype_of(matrix))

    def write(self, matrices: Matrices) -> None:
        """Append rows: matrix -> array (n, width).

        Raises:
            UsageError: there are more rows than announced.
        """
        count = len(next(iter(matrices.values())))
        if self._written + count > self.rows:
            raise UsageError(f"{self.path}: more than the {self.rows} rows that were counted")
        if count == 0:
            return
        for matrix, values in matrices.items():
            values = np.ascontiguousarray(values, dtype_of(matrix))
            try:
                self._file[matrix][self._written : self._written + count] = values
            except OSError as error:
                raise _one_line(error, self.path) from error
            self._hashes[matrix].update(values.view(np.uint8).data)
            self._blocks[matrix].update(values)
        self._written += count

    @property
    def left(self) -> int:
        """Number of rows that are still to be written."""
        return self.rows - self._written

    def manifest_entry(self) -> dict[str, Any]:
        """Return the manifest's entry of the closed file."""
        sums = {matrix: digest.hexdigest() for matrix, digest in self._hashes.items()}
        return {"rows": self.rows, "trailer": self._trailer, "checksums": sums}

    def close(self) -> None:
        """Append the checksums, and wait until the file is on the disk.

        Raises:
            UsageError: there were fewer rows than announced.
        """
        try:
            offsets = {matrix: self._file[matrix].id.get_offset() or 0 for matrix in self.layout.widths}
            self._file.close()
            if self._written != self.rows:
                raise UsageError(f"{self.path}: {self._written} rows, {self.rows} were counted before")
            sums = {matrix: blocks.result() for matrix, blocks in self._blocks.items()}
            self._trailer = append_trailer(self.path, self.layout, self.rows, offsets, sums)
        except OSError as error:
            raise _one_line(error, self.path) from error

    def abandon(self) -> None:
        """Close and delete the file."""
        with contextlib.suppress(Exception):  # on a full disk, HDF5 cannot flush
            self._file.close()
        self.path.unlink(missing_ok=True)


def _one_line(error: OSError, path: Path) -> OSError:
    """Return HDF5's error in one line; its text ends with ``errno = 28, error message = '...'``."""
    text = str(error)
    reason = text.split("error message = '")[1].split("'")[0] if "error message = '" in text else text.splitlines()[0]
    return OSError(f"{path} cannot be written: {reason}")
