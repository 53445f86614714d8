"""Ids on disk as H5: ours, and those of FuxiCTR 1.x to 2.1."""

from bisect import bisect_right
from pathlib import Path

import numpy as np

from fuxictr_me.data.h5_file import H5File, is_ours, opened
from fuxictr_me.data.label_values import check_label
from fuxictr_me.data.layout import ID_DTYPES, Layout
from fuxictr_me.errors import UsageError, missing, unknown


class Rows:
    """The rows of a split: files one after the other.

    Args:
        feature_map (FeatureMap): of FuxiCTR; says which columns, and how large their vocabularies are.
        path (str or Path): a file; a folder of blocks; or a path whose ending or file FuxiCTR has changed
            (``train``, ``train.parquet``) beside which the H5 data lie.
        split (str): for messages.
        binary (list of str): labels that must be 0 or 1.

    Attributes:
        files (list), starts (list of int): where the rows of each begin, and the number of all at the end.
        layout (Layout)

    Raises:
        UsageError: no such data, damaged or unknown files, a column that is missing, or no rows.
    """

    def __init__(self, feature_map, path, split="train", binary=()):
        self.feature_map, self.path, self.binary = feature_map, path, binary
        self.layout = Layout.of(feature_map)
        self.files = [open_file(file, self.layout) for file in h5_files(path)]
        self.starts = np.cumsum([0, *(file.rows for file in self.files)]).tolist()
        if len(self) == 0:
            raise UsageError(f"{path}: the {split} split holds no rows")

    def __len__(self):
        return self.starts[-1]

    def read(self, start, stop, into=None):
        """Rows ``start`` to ``stop`` of the split: matrix -> array (n, width), as they lie in the files.

        Raises:
            UsageError: a file that cannot be read.
        """
        into = self.layout.empty(stop - start) if into is None else into
        at, done = bisect_right(self.starts, start) - 1, start
        while done < stop:
            first, upto = self.starts[at], min(stop, self.starts[at + 1])
            part = {matrix: array[done - start : upto - start] for matrix, array in into.items()}
            self.files[at].read(done - first, upto - first, part)
            at, done = at + 1, upto
        return into

    def check(self, matrices):
        """Refuse rows that would be a wrong batch; returns them.

        Raises:
            UsageError: ids past the vocabulary, values that are not finite, labels other than 0 and 1.
        """
        check(matrices, self.layout, self.feature_map, self.path)
        check_labels(matrices, self.layout, self.binary, self.path)
        return matrices


