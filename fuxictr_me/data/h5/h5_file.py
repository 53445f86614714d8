"""One H5 file of a data set: a matrix for each dtype, whole rows one after the other."""

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuxictr_me.data.column_layout import Layout, dtype_of
from fuxictr_me.data.h5.block_checksums import ADVICE, RunningChecksums, VerifiedBlocks, append_trailer, read_trailer
from fuxictr_me.data.h5.untrusted_hdf5 import get_dataset, open_hdf5
from fuxictr_me.data.manifest_checks import ExpectedFile
from fuxictr_me.errors import UsageError, missing

FORMAT = 2  # 1 has no checksums at its end
READ_BYTES = 1 << 26  # of one system call


class H5File:
    """A file that ``H5Writer`` wrote, open for reading any rows.

    The matrices are stored contiguously, so rows are read straight from the file: no chunks to unpack, no
    global lock of HDF5, and the interpreter is free meanwhile. Each block of rows is compared with its checksum
    when it is first read, and again when the file has changed since. A file of format 1 has no such checksums:
    if the manifest has one of each matrix, the whole file is compared with it at once.

    Args:
        path: of the file.
        expected: what the manifest says of it.

    Attributes:
        rows (int), layout (Layout)
        is_protected (bool): whether each block has a checksum.

    Raises:
        UsageError: no such file, not H5, of another format, shorter than it says, damaged, or not the file that
            the manifest lists.
    """

    def __init__(self, path: str | Path, expected: ExpectedFile | None = None) -> None:
        self.path, expected = Path(path), expected or ExpectedFile()
        self._descriptor = open_descriptor(self.path)
        trailer = read_trailer(self._descriptor, self.path)
        self._check_identity(trailer, expected)
        self._blocks = VerifiedBlocks(self.path, trailer) if trailer else None
        self._state = self._stat()
        if trailer:
            self.layout, self.rows, self._offsets = trailer.layout, trailer.rows, trailer.offsets
        else:
            self._parse_with_hdf5()
        if expected.rows not in (None, self.rows):
            raise UsageError(f"{self.path} has {self.rows} rows, its manifest says {expected.rows}; {ADVICE}")
        if not trailer and expected.checksums and (wrong := wrong_matrices(self, expected)):
            raise UsageError(f"{self.path} is damaged: {', '.join(wrong)} differ from what was built; {ADVICE}")

    @property
    def is_protected(self) -> bool:
        return self._blocks is not None

    def _check_identity(self, trailer, expected):
        found = trailer.digest if trailer else None
        if expected.trailer is None or expected.trailer == found:
            return
        if found is None:
            raise UsageError(f"{self.path} is damaged: the checksums at its end are gone; {ADVICE}")
        twin = expected.names_by_trailer.get(found)
        reason = f"it is what was built as {twin}" if twin else "it is of another set or build"
        raise UsageError(f"{self.path} is not the file that its manifest lists: {reason}; {ADVICE}")

    def _parse_with_hdf5(self):
        with open_hdf5(self.path) as file:
            version = file.attrs.get("fuxictr_me")
            if version == FORMAT:
                raise UsageError(f"{self.path} is damaged: the checksums at its end are gone; {ADVICE}")
            if version != 1:
                raise UsageError(f"{self.path} is of format {version}; this version reads 1 and {FORMAT}")
            try:
                self.layout = Layout.from_json(file.attrs["layout"])
            except UsageError as error:
                raise UsageError(f"{self.path}: {error}") from error
            self.rows, self._offsets = int(file.attrs["rows"]), {}
            for matrix, width in self.layout.widths.items():
                self._offsets[matrix] = self._find_matrix(file, matrix, (self.rows, width))

    def _find_matrix(self, file, matrix, shape):
        """Position of its first byte."""
        if matrix not in file:
            raise UsageError(f"{self.path} misses the matrix {matrix!r}")
        dataset = get_dataset(file, matrix)
        if dataset.shape != shape or dataset.dtype != dtype_of(matrix):
            raise UsageError(
                f"{self.path}: {matrix!r} is {dataset.shape} {dataset.dtype}, expected {shape} {dtype_of(matrix)}"
            )
        if self.rows == 0:
            return 0
        offset, size = dataset.id.get_offset(), self.path.stat().st_size
        if offset is None or offset + dataset.nbytes > size:
            raise UsageError(f"{self.path} is truncated: {matrix!r} lies at {offset} of {size} bytes")
        return offset

    def read(self, start: int, stop: int, into: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Read rows ``start`` to ``stop`` and check them.

        Args:
            start, stop: as in a slice, within the file.
            into: matrix -> array (stop - start, width) to fill; new ones if None.

        Returns:
            matrix -> array.

        Raises:
            UsageError: the file has become shorter, or rows are not as they were written.
        """
        into = self.layout.empty(stop - start) if into is None else into
        if self._blocks and (state := self._stat()) != self._state:
            self._blocks.forget()
            self._state = state
        for matrix, target in into.items():
            self._read_into(matrix, start, target)
            if self._blocks:
                self._blocks.check(matrix, start, stop, target, self._read_matrix)
        return into

    def _read_matrix(self, matrix, start, stop):
        rows = np.empty((stop - start, self.layout.widths[matrix]), dtype_of(matrix))
        self._read_into(matrix, start, rows)
        return rows

    def _read_into(self, matrix, start, target):
        row_bytes = target.shape[1] * target.itemsize
        view = memoryview(target).cast("B") if target.size else memoryview(b"")
        at, done = self._offsets[matrix] + start * row_bytes, 0
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done : done + READ_BYTES]], at + done)
            if got == 0:
                raise UsageError(f"{self.path} has become shorter while it was read")
            done += got

    def _stat(self):
        now = os.fstat(self._descriptor)
        return now.st_size, now.st_mtime_ns

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self):
        if getattr(self, "_descriptor", None) is not None:
            self.close()


class H5Writer:
    """Write a file of a known number of rows, chunk by chunk.

    Args:
        path (Path): of the file, which must not be there.
        layout (Layout)
        rows (int): of all chunks together.

    Attributes:
        checksums (dict): matrix -> blake2b of its bytes, once all rows are written.
    """

    def __init__(self, path, layout, rows):
        self.path, self.layout, self.rows = Path(path), layout, rows
        self._written, self._trailer = 0, None
        self._hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in layout.widths}
        self._blocks = {matrix: RunningChecksums() for matrix in layout.widths}
        self._file = h5py.File(self.path, "x")
        self._file.attrs["fuxictr_me"] = FORMAT
        self._file.attrs["layout"] = layout.to_json()
        self._file.attrs["rows"] = rows
        for matrix, width in layout.widths.items():
            self._file.create_dataset(matrix, (rows, width), dtype_of(matrix))

    def write(self, matrices):
        """Append rows.

        Args:
            matrices (dict): matrix -> array (n, width).

        Raises:
            UsageError: more rows than were announced.
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
                raise _named(error, self.path) from error
            self._hashes[matrix].update(values.view(np.uint8).data)
            self._blocks[matrix].update(values)
        self._written += count

    @property
    def left(self):
        """Rows still to come."""
        return self.rows - self._written

    @property
    def checksums(self):
        return {matrix: digest.hexdigest() for matrix, digest in self._hashes.items()}

    def manifest_entry(self) -> dict[str, Any]:
        """Return what the manifest says of the file, once it is closed."""
        return {"rows": self.rows, "trailer": self._trailer, "checksums": self.checksums}

    def close(self):
        """End the file with its checksums, and see that it reached the disk.

        Raises:
            UsageError: fewer rows than were announced.
        """
        try:
            offsets = {matrix: self._file[matrix].id.get_offset() or 0 for matrix in self.layout.widths}
            self._file.close()
            if self._written != self.rows:
                raise UsageError(f"{self.path}: {self._written} rows, {self.rows} were counted before")
            sums = {matrix: blocks.result() for matrix, blocks in self._blocks.items()}
            self._trailer = append_trailer(self.path, self.layout, self.rows, offsets, sums)
        except OSError as error:
            raise _named(error, self.path) from error

    def abandon(self):
        """Close and delete what there is."""
        with contextlib.suppress(Exception):  # a disk that is full lets nothing be flushed
            self._file.close()
        self.path.unlink(missing_ok=True)


def _named(error, path):
    """HDF5's error in one line: its own text says the reason last, as ``errno = 28, error message = ...``."""
    text = str(error)
    reason = text.split("error message = '")[1].split("'")[0] if "error message = '" in text else text.splitlines()[0]
    return OSError(f"{path} cannot be written: {reason}")


def open_descriptor(path: Path) -> int:
    """Open a file of rows for reading.

    Raises:
        UsageError: no such file, no permission.
    """
    if not path.is_file():
        raise missing("H5 file", path)
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError as error:
        raise UsageError(f"{path} may not be read: permission denied") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def is_ours(path: Path) -> bool:
    """Whether ``H5Writer`` wrote the file; HDF5 parses it only if it has no checksums."""
    descriptor = open_descriptor(Path(path))
    try:
        if read_trailer(descriptor, path) is not None:
            return True
    finally:
        os.close(descriptor)
    with open_hdf5(path) as file:
        return "fuxictr_me" in file.attrs


def checksums(file: H5File, rows_a_time: int = 1 << 16) -> dict[str, str]:
    """Return blake2b of each matrix, read anew; matrices are hashed side by side."""
    hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in file.layout.widths}
    with ThreadPoolExecutor(len(hashes)) as pool:
        for start in range(0, file.rows, rows_a_time):
            parts = file.read(start, min(start + rows_a_time, file.rows))
            list(pool.map(lambda item: hashes[item[0]].update(item[1].view(np.uint8).data), parts.items()))
    return {matrix: digest.hexdigest() for matrix, digest in hashes.items()}


def wrong_matrices(file: H5File, expected: ExpectedFile) -> list[str]:
    """Return the matrices whose bytes are not those that the manifest lists, or that it does not list."""
    found = checksums(file)
    return [matrix for matrix in {**found, **expected.checksums} if found.get(matrix) != expected.checksums.get(matrix)]
