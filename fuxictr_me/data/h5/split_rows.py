"""Ids on disk as H5: ours, and those of FuxiCTR 1.x to 2.1."""

import logging
import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fuxictr_me.data.column_layout import ID_DTYPES, Layout
from fuxictr_me.data.h5.block_checksums import BLOCK_ROWS, has_trailer
from fuxictr_me.data.h5.fuxictr_file import OldFile, gather_rows
from fuxictr_me.data.h5.h5_file import H5File, is_ours
from fuxictr_me.data.h5.hdf5_rehearsal import rehearse_parsing
from fuxictr_me.data.label_values import check_label
from fuxictr_me.data.manifest_checks import ExpectedFile, expected_files
from fuxictr_me.errors import UsageError, missing, unknown

THREADS = max(1, min(4, os.cpu_count() or 1))  # that read and check


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
        UsageError: no such data, damaged or unknown files, files that the set's manifest does not list, a column
            that is missing, or no rows.
    """

    def __init__(self, feature_map, path, split="train", binary=()):
        self.feature_map, self.path, self.binary = feature_map, path, binary
        self.layout = Layout.of(feature_map)
        files = h5_files(path)
        expected = expected_files(files, are_all=files != [Path(path)])
        known = zip(files, expected, strict=True)
        rehearse_parsing([file for file, says in known if says.trailer is None and not has_trailer(file)])
        self.files = [open_file(file, self.layout, says) for file, says in zip(files, expected, strict=True)]
        if not all(file.is_protected for file in self.files):
            is_checked = all(says.checksums for says in expected)
            known = "each start checks it as a whole" if is_checked else "damage to it cannot be noticed"
            logging.warning(
                f"{path} is not protected: it was written without checksums of its blocks, so {known}; "
                "`fuxictr-me data convert OLD NEW` writes a protected copy."
            )
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

    def read_ranges(
        self, ranges: Sequence[tuple[int, int]], into: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Read ranges of rows one after the other, a few threads side by side, and refuse rows that are wrong.

        Args:
            ranges: (start, stop) of each.
            into: matrix -> array (rows of all ranges, width) to fill; new ones if None.

        Raises:
            UsageError: as ``read`` and ``check``.
        """
        ends = np.cumsum([0, *(stop - start for start, stop in ranges)]).tolist()
        into = self.layout.empty(ends[-1]) if into is None else into
        a_thread = max(1, -(-len(ranges) // THREADS))

        def read_some(first: int) -> None:
            group = range(first, min(first + a_thread, len(ranges)))
            for i in group:
                self.read(*ranges[i], {matrix: array[ends[i] : ends[i + 1]] for matrix, array in into.items()})
            self.check({matrix: array[ends[group.start] : ends[group.stop]] for matrix, array in into.items()})

        with ThreadPoolExecutor(THREADS, "h5-reader") as threads:
            list(threads.map(read_some, range(0, len(ranges), a_thread)))
        return into

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return ranges of whole blocks of checksums, about one for each thread, that make up a range of rows."""
        size = -(-(stop - start) // THREADS)
        size = -(-size // BLOCK_ROWS) * BLOCK_ROWS
        return [(first, min(first + size, stop)) for first in range(start, stop, size)]

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


def open_file(path: Path, layout: Layout, expected: ExpectedFile | None = None) -> "H5File | Narrowed | OldFile":
    """Open an ``H5File``, or a file of FuxiCTR 1.x to 2.1, with the columns of ``layout``.

    Args:
        expected: what the manifest says of the file.

    Raises:
        UsageError: other columns, an unknown form, or not the file that is expected.
    """
    has_checksums = expected is not None and expected.trailer is not None  # then HDF5 need not parse it
    if not has_checksums and not is_ours(path):
        if expected is not None and expected.rows is not None:
            raise UsageError(f"{path} is not the file that its manifest lists: fuxictr-me did not write it")
        return OldFile(path, layout)
    file = H5File(path, expected)
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
        self.is_protected = file.is_protected

    def read(self, start, stop, into):
        """As ``H5File.read``."""
        columns = self.file.layout.take(self.file.read(start, stop))
        for matrix, values in gather_rows(columns, self.layout, stop - start, self.path).items():
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


def _by_number(path):
    digits = "".join(c if c.isdigit() else " " for c in path.stem).split()
    return [int(d) for d in digits], path.name
