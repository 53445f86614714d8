"""Checksums that travel at the end of an H5 file: one per block of rows, and one of all bytes outside the rows.

HDF5 ignores bytes after its own end, so other programs read the file as before. They are

    JSON header, a line break, CRC-32 of each block of each matrix (little-endian uint32), footer

and the footer is ``MAGIC``, the length of what lies between HDF5's end and the footer, and BLAKE2b of that.
CRC-32 finds every error of up to 32 bits in a row; of other errors in a block it misses one in 2³².
"""

import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuxictr_me.data.column_layout import Layout, dtype_of
from fuxictr_me.errors import UsageError

MAGIC = b"FXMESUM1"
FOOTER = struct.Struct("<8sQ16s")
BLOCK_ROWS = 1 << 10  # as many as the loader's largest streamed block, so that a block is read once for both
ADVICE = "restore the file, or delete the data set and build it again"


@dataclass(frozen=True)
class Trailer:
    """What the end of a file says of the rest.

    Attributes:
        digest (str): BLAKE2b of header and checksums, as the manifest lists it.
        layout (Layout), rows (int)
        offsets (dict): matrix -> position of its first byte.
        hdf5_bytes (int): length of the file without the trailer.
        block_rows (int): rows of a block.
        checksums (dict): matrix -> uint32 (number of blocks,).
        outside (str): BLAKE2b of HDF5's bytes that belong to no matrix.
    """

    digest: str
    layout: Layout
    rows: int
    offsets: dict
    hdf5_bytes: int
    block_rows: int
    checksums: dict
    outside: str


class RunningChecksums:
    """CRC-32 of each block of rows of one matrix, from pieces of any length."""

    def __init__(self, block_rows: int = BLOCK_ROWS) -> None:
        self.block_rows, self._done, self._open, self._rows = block_rows, [], 0, 0

    def update(self, values: np.ndarray) -> None:
        """Append rows, (n, width), C-contiguous."""
        at = 0
        while at < len(values):
            upto = min(len(values), at + self.block_rows - self._rows)
            self._open = zlib.crc32(values[at:upto], self._open)
            self._rows += upto - at
            if self._rows == self.block_rows:
                self._done.append(self._open)
                self._open = self._rows = 0
            at = upto

    def result(self) -> np.ndarray:
        """Return the checksums so far, the last one of a block that may be shorter."""
        return np.array([*self._done, self._open] if self._rows else self._done, "<u4")


class VerifiedBlocks:
    """Check the rows that were read, the first time that each block of them is read."""

    def __init__(self, path: Path, trailer: Trailer) -> None:
        self.path, self.trailer = path, trailer
        self.forget()

    def forget(self) -> None:
        """Check every block anew, as when the file has changed."""
        self._seen = {matrix: np.zeros(len(sums), bool) for matrix, sums in self.trailer.checksums.items()}

    def check(self, matrix: str, start: int, stop: int, values: np.ndarray, read) -> None:
        """Compare the blocks that rows ``start`` to ``stop`` touch.

        Args:
            values: (stop - start, width), the rows.
            read (callable): (matrix, start, stop) -> rows, for a block of which ``values`` holds a part.

        Raises:
            UsageError: a block that is not as it was written.
        """
        size, sums, seen = self.trailer.block_rows, self.trailer.checksums[matrix], self._seen[matrix]
        first, last = start // size, -(-stop // size)
        for block in (first + np.flatnonzero(~seen[first:last])).tolist():
            low, high = block * size, min((block + 1) * size, self.trailer.rows)
            inside = start <= low and high <= stop
            rows = values[low - start : high - start] if inside else read(matrix, low, high)
            if zlib.crc32(rows) != sums[block]:
                raise UsageError(
                    f"{self.path} is damaged: rows {low:,} to {high - 1:,} of {matrix!r} are not as they were written; "
                    + ADVICE
                )
            seen[block] = True


