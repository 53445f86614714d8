"""Open HDF5 files that nothing vouches for: what is wrong with them becomes one line that names the file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from fuxictr_me.errors import UsageError, missing


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open for reading; errors of HDF5, there and in the body, become a UsageError.

    HDF5 trusts what a file says of itself: a damaged or malicious one can also make it loop or crash, which only
    ``rehearse_parsing`` notices. Files of ``H5Writer`` with checksums are never parsed by HDF5.

    Raises:
        UsageError: no such file, no permission, or not a whole H5 file.
    """
    if not Path(path).is_file():
        raise missing("H5 file", path)
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise UsageError(f"{path} may not be read: permission denied") from error
    except Exception as error:  # HDF5's errors have no common class
        raise UsageError(f"{path} is not a whole H5 file: {_first_line(error)}") from error
    try:
        with file:
            yield file
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is damaged, HDF5 cannot read it: {_first_line(error)}") from error


def get_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset of numbers whose rows all lie in this very file.

    Raises:
        UsageError: a link to elsewhere, external or virtual storage, rows that were never written, no dataset.
    """
    path = file.filename
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UsageError(f"{path}: {name!r} is a link to another place, which is not followed")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise UsageError(f"{path}: {name!r} is no dataset")
    if dataset.external or dataset.is_virtual:
        raise UsageError(f"{path}: the rows of {name!r} lie in other files, which are not opened")
    if dataset.dtype.kind not in "iufb" or not dataset.shape:
        raise UsageError(f"{path}: {name!r} holds {dataset.dtype} of shape {dataset.shape}, not rows of numbers")
    if _is_incomplete(dataset):
        raise UsageError(f"{path}: {name!r} of shape {dataset.shape} is not there as a whole")
    return dataset


def _is_incomplete(dataset):
    """Whether rows have no storage: HDF5 would make up zeros."""
    if dataset.size == 0:
        return False
    if dataset.chunks is None:
        return dataset.id.get_storage_size() < dataset.nbytes
    chunks = 1
    for length, part in zip(dataset.shape, dataset.chunks, strict=True):
        chunks *= -(-length // part)
    return dataset.id.get_num_chunks() != chunks


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
