"""One H5 file of a data set: a matrix for each dtype, with the rows one after another."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from fuxictr_me.data.column_layout import Layout, Matrices, dtype_of
from fuxictr_me.data.h5.block_checksums import ADVICE, Trailer, VerifiedBlocks, read_trailer
from fuxictr_me.data.h5.untrusted_hdf5 import get_dataset, open_hdf5
from fuxictr_me.data.manifest_checks import ExpectedFile
from fuxictr_me.errors import UsageError, missing

FORMAT = 2  # 1 has no checksums at its end
READ_BYTES = 1 << 26  # most bytes of one system call


class H5File:
    """File of ``H5Writer``, open for reading.

    The matrices are stored contiguously, so rows are read straight from the file: without HDF5's chunks, its global
    lock, or Python's. Each block of rows is compared with its checksum when it is first read, and again after the file
    has changed. A file of format 1 has no such checksums: if the manifest has one of each matrix, the whole file is
    compared at once.

    Args:
        path: the file.
        expected: its entry in the manifest.

    Attributes:
        rows: number of rows.
        layout: positions of the columns.
        is_protected: whether each block has a checksum.

    Raises:
        UsageError: the file does not exist, is not H5, has another format, is truncated or damaged, or is not the file
            that the manifest lists.
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

    def read(self, start: int, stop: int, into: Matrices | None = None) -> Matrices:
        """Read rows and check them.

        Args:
            start: first row.
            stop: end of the rows.
            into: each matrix -> array (stop - start, width) to fill; new arrays if None.

        Raises:
            UsageError: the file has become shorter, or rows have changed since they were written.
        """
        if self._blocks and (state := self._stat()) != self._state:
            self._blocks.forget()
            self._state = state
        into = self._read_unchecked(start, stop, into)
        if self._blocks:
            self._blocks.check(start, stop, into, self._read_unchecked)
        return into

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):  # else opening it failed
            self.close()

    def _read_unchecked(self, start: int, stop: int, into: Matrices | None = None) -> Matrices:
        into = self.layout.allocate(stop - start) if into is None else into
        for matrix, target in into.items():
            self._read_into(matrix, start, target)
        return into

    def _read_into(self, matrix: str, start: int, target: np.ndarray) -> None:
        row_bytes = target.shape[1] * target.itemsize
        view = target.data.cast("B") if target.size else memoryview(b"")
        at, done = self._offsets[matrix] + start * row_bytes, 0
        while done < len(view):
            count = os.preadv(self._descriptor, [view[done : done + READ_BYTES]], at + done)
            if count == 0:
                raise UsageError(f"{self.path} has become shorter while it was read")
            done += count

    def _check_identity(self, trailer: Trailer | None, expected: ExpectedFile) -> None:
        digest = trailer.digest if trailer else None
        if expected.trailer is None or expected.trailer == digest:
            return
        if digest is None:
            raise UsageError(f"{self.path} is damaged: the checksums at its end are gone; {ADVICE}")
        twin = expected.names_by_trailer.get(digest)
        reason = f"it is what was built as {twin}" if twin else "it is of another set or build"
        raise UsageError(f"{self.path} is not the file that its manifest lists: {reason}; {ADVICE}")

    def _parse_with_hdf5(self) -> None:
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

    def _find_matrix(self, file: h5py.File, matrix: str, shape: tuple[int, int]) -> int:
        """Return the position of the first byte of a matrix."""
        if matrix not in file:
            raise UsageError(f"{self.path} is damaged: dataset {matrix!r} is missing; {ADVICE}")
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

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


def open_descriptor(path: Path) -> int:
    """Open a file for reading and return its descriptor.

    Raises:
        UsageError: no such file, or no permission.
    """
    if not path.is_file():
        raise missing("H5 file", path)
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError as error:
        raise UsageError(f"{path} may not be read: permission denied") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def is_fuxictr_me_file(path: Path) -> bool:
    """Return whether ``H5Writer`` wrote the file. HDF5 parses only a file without checksums."""
    descriptor = open_descriptor(path)
    try:
        if read_trailer(descriptor, path) is not None:
            return True
    finally:
        os.close(descriptor)
    with open_hdf5(path) as file:
        return "fuxictr_me" in file.attrs


def checksums(file: H5File, chunk_rows: int = 1 << 16) -> dict[str, str]:
    """Return BLAKE2b of each matrix, read anew; the matrices are hashed in parallel."""
    hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in file.layout.widths}
    with ThreadPoolExecutor(len(hashes)) as pool:
        for start in range(0, file.rows, chunk_rows):
            parts = file.read(start, min(start + chunk_rows, file.rows))
            list(pool.map(lambda item: hashes[item[0]].update(item[1].view(np.uint8).data), parts.items()))
    return {matrix: digest.hexdigest() for matrix, digest in hashes.items()}


def wrong_matrices(file: H5File, expected: ExpectedFile) -> list[str]:
    """Return the matrices whose bytes are not those that the manifest lists, or that it does not list."""
    actual = checksums(file)
    return [name for name in {**actual, **expected.checksums} if actual.get(name) != expected.checksums.get(name)]