def append_trailer(path: Path, layout: Layout, rows: int, offsets: dict, checksums: dict) -> str:
    """Add the trailer to a file that HDF5 has closed, and let it reach the disk.

    Returns:
        str: the digest for the manifest.
    """
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        header = {
            "hdf5_bytes": size,
            "rows": rows,
            "layout": layout.to_json(),
            "offsets": offsets,
            "block_rows": BLOCK_ROWS,
            "outside": _digest_outside(file.fileno(), size, _extents(layout, rows, offsets)),
        }
        body = json.dumps(header).encode() + b"\n" + b"".join(sums.tobytes() for sums in checksums.values())
        digest = hashlib.blake2b(body, digest_size=16)
        file.seek(size)
        file.write(body + FOOTER.pack(MAGIC, len(body), digest.digest()))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def has_trailer(path: Path) -> bool:
    """Whether the file ends in a footer, whatever lies before it."""
    try:
        with open(path, "rb") as file:
            file.seek(-FOOTER.size, os.SEEK_END)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:  # shorter than a footer, or not readable, as opening it will say
        return False


def read_trailer(descriptor: int, path: Path) -> Trailer | None:
    """Read the trailer, check it and all bytes outside the matrices; HDF5 parses nothing.

    Args:
        descriptor: of the file, open for reading.

    Returns:
        The trailer, or None if the file ends in no footer.

    Raises:
        UsageError: the trailer, HDF5's metadata or the file's length are not as they were written.
    """
    size = os.fstat(descriptor).st_size
    footer = os.pread(descriptor, FOOTER.size, max(0, size - FOOTER.size))
    if len(footer) < FOOTER.size or not footer.startswith(MAGIC):
        return None
    _, length, digest = FOOTER.unpack(footer)
    start = size - FOOTER.size - length
    body = os.pread(descriptor, length, start) if start >= 0 else b""
    if hashlib.blake2b(body, digest_size=16).digest() != digest:
        raise UsageError(f"{path} is damaged: the checksums at its end are not as they were written; {ADVICE}")
    try:
        trailer = _parse(body, digest.hex())
        extents = _extents(trailer.layout, trailer.rows, trailer.offsets)
        if trailer.hdf5_bytes != start or any(low < 0 or high > start for low, high in extents):
            raise UsageError(f"its length is {size} bytes")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: what its end says of it is wrong ({error}); {ADVICE}") from error
    if _digest_outside(descriptor, start, extents) != trailer.outside:
        raise UsageError(f"{path} is damaged: HDF5's metadata are not as they were written; {ADVICE}")
    return trailer


def _parse(body, digest):
    text, _, sums = body.partition(b"\n")
    header = json.loads(text)
    layout, rows, block_rows = Layout.from_json(header["layout"]), header["rows"], header["block_rows"]
    blocks, checksums = -(-rows // block_rows), {}
    values = np.frombuffer(sums, "<u4").reshape(len(layout.widths), blocks)
    for matrix, of_matrix in zip(layout.widths, values, strict=True):
        checksums[matrix] = of_matrix
    offsets = {matrix: header["offsets"][matrix] for matrix in layout.widths}
    return Trailer(digest, layout, rows, offsets, header["hdf5_bytes"], block_rows, checksums, header["outside"])


def _extents(layout, rows, offsets):
    """First byte and end of each matrix, in the order of the file."""
    sizes = {matrix: rows * width * np.dtype(dtype_of(matrix)).itemsize for matrix, width in layout.widths.items()}
    return sorted((offsets[matrix], offsets[matrix] + size) for matrix, size in sizes.items() if size)


def _digest_outside(descriptor, size, extents):
    digest, at = hashlib.blake2b(digest_size=16), 0
    for low, high in [*extents, (size, size)]:
        while at < low:
            piece = os.pread(descriptor, min(low - at, 1 << 24), at)
            if not piece:
                return None
            digest.update(piece)
            at += len(piece)
        at = max(at, high)
    return digest.hexdigest()
