"""H5 files of FuxiCTR 1.x to 2.1, read through the same interface as ``H5File``."""

from pathlib import Path

import h5py

from fuxictr_me.data.column_layout import Layout, Matrices
from fuxictr_me.data.h5.untrusted_hdf5 import get_dataset, open_hdf5
from fuxictr_me.errors import UsageError, unknown


class FuxiCTRFile:
    """H5 file of FuxiCTR 2.0 to 2.1.3 with one dataset per column, or of 1.x with one dataset ``data``, label last.

    The datasets must lie in the file itself: links, external and virtual storage are refused.

    Args:
        path: the file.
        layout: columns to read.

    Attributes:
        rows: number of rows.

    Raises:
        UsageError: HDF5 cannot read the file, or a column is missing or has another shape.
    """

    is_protected = False

    def __init__(self, path: str | Path, layout: Layout) -> None:
        self.path, self.layout = Path(path), layout
        with open_hdf5(self.path) as file:
            self._is_single_dataset = list(file) == ["data"]
            self.rows = self._count_rows_of_data(file) if self._is_single_dataset else self._count_rows(file)

    def _count_rows_of_data(self, file: h5py.File) -> int:
        shape = get_dataset(file, "data").shape
        width = sum(place.width for place in self.layout.places.values())
        if shape[1:] != (width,):
            raise UsageError(
                f"{self.path}: 'data' has shape {shape}, but the feature map's columns and labels are {width} wide"
            )
        return int(shape[0])

    def _count_rows(self, file: h5py.File) -> int:
        lengths: dict[str, int] = {}
        for name, place in self.layout.places.items():
            if name not in file:
                raise unknown(f"column (of the feature map, in {self.path})", name, file)
            shape = get_dataset(file, name).shape
            width = (place.width,) if place.is_vector else ()
            if shape[1:] != width:
                raise UsageError(f"{self.path}: column {name!r} has shape {shape}, expected {('rows', *width)}")
            lengths[name] = shape[0]
        low, high = (choose(lengths, key=lambda name: lengths[name]) for choose in (min, max))
        if lengths[low] != lengths[high]:
            raise UsageError(
                f"{self.path}: columns of unequal length: {low!r} {lengths[low]}, {high!r} {lengths[high]} rows"
            )
        return lengths[low]

    def read(self, start: int, stop: int, into: Matrices) -> Matrices:
        """Read rows ``start`` to ``stop`` into matrices, as ``H5File.read`` does."""
        columns = {}
        with open_hdf5(self.path) as file:
            if self._is_single_dataset:
                block, at = get_dataset(file, "data")[start:stop], 0
                for name, place in self.layout.places.items():
                    columns[name] = block[:, at : at + place.width] if place.is_vector else block[:, at]
                    at += place.width
            else:
                columns = {name: get_dataset(file, name)[start:stop] for name in self.layout.places}
        return self.layout.gather(columns, stop - start, into, self.path)
