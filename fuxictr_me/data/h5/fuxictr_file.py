"""H5 files of FuxiCTR 1.x to 2.1, read as if they were ours."""

from pathlib import Path

import numpy as np

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.untrusted_hdf5 import get_dataset, open_hdf5
from fuxictr_me.errors import UsageError, unknown


class OldFile:
    """FuxiCTR's H5 of 2.0 to 2.1.3, one dataset per column, and of 1.x, one dataset ``data`` with the label last.

    The datasets must lie in the file itself: links, external and virtual storage are refused.

    Args:
        path: of the file.
        layout: the columns that are wanted.

    Attributes:
        rows (int)

    Raises:
        UsageError: HDF5 cannot read the file, or a column is missing or of another shape.
    """

    is_protected = False

    def __init__(self, path: str | Path, layout: Layout) -> None:
        self.path, self.layout = Path(path), layout
        with open_hdf5(self.path) as file:
            self._is_one = list(file) == ["data"]
            self.rows = self._count_of_one(file) if self._is_one else self._count_of_columns(file)

    def _count_of_one(self, file):
        shape = get_dataset(file, "data").shape
        width = sum(place.stop - place.start for place in self.layout.places.values())
        if shape[1:] != (width,):
            raise UsageError(
                f"{self.path}: 'data' has shape {shape}, but the feature map's columns and labels are {width} wide"
            )
        return shape[0]

    def _count_of_columns(self, file):
        lengths = {}
        for name, place in self.layout.places.items():
            if name not in file:
                raise unknown(f"column (of the feature map, in {self.path})", name, file)
            shape = get_dataset(file, name).shape
            width = (place.stop - place.start,) if place.is_vector else ()
            if shape[1:] != width:
                raise UsageError(f"{self.path}: column {name!r} has shape {shape}, expected {('rows', *width)}")
            lengths[name] = shape[0]
        if len(set(lengths.values())) > 1:
            low, high = min(lengths, key=lengths.get), max(lengths, key=lengths.get)
            raise UsageError(
                f"{self.path}: columns of unequal length: {low!r} {lengths[low]}, {high!r} {lengths[high]} rows"
            )
        return lengths[name]

    def read(self, start: int, stop: int, into: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As ``H5File.read``."""
        with open_hdf5(self.path) as file:
            if self._is_one:
                block, columns, at = get_dataset(file, "data")[start:stop], {}, 0
                for name, place in self.layout.places.items():
                    width = place.stop - place.start
                    columns[name] = block[:, at : at + width] if place.is_vector else block[:, at]
                    at += width
            else:
                columns = {name: get_dataset(file, name)[start:stop] for name in self.layout.places}
        for matrix, values in gather_rows(columns, self.layout, stop - start, self.path).items():
            into[matrix][...] = values
        return into


def gather_rows(columns: dict[str, np.ndarray], layout: Layout, rows: int, path: str | Path) -> dict[str, np.ndarray]:
    """As ``Layout.gather``; its errors name the file."""
    try:
        return layout.gather(columns, rows)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