def h5_files(path):
    """The H5 files of a split, in the order of their names, with numbers by value.

    Raises:
        UsageError: there are none.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".h5", ".parquet", ".npz", ".csv") else path
    for candidate in (path, stem.with_suffix(".h5"), stem):
        if candidate.is_file() and candidate.suffix == ".h5":
            return [candidate]
        if candidate.is_dir() and (files := list(candidate.glob("*.h5"))):
            return sorted(files, key=_by_number)
    parts = sorted(path.parent.glob(f"{stem.name}_part_*.h5"), key=_by_number)  # FuxiCTR 1.x
    if parts:
        return parts
    raise missing("H5 data", path)


def open_file(path, layout):
    """An ``H5File`` or a file of FuxiCTR 1.x to 2.1, with the columns of ``layout``.

    Raises:
        UsageError: other columns, or an unknown form.
    """
    if not is_ours(path):
        return OldFile(path, layout)
    file = H5File(path)
    if file.layout.places == layout.places:
        return file
    return Narrowed(file, layout)


class Narrowed:
    """A file of ours that holds other columns than are asked for: some of them, or in another dtype."""

    def __init__(self, file, layout):
        for name, place in layout.places.items():
            if name not in file.layout.places:
                raise unknown(f"column (of the feature map, in {file.path})", name, file.layout.places)
            there = file.layout.places[name]
            if there.is_vector != place.is_vector or there.stop - there.start != place.stop - place.start:
                raise UsageError(
                    f"{file.path}: column {name!r} is {there.stop - there.start} wide, "
                    f"the feature map says {place.stop - place.start}"
                )
        self.file, self.layout, self.rows, self.path = file, layout, file.rows, file.path

    def read(self, start, stop, into):
        """As ``H5File.read``."""
        columns = self.file.layout.take(self.file.read(start, stop))
        for matrix, values in _gathered(columns, self.layout, stop - start, self.path).items():
            into[matrix][...] = values
        return into


class OldFile:
    """FuxiCTR's H5 of 2.0 to 2.1.3, a dataset a column, and of 1.x, one dataset ``data`` with the label last."""

    def __init__(self, path, layout):
        self.path, self.layout = Path(path), layout
        with opened(path) as file:
            if "data" in file and len(file) == 1:
                self._names = list(layout.places)
                widths = sum(place.stop - place.start for place in layout.places.values())
                if file["data"].ndim != 2 or file["data"].shape[1] != widths:
                    raise UsageError(
                        f"{path}: 'data' has shape {file['data'].shape}, "
                        f"but the feature map's columns and labels are {widths} wide"
                    )
                self.rows, self._is_one = len(file["data"]), True
                return
            self._is_one = False
            for name in layout.places:
                if name not in file:
                    raise unknown(f"column (of the feature map, in {path})", name, file)
            lengths = {name: len(file[name]) for name in layout.places}
            if len(set(lengths.values())) > 1:
                low, high = min(lengths, key=lengths.get), max(lengths, key=lengths.get)
                raise UsageError(
                    f"{path}: columns of unequal length: {low!r} {lengths[low]}, {high!r} {lengths[high]} rows"
                )
            self.rows = next(iter(lengths.values()))

    def read(self, start, stop, into):
        """As ``H5File.read``."""
        with opened(self.path) as file:
            if self._is_one:
                block, columns, at = file["data"][start:stop], {}, 0
                for name, place in self.layout.places.items():
                    width = place.stop - place.start
                    columns[name] = block[:, at : at + width] if place.is_vector else block[:, at]
                    at += width
            else:
                columns = {name: file[name][start:stop] for name in self.layout.places}
        for matrix, values in _gathered(columns, self.layout, stop - start, self.path).items():
            into[matrix][...] = values
        return into


def check(matrices, layout, feature_map, path):
    """Refuse ids past the vocabulary and values that are not finite, by the names of their fields.

    Args:
        matrices (dict): matrix -> array (n, width).
        layout (Layout), feature_map (FeatureMap), path (Path)

    Raises:
        UsageError: with the field, what was found, and what is allowed.
    """
    lows = {matrix: values.min(axis=0) for matrix, values in matrices.items()}
    highs = {matrix: values.max(axis=0) for matrix, values in matrices.items()}
    for name, place in layout.places.items():
        low, high = (bounds[place.matrix][place.start : place.stop] for bounds in (lows, highs))
        if matrices[place.matrix].dtype.kind == "f":
            if not (np.isfinite(low).all() and np.isfinite(high).all()):  # a NaN is its column's min and max
                values = matrices[place.matrix][:, place.start : place.stop]
                raise UsageError(
                    f"{path}: column {name!r} has {int((~np.isfinite(values)).sum())} values that are NaN or infinite"
                )
            continue
        size = feature_map.features.get(name, {}).get("vocab_size")
        if place.matrix in ID_DTYPES and (low.min() < 0 or high.max() >= size):
            raise UsageError(
                f"{path}: field {name!r} has ids from {low.min()} to {high.max()}, "
                f"but its vocabulary holds 0 to {size - 1}"
            )


def check_labels(matrices, layout, labels, path):
    """Refuse labels that are neither 0 nor 1.

    Raises:
        UsageError: with the values found.
    """
    for label in labels:
        check_label(layout.take(matrices)[label], label, path)


def _gathered(columns, layout, rows, path):
    try:
        return layout.gather(columns, rows)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _by_number(path):
    digits = "".join(c if c.isdigit() else " " for c in path.stem).split()
    return [int(d) for d in digits], path.name
