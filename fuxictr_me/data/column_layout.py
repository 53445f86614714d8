"""Where the columns of a data set lie: side by side in one matrix for each dtype."""

import json
from dataclasses import dataclass

import numpy as np

from fuxictr_me.errors import UsageError

ID_DTYPES = ("uint8", "int16", "int32", "int64")  # torch indexes and copies all of these; it does not uint16
VALUES, META = "float32", "meta"  # numeric features and labels; group ids, which FuxiCTR reads on the CPU


@dataclass(frozen=True)
class Place:
    """A column of the data set.

    Attributes:
        matrix (str): one of ``ID_DTYPES``, ``float32`` or ``meta``.
        start, stop (int): its columns there.
        is_vector (bool): (N, stop - start), as a sequence; else (N,).
    """

    matrix: str
    start: int
    stop: int
    is_vector: bool


class Layout:
    """Fields and labels of a data set -> columns of a few matrices, so that a batch is one selection of rows in each.

    Args:
        places (dict): name -> Place, in the order in which batches name them.
    """

    def __init__(self, places):
        self.places = places
        self.widths = {}
        for place in places.values():
            self.widths[place.matrix] = max(self.widths.get(place.matrix, 0), place.stop)

    @classmethod
    def of(cls, feature_map):
        """The smallest dtype that holds the ids of each field of a FuxiCTR feature map.

        Raises:
            UsageError: a field whose width cannot be known.
        """
        places, widths = {}, {}
        for name, spec in feature_map.features.items():
            width = spec.get("max_len") if spec["type"] == "sequence" else spec.get("pretrain_dim")
            if spec["type"] == "embedding" and not width:
                raise UsageError(f"field {name!r} of type embedding needs its pretrain_dim, which is its width")
            is_vector = spec["type"] in ("sequence", "embedding")
            matrix = _matrix(spec)
            start = widths.get(matrix, 0)
            widths[matrix] = start + (width if is_vector else 1)
            places[name] = Place(matrix, start, widths[matrix], is_vector)
        for label in feature_map.labels:
            start = widths.get(VALUES, 0)
            widths[VALUES] = start + 1
            places[label] = Place(VALUES, start, start + 1, False)
        return cls(places)

    @property
    def row_bytes(self):
        """Bytes of a row in all matrices."""
        return sum(np.dtype(dtype_of(matrix)).itemsize * width for matrix, width in self.widths.items())

    def empty(self, rows):
        """matrix -> array (rows, width), not initialised."""
        return {matrix: np.empty((rows, width), dtype_of(matrix)) for matrix, width in self.widths.items()}

    def gather(self, columns, rows):
        """Put columns side by side.

        Args:
            columns (dict): name -> array (rows,) or (rows, L).
            rows (int): how many.

        Returns:
            dict: matrix -> array (rows, width).

        Raises:
            UsageError: a column that is missing, of another length or shape, not of numbers, or whose values
                its matrix cannot hold.
        """
        matrices = self.empty(rows)
        for name, place in self.places.items():
            if name not in columns:
                raise UsageError(f"column {name!r} is missing (there are {', '.join(map(str, columns))})")
            values = np.asarray(columns[name])
            wanted = (rows, place.stop - place.start) if place.is_vector else (rows,)
            if values.shape != wanted:
                raise UsageError(f"column {name!r} has shape {values.shape}, expected {wanted}")
            if values.dtype.kind not in "iufb":
                raise UsageError(f"column {name!r} holds {values.dtype}, not numbers")
            target = matrices[place.matrix]
            part = target[:, place.start : place.stop] if place.is_vector else target[:, place.start]
            if target.dtype.kind in "iu" and rows:
                if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
                    raise UsageError(f"column {name!r} holds ids that are not whole numbers")
                low, high, bounds = values.min(), values.max(), np.iinfo(target.dtype)
                if low < bounds.min or high > bounds.max:
                    raise UsageError(f"column {name!r} has ids from {low} to {high}, past its vocabulary")
            part[...] = values
        return matrices

    def take(self, matrices):
        """name -> column of the matrices: (n,), or (n, L) for a vector."""
        columns = {}
        for name, place in self.places.items():
            matrix = matrices[place.matrix]
            columns[name] = matrix[:, place.start : place.stop] if place.is_vector else matrix[:, place.start]
        return columns

    def to_json(self):
        """As text, for a file to say what it holds."""
        return json.dumps({name: list(vars(place).values()) for name, place in self.places.items()})

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """Read what ``to_json`` wrote.

        Raises:
            UsageError: it was not written by it: columns that overlap, leave a gap or are of no known dtype.
        """
        try:
            places = {name: Place(*place) for name, place in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"its layout of columns cannot be read: {error}") from error
        ends = {}
        for name, place in places.items():
            is_known = place.matrix in (*ID_DTYPES, VALUES, META)
            are_numbers = all(type(number) is int for number in (place.start, place.stop))
            if not is_known or not are_numbers or type(place.is_vector) is not bool:
                raise UsageError(f"its layout of columns is damaged at {name!r}: {list(vars(place).values())}")
            if place.start != ends.get(place.matrix, 0) or place.stop <= place.start:
                raise UsageError(f"its layout of columns is damaged at {name!r}: {place.start} to {place.stop}")
            if not place.is_vector and place.stop != place.start + 1:
                raise UsageError(f"its layout of columns is damaged at {name!r}, which is one column wide")
            ends[place.matrix] = place.stop
        if not places:
            raise UsageError("its layout names no columns")
        return cls(places)


def dtype_of(matrix):
    """numpy's name of a matrix's dtype."""
    return "int64" if matrix == META else matrix


def _matrix(spec):
    if spec["type"] == "meta":
        return META
    if spec["type"] in ("numeric", "embedding"):
        return VALUES
    largest = spec["vocab_size"] - 1
    return next(dtype for dtype in ID_DTYPES if largest <= np.iinfo(dtype).max)
