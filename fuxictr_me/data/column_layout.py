"""Positions of a data set's columns, which are stored side by side in one matrix per dtype."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.errors import UsageError

ID_DTYPES = ("uint8", "int16", "int32", "int64")  # torch can index with and copy all of these, but not uint16
VALUES, META = "float32", "meta"  # numeric features and labels; group ids, which FuxiCTR reads on the CPU

Matrices = dict[str, np.ndarray]  # matrix name -> (rows, width)


@dataclass(frozen=True)
class Place:
    """Position of one column.

    Attributes:
        matrix: one of ``ID_DTYPES``, ``float32`` or ``meta``.
        start: first column of the matrix that belongs to it.
        stop: end of its columns in the matrix.
        is_vector: whether it holds (N, stop - start) values, as sequences do, rather than (N,).
    """

    matrix: str
    start: int
    stop: int
    is_vector: bool

    @property
    def width(self) -> int:
        """Number of columns of the matrix that belong to this column."""
        return self.stop - self.start

    def slice(self, matrix: np.ndarray) -> np.ndarray:
        """Return the view of ``matrix`` that holds this column, (n,) or (n, width)."""
        return matrix[:, self.start : self.stop] if self.is_vector else matrix[:, self.start]


class Layout:
    """Assignment of fields and labels to columns of a few matrices, so that a batch is one row selection per matrix.

    Args:
        places: name -> Place, in the order in which batches name them.
    """

    def __init__(self, places: dict[str, Place]) -> None:
        self.places = places
        self.widths: dict[str, int] = {}  # matrix -> number of columns
        for place in places.values():
            self.widths[place.matrix] = max(self.widths.get(place.matrix, 0), place.stop)

    @classmethod
    def from_feature_map(cls, feature_map: FeatureMap) -> "Layout":
        """Return the layout that stores each field in the smallest dtype that holds its ids.

        Raises:
            UsageError: the width of a field is unknown.
        """
        places: dict[str, Place] = {}
        ends: dict[str, int] = {}
        labels = {label: {"type": "label"} for label in feature_map.labels}
        for name, spec in {**feature_map.features, **labels}.items():
            width = spec.get("max_len") if spec["type"] == "sequence" else spec.get("pretrain_dim")
            if spec["type"] == "embedding" and not width:
                raise UsageError(f"field {name!r} of type embedding needs its pretrain_dim, which is its width")
            is_vector = spec["type"] in ("sequence", "embedding")
            matrix = _choose_matrix(spec)
            start = ends.get(matrix, 0)
            ends[matrix] = start + (width if is_vector else 1)
            places[name] = Place(matrix, start, ends[matrix], is_vector)
        return cls(places)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in all matrices."""
        return sum(np.dtype(dtype_of(matrix)).itemsize * width for matrix, width in self.widths.items())

    def allocate(self, rows: int) -> Matrices:
        """Return uninitialised matrices for a number of rows."""
        return {matrix: np.empty((rows, width), dtype_of(matrix)) for matrix, width in self.widths.items()}

    def gather(
        self, columns: Mapping[str, np.ndarray], rows: int, into: Matrices | None = None, path: str | Path | None = None
    ) -> Matrices:
        """Copy columns side by side into matrices, and check them.

        Args:
            columns: name -> array (rows,) or (rows, L).
            rows: their length.
            into: matrix -> array (rows, width) to fill; new arrays if None.
            path: file that the columns come from, which error messages name.

        Raises:
            UsageError: a column is missing, has another length or shape, is not numeric, or has values that its
                matrix cannot hold.
        """
        matrices = self.allocate(rows) if into is None else into
        for name, place in self.places.items():
            try:
                _copy_column(name, columns, place.slice(matrices[place.matrix]))
            except UsageError as error:
                raise error if path is None else UsageError(f"{path}: {error}") from error
        return matrices

    def split_columns(self, matrices: Matrices) -> dict[str, np.ndarray]:
        """Return name -> view of the column in the matrices, (n,), or (n, L) for vectors."""
        return {name: place.slice(matrices[place.matrix]) for name, place in self.places.items()}

    def to_json(self) -> str:
        """Return the text from which ``from_json`` restores the layout."""
        return json.dumps({name: list(vars(place).values()) for name, place in self.places.items()})

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Restore a layout from what ``to_json`` returned.

        Raises:
            UsageError: the text is damaged: columns overlap, leave a gap or have an unknown dtype.
        """
        try:
            places = {name: Place(*place) for name, place in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"its layout of columns cannot be read: {error}") from error
        ends: dict[str, int] = {}
        for name, place in places.items():
            is_known = place.matrix in (*ID_DTYPES, VALUES, META)
            are_numbers = all(type(number) is int for number in (place.start, place.stop))
            if not is_known or not are_numbers or type(place.is_vector) is not bool:
                raise UsageError(f"its layout of columns is damaged at {name!r}: {list(vars(place).values())}")
            if place.start != ends.get(place.matrix, 0) or place.stop <= place.start:
                raise UsageError(f"its layout of columns is damaged at {name!r}: {place.start} to {place.stop}")
            if not place.is_vector and place.width != 1:
                raise UsageError(f"its layout of columns is damaged at {name!r}, which is one column wide")
            ends[place.matrix] = place.stop
        if not places:
            raise UsageError("its layout names no columns")
        return cls(places)


def dtype_of(matrix: str) -> str:
    """Return numpy's name of the dtype of a matrix."""
    return "int64" if matrix == META else matrix


def _copy_column(name: str, columns: Mapping[str, np.ndarray], target: np.ndarray) -> None:
    """Copy one column into its place, ``target``, unless its values would change on the way."""
    if name not in columns:
        raise UsageError(f"column {name!r} is missing (there are {', '.join(map(str, columns))})")
    values = np.asarray(columns[name])
    if values.shape != target.shape:
        raise UsageError(f"column {name!r} has shape {values.shape}, expected {target.shape}")
    if values.dtype.kind not in "iufb":
        raise UsageError(f"column {name!r} holds {values.dtype}, not numbers")
    if target.dtype.kind in "iu" and len(values):
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
            raise UsageError(f"column {name!r} holds ids that are not whole numbers")
        low, high, bounds = values.min(), values.max(), np.iinfo(target.dtype)
        if low < bounds.min or high > bounds.max:
            raise UsageError(f"column {name!r} has ids from {low} to {high}, past its vocabulary")
    target[...] = values


def _choose_matrix(spec: dict) -> str:
    if spec["type"] == "meta":
        return META
    if spec["type"] in ("numeric", "embedding", "label"):
        return VALUES
    largest = spec["vocab_size"] - 1
    return next(dtype for dtype in ID_DTYPES if largest <= np.iinfo(dtype).max)
