"""Reading of HDF5 files from any source: each problem becomes a one-line error that names the file."""

import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py

from fuxictr_me.errors import UsageError, missing

SECONDS = 60  # for the child process to start; one more for each file
PARSE = """
import sys
import h5py
for path in sys.argv[1:]:
    print(path, flush=True)
    try:
        with h5py.File(path, "r") as file:
            list(file.attrs.items())
            for name in file:
                if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset):
                    dataset = file[name]
                    dataset.shape, dataset.dtype, dataset.chunks, dataset.external, dataset.is_virtual
                    dataset.id.get_storage_size(), dataset.id.get_offset()
                    dataset.chunks and dataset.id.get_num_chunks()
    except Exception:
        pass
"""


def rehearse_parsing(paths: Sequence[Path]) -> None:
    """Parse the metadata of files in a child process, which takes about half a second.

    HDF5 trusts the metadata of a file: a damaged or malicious file can make it loop or crash. Errors that HDF5 reports
    are left to the caller, who opens the files next.

    Raises:
        UsageError: HDF5 hung or crashed on a file.
    """
    if not paths:
        return
    command = [sys.executable, "-I", "-c", PARSE, *(str(Path(path).absolute()) for path in paths)]
    try:
        child = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS + len(paths), check=False
        )
        output, has_ended = child.stdout, child.returncode >= 0
    except subprocess.TimeoutExpired as error:
        output, has_ended = error.stdout or b"", False
    started = output.decode(errors="replace").splitlines()
    if started and not has_ended:
        raise UsageError(f"{started[-1]} is damaged: HDF5 hangs or crashes on it")


@contextlib.contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading, and turn HDF5's errors, also those of the ``with`` body, into a UsageError.

    ``rehearse_parsing`` must come first, unless the file's checksums were verified.

    Raises:
        UsageError: no such file, no permission, or not a complete H5 file.
    """
    if not Path(path).is_file():
        raise missing("H5 file", path)
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise UsageError(f"{path} may not be read: permission denied") from error
    except Exception as error:  # HDF5's errors have no common class
        raise UsageError(f"{path} is not a valid H5 file: {_first_line(error)}") from error
    try:
        with file:
            yield file
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is damaged, HDF5 cannot read it: {_first_line(error)}") from error


def get_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of numbers whose rows are all stored in this file.

    Raises:
        UsageError: a link to elsewhere, external or virtual storage, rows that were never written, or not a dataset.
    """
    path = file.filename
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UsageError(f"{path}: {name!r} is a link to another place, which is not followed")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UsageError(f"{path}: {name!r} is not a dataset")
    if dataset.external or dataset.is_virtual:
        raise UsageError(f"{path}: the rows of {name!r} lie in other files, which are not opened")
    if dataset.dtype.kind not in "iufb" or not dataset.shape:
        raise UsageError(f"{path}: {name!r} holds {dataset.dtype} of shape {dataset.shape}, not rows of numbers")
    if _lacks_storage(dataset):
        raise UsageError(f"{path}: rows of {name!r}, of shape {dataset.shape}, are missing")
    return dataset


def _lacks_storage(dataset: h5py.Dataset) -> bool:
    """Return whether rows have no storage, which HDF5 would read as zeros."""
    if dataset.size == 0:
        return False
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() < dataset.nbytes)
    chunks = math.prod(-(-length // part) for length, part in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() != chunks)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
