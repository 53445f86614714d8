"""Rows of a split in one or several H5 files, written by fuxictr-me or by FuxiCTR 1.x to 2.1."""

import logging
import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import Layout, Matrices
from fuxictr_me.data.h5.block_checksums import has_trailer
from fuxictr_me.data.h5.block_sizes import streamed_block_rows
from fuxictr_me.data.h5.fuxictr_file import FuxiCTRFile
from fuxictr_me.data.h5.h5_file import H5File, is_fuxictr_me_file
from fuxictr_me.data.h5.untrusted_hdf5 import rehearse_parsing
from fuxictr_me.data.manifest_checks import ExpectedFile, expected_files
from fuxictr_me.data.row_checks import check_matrices
from fuxictr_me.errors import UsageError, missing, unknown

THREADS = max(1, min(4, os.cpu_count() or 1))  # for reading and checking
PIECE_BYTES = 1 << 21  # small enough that rows are still in the processor's cache when their checksums are compared


class SplitRows:
    """Rows of a split: those of its files, one file after another.

    Args:
        feature_map: tells the columns and the sizes of their vocabularies.
        path: a file; a folder of blocks; or a path beside which the H5 data lie under another ending, since FuxiCTR
            changes the paths of a config (``train``, ``train.parquet``).
        split: name of the split for messages.
        binary: labels that must be 0 or 1.

    Attributes:
        files: open files.
        starts: number of the first row of each file, and at the end the number of all rows.
        layout: positions of the columns.

    Raises:
        UsageError: there are no data, files are damaged or of an unknown format or not listed in the manifest of the
            data set, a column is missing, or there are no rows.
    """

    def __init__(
        self, feature_map: FeatureMap, path: str | Path, split: str = "train", binary: Sequence[str] = ()
    ) -> None:
        self.feature_map, self.path, self.binary = feature_map, path, binary
        self.layout = Layout.from_feature_map(feature_map)
        paths = find_h5_files(path)
        expected = expected_files(paths, are_all=paths != [Path(path)])
        pairs = list(zip(paths, expected, strict=True))
        rehearse_parsing([file for file, entry in pairs if entry.trailer is None and not has_trailer(file)])
        self.files = [open_file(file, self.layout, entry) for file, entry in pairs]
        if not all(file.is_protected for file in self.files):
            is_checked = all(entry.checksums for entry in expected)
            effect = "each start checks it as a whole" if is_checked else "damage to it cannot be noticed"
            logging.warning(
                f"{path} is not protected: it was written without checksums of its blocks, so {effect}; "
                "`fuxictr-me data convert OLD NEW` writes a protected copy."
            )
        self.starts = np.cumsum([0, *(file.rows for file in self.files)]).tolist()
        if len(self) == 0:
            raise UsageError(f"{path}: the {split} split holds no rows")

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, start: int, stop: int, into: Matrices | None = None) -> Matrices:
        """Read rows ``start`` to ``stop`` of the split, unchecked except for their checksums.

        Args:
            start: first row.
            stop: end of the rows.
            into: matrix -> array (stop - start, width) to fill; new arrays if None.

        Raises:
            UsageError: a file cannot be read.
        """
        into = self.layout.allocate(stop - start) if into is None else into
        at, done = bisect_right(self.starts, start) - 1, start
        while done < stop:
            first, end = self.starts[at], min(stop, self.starts[at + 1])
            part = {matrix: array[done - start : end - start] for matrix, array in into.items()}
            self.files[at].read(done - first, end - first, part)
            at, done = at + 1, end
        return into

    def read_ranges(self, ranges: Sequence[tuple[int, int]], into: Matrices | None = None) -> Matrices:
        """Read ranges of rows in parallel threads, store them one after another, and check them.

        Args:
            ranges: (start, stop) of each range.
            into: matrix -> array (rows of all ranges, width) to fill; new arrays if None.

        Raises:
            UsageError: as ``read`` and ``check``.
        """
        ends = np.cumsum([0, *(stop - start for start, stop in ranges)]).tolist()
        result = self.layout.allocate(ends[-1]) if into is None else into
        ranges_per_thread = max(1, -(-len(ranges) // THREADS))

        def read_group(first: int) -> None:
            group = range(first, min(first + ranges_per_thread, len(ranges)))
            for i in group:
                self.read(*ranges[i], {matrix: array[ends[i] : ends[i + 1]] for matrix, array in result.items()})
            self.check({matrix: array[ends[group.start] : ends[group.stop]] for matrix, array in result.items()})

        with ThreadPoolExecutor(THREADS, "h5-reader") as threads:
            list(threads.map(read_group, range(0, len(ranges), ranges_per_thread)))
        return result

    def divide(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Divide a range of rows into ranges of about ``PIECE_BYTES`` that consist of whole blocks of checksums."""
        block_rows = streamed_block_rows(self.layout.row_bytes)
        size = min(PIECE_BYTES // self.layout.row_bytes, (stop - start) // THREADS)
        size = max(1, size // block_rows) * block_rows
        return [(first, min(first + size, stop)) for first in range(start, stop, size)]

    def file_starts(self, own: range) -> list[int]:
        """Return the first row of each file that holds some of the rows ``own``, counted from the first of these."""
        first = bisect_right(self.starts, own.start) - 1
        return [start - own.start for start in self.starts[first:-1] if start < own.stop]

    def check(self, matrices: Matrices) -> Matrices:
        """Return the rows if they can be fed to a model.

        Raises:
            UsageError: ids outside the vocabulary, values that are not finite, or binary labels other than 0 and 1.
        """
        check_matrices(matrices, self.layout, self.feature_map, self.path, self.binary)
        return matrices


def find_h5_files(path: str | Path) -> list[Path]:
    """Return the H5 files of a split, sorted by name, with the numbers in names compared by value.

    Raises:
        UsageError: there are none.
    """
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".h5", ".parquet", ".npz", ".csv") else path
    for candidate in (path, stem.with_suffix(".h5"), stem):
        if candidate.is_file() and candidate.suffix == ".h5":
            return [candidate]
        if candidate.is_dir() and (files := list(candidate.glob("*.h5"))):
            return sorted(files, key=_numbers_in_name)
    parts = sorted(path.parent.glob(f"{stem.name}_part_*.h5"), key=_numbers_in_name)  # FuxiCTR 1.x
    if parts:
        return parts
    raise missing("H5 data", path)


def open_file(
    path: Path, layout: Layout, expected: ExpectedFile | None = None
) -> "H5File | SelectedColumns | FuxiCTRFile":
    """Open an H5 file of fuxictr-me, or one of FuxiCTR 1.x to 2.1, to read the columns of ``layout``.

    Args:
        path: the file.
        layout: columns to read.
        expected: the file's entry in the manifest.

    Raises:
        UsageError: other columns, an unknown format, or not the expected file.
    """
    has_checksums = expected is not None and expected.trailer is not None  # so HDF5 need not parse the file
    if not has_checksums and not is_fuxictr_me_file(path):
        if expected is not None and expected.rows is not None:
            raise UsageError(f"{path} is not the file that its manifest lists: fuxictr-me did not write it")
        return FuxiCTRFile(path, layout)
    file = H5File(path, expected)
    return file if file.layout.places == layout.places else SelectedColumns(file, layout)


class SelectedColumns:
    """View of a file of fuxictr-me with the columns of another layout: a selection of them, or in other dtypes."""

    def __init__(self, file: H5File, layout: Layout) -> None:
        stored = file.layout.places
        for name, place in layout.places.items():
            if name not in stored:
                raise unknown(f"column (of the feature map, in {file.path})", name, stored)
            if stored[name].is_vector != place.is_vector or stored[name].width != place.width:
                raise UsageError(
                    f"{file.path}: column {name!r} is {stored[name].width} wide, the feature map says {place.width}"
                )
        self.file, self.layout, self.rows, self.path = file, layout, file.rows, file.path
        self.is_protected = file.is_protected

    def read(self, start: int, stop: int, into: Matrices) -> Matrices:
        """Read rows ``start`` to ``stop`` into matrices, as ``H5File.read`` does."""
        columns = self.file.layout.split_columns(self.file.read(start, stop))
        return self.layout.gather(columns, stop - start, into, self.path)


def _numbers_in_name(path: Path) -> tuple[list[int], str]:
    digits = "".join(c if c.isdigit() else " " for c in path.stem).split()
    return [int(d) for d in digits], path.name
