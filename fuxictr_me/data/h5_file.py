"""One H5 file of a data set: a matrix for each dtype, whole rows one after the other."""

import contextlib
import hashlib
import os
from pathlib import Path

import h5py
import numpy as np

from fuxictr_me.data.layout import Layout, dtype_of
from fuxictr_me.errors import UsageError, missing

FORMAT = 1
READ_BYTES = 1 << 26  # of one system call


class H5File:
    """A file that ``H5Writer`` wrote, open for reading any rows.

    The matrices are stored contiguously, so rows are read straight from the file: no chunks to unpack, no
    global lock of HDF5, and the interpreter is free meanwhile.

    Args:
        path (str or Path)

    Attributes:
        rows (int), layout (Layout)

    Raises:
        UsageError: no such file, not H5, of another format, or shorter than it says.
    """

    def __init__(self, path):
        self.path = Path(path)
        with opened(self.path) as file:
            version = file.attrs.get("fuxictr_me")
            if version != FORMAT:
                raise UsageError(f"{path} is of format {version}; this version reads {FORMAT}")
            self.layout = Layout.from_json(file.attrs["layout"])
            self.rows = int(file.attrs["rows"])
            self._offsets = {}
            for matrix, width in self.layout.widths.items():
                if matrix not in file:
                    raise UsageError(f"{path} misses the matrix {matrix!r}")
                dataset = file[matrix]
                if dataset.shape != (self.rows, width) or dataset.dtype != dtype_of(matrix):
                    raise UsageError(
                        f"{path}: {matrix!r} is {dataset.shape} {dataset.dtype}, "
                        f"expected {(self.rows, width)} {dtype_of(matrix)}"
                    )
                self._offsets[matrix] = dataset.id.get_offset() if self.rows else 0
                end, size = (self._offsets[matrix] or 0) + dataset.nbytes, self.path.stat().st_size
                if self.rows and (self._offsets[matrix] is None or end > size):
                    raise UsageError(f"{path} is truncated: {matrix!r} ends at byte {end} of {size}")
        self._descriptor = os.open(self.path, os.O_RDONLY)

    def read(self, start, stop, into=None):
        """Rows ``start`` to ``stop``.

        Args:
            start, stop (int): as in a slice, within the file.
            into (dict): matrix -> array (stop - start, width) to fill; new ones if None.

        Returns:
            dict: matrix -> array.

        Raises:
            UsageError: the file has become shorter.
        """
        into = self.layout.empty(stop - start) if into is None else into
        for matrix, target in into.items():
            row_bytes = target.shape[1] * target.itemsize
            view = memoryview(target).cast("B") if target.size else memoryview(b"")
            at = self._offsets[matrix] + start * row_bytes
            done = 0
            while done < len(view):
                got = os.preadv(self._descriptor, [view[done : done + READ_BYTES]], at + done)
                if got == 0:
                    raise UsageError(f"{self.path} has become shorter while it was read")
                done += got
        return into

    def close(self):
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
        self._written = 0
        self._hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in layout.widths}
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
            try:
                self._file[matrix][self._written : self._written + count] = values
            except OSError as error:
                raise _named(error, self.path) from error
            self._hashes[matrix].update(np.ascontiguousarray(values).view(np.uint8).data)
        self._written += count

    @property
    def left(self):
        """Rows still to come."""
        return self.rows - self._written

    @property
    def checksums(self):
        return {matrix: digest.hexdigest() for matrix, digest in self._hashes.items()}

    def close(self):
        """End the file, and see that it reached the disk.

        Raises:
            UsageError: fewer rows than were announced.
        """
        try:
            self._file.close()
        except OSError as error:
            raise _named(error, self.path) from error
        if self._written != self.rows:
            raise UsageError(f"{self.path}: {self._written} rows, {self.rows} were counted before")
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())

    def abandon(self):
        """Close and delete what there is."""
        with contextlib.suppress(Exception):  # a disk that is full lets nothing be flushed
            self._file.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path):
    """An h5py file open for reading; what is wrong with it in one line.

    Raises:
        UsageError: no such file, no permission, or not a whole H5 file.
    """
    if not Path(path).is_file():
        raise missing("H5 file", path)
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise UsageError(f"{path} may not be read: permission denied") from error
    except OSError as error:
        raise UsageError(f"{path} is not a whole H5 file: {str(error).splitlines()[0]}") from error
    with file:
        yield file


def _named(error, path):
    """HDF5's error in one line: its own text says the reason last, as ``errno = 28, error message = ...``."""
    text = str(error)
    reason = text.split("error message = '")[1].split("'")[0] if "error message = '" in text else text.splitlines()[0]
    return OSError(f"{path} cannot be written: {reason}")


def is_ours(path):
    """Whether ``H5Writer`` wrote the file."""
    with opened(path) as file:
        return "fuxictr_me" in file.attrs


def checksums(file, rows_a_time=1 << 18):
    """blake2b of each matrix of an ``H5File``, read anew."""
    hashes = {matrix: hashlib.blake2b(digest_size=16) for matrix in file.layout.widths}
    for start in range(0, file.rows, rows_a_time):
        for matrix, values in file.read(start, min(start + rows_a_time, file.rows)).items():
            hashes[matrix].update(values.view(np.uint8).data)
    return {matrix: digest.hexdigest() for matrix, digest in hashes.items()}
