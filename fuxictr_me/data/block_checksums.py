"""Checksums that travel at the end of an H5 file: one per block of rows, and one of all bytes outside the rows.

HDF5 ignores bytes after its own end, so other programs read the file as before. They are

    JSON header, a line break, the checksum of each block of each matrix (little-endian), footer

and the footer is ``MAGIC``, the length of what lies between HDF5's end and the footer, and BLAKE2b of that.
The header names the checksum. XXH3 (64 bits) is written: it misses one error in 2⁶⁴, and costs a fifth of CRC-32.
Files whose header names none hold CRC-32 (uint32) and are checked by it.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from fuxictr_me.data.layout import Layout, dtype_of
from fuxictr_me.data.order import streamed_block_rows
from fuxictr_me.errors import UsageError

MAGIC = b"FXMESUM1"
FOOTER = struct.Struct("<8sQ16s")
ADVICE = "restore the file, or delete the data set and build it again"


KINDS = {  # of checksums, by the name in the header: (function of a block's bytes, dtype in the file)
    "crc32": (zlib.crc32, "<u4"),
    "xxh3_64": (xxhash.xxh3_64_intdigest, "<u8"),
}
WRITTEN_KIND = "xxh3_64"


class UnknownChecksum(UsageError):
    """A file whose checksums are of a kind that this version cannot compute."""


@dataclass(frozen=True)
class Trailer:
    """What the end of a file says of the rest.

    Attributes:
        digest (str): BLAKE2b of header and checksums, as the manifest lists it.
        layout (Layout), rows (int)
        offsets (dict): matrix -> position of its first byte.
        hdf5_bytes (int): length of the file without the trailer.
        block_rows (int): rows of a block.
        compute (callable): a block of rows, C-contiguous -> its checksum.
        checksums (dict): matrix -> list of int, one for each block.
        outside (str): BLAKE2b of HDF5's bytes that belong to no matrix.
    """

    digest: str
    layout: Layout
    rows: int
    offsets: dict
    hdf5_bytes: int
    block_rows: int
    compute: Callable[[np.ndarray], int]
    checksums: dict[str, list[int]]
    outside: str


class RunningChecksums:
    """XXH3 of each block of rows of one matrix, from pieces of any length."""

    def __init__(self, block_rows: int) -> None:
        self.block_rows, self._done, self._open, self._rows = block_rows, [], xxhash.xxh3_64(), 0

    def update(self, values: np.ndarray) -> None:
        """Append rows, (n, width), C-contiguous."""
        size, compute = self.block_rows, xxhash.xxh3_64_intdigest
        at = min(len(values), size - self._rows) if self._rows else 0  # rows that the open block still takes
        whole = at + (len(values) - at) // size * size
        self._extend_open_block(values[:at])
        self._done += [compute(values[start : start + size]) for start in range(at, whole, size)]
        self._extend_open_block(values[whole:])

    def _extend_open_block(self, rows: np.ndarray) -> None:
        if len(rows):
            self._open.update(rows)
            self._rows += len(rows)
        if self._rows == self.block_rows:
            self._done.append(self._open.intdigest())
            self._open.reset()
            self._rows = 0

    def result(self) -> np.ndarray:
        """Return the checksums so far, the last one of a block that may be shorter."""
        sums = [*self._done, self._open.intdigest()] if self._rows else self._done
        return np.array(sums, KINDS[WRITTEN_KIND][1])


class VerifiedBlocks:
    """Check the rows that were read, the first time that each block of them is read."""

    def __init__(self, path: Path, trailer: Trailer) -> None:
        self.path, self.trailer = path, trailer
        self.forget()

    def forget(self) -> None:
        """Check every block anew, as when the file has changed."""
        self._seen = bytearray(-(-self.trailer.rows // self.trailer.block_rows))  # 1 where all matrices were compared

    def check(self, start: int, stop: int, matrices: dict[str, np.ndarray], read: Callable) -> None:
        """Compare the blocks that rows ``start`` to ``stop`` touch and that were not compared yet.

        Args:
            matrices: every matrix of the file -> (stop - start, width), the rows.
            read: (start, stop) -> the same of other rows, for a block of which ``matrices`` hold a part.

        Raises:
            UsageError: a block that is not as it was written.
        """
        seen, size = self._seen, self.trailer.block_rows
        end = -(-stop // size)
        block = seen.find(0, start // size, end)  # the first that is not seen; -1 if there is none
        while block >= 0:
            low, high = block * size, min((block + 1) * size, self.trailer.rows)
            if start == low and high == stop:
                rows = matrices
            elif start <= low and high <= stop:
                rows = {matrix: values[low - start : high - start] for matrix, values in matrices.items()}
            else:
                rows = read(low, high)
            self._compare(block, rows)
            seen[block] = 1
            block = seen.find(0, block + 1, end)

    def _compare(self, block: int, rows: dict[str, np.ndarray]) -> None:
        compute = self.trailer.compute
        for matrix, checksums in self.trailer.checksums.items():
            if compute(rows[matrix]) != checksums[block]:
                first = block * self.trailer.block_rows
                last = first + len(rows[matrix]) - 1
                raise UsageError(
                    f"{self.path} is damaged: rows {first:,} to {last:,} of {matrix!r} are not as they were written; "
                    + ADVICE
                )


def rows_per_block(layout: Layout) -> int:
    """Return the rows of a block of checksums: those that are streamed as one piece, so that no block is read twice."""
    return streamed_block_rows(layout.row_bytes)


def append_trailer(path: Path, layout: Layout, rows: int, offsets: dict, checksums: dict[str, np.ndarray]) -> str:
    """Add the trailer to a file that HDF5 has closed, and let it reach the disk.

    Args:
        checksums: matrix -> the result of its ``RunningChecksums`` with blocks of ``rows_per_block``.

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
            "block_rows": rows_per_block(layout),
            "checksum": WRITTEN_KIND,
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
        UsageError: the trailer, HDF5's metadata or the file's length are not as they were written, or its checksums
            are of an unknown kind.
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
        trailer = _parse(body, digest.hex(), path)
        extents = _extents(trailer.layout, trailer.rows, trailer.offsets)
        if trailer.hdf5_bytes != start or any(low < 0 or high > start for low, high in extents):
            raise UsageError(f"its length is {size} bytes")
    except UnknownChecksum:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: what its end says of it is wrong ({error}); {ADVICE}") from error
    if _digest_outside(descriptor, start, extents) != trailer.outside:
        raise UsageError(f"{path} is damaged: HDF5's metadata are not as they were written; {ADVICE}")
    return trailer


def _parse(body: bytes, digest: str, path: Path) -> Trailer:
    text, _, sums = body.partition(b"\n")
    header = json.loads(text)
    if (kind := header.get("checksum", "crc32")) not in KINDS:
        raise UnknownChecksum(
            f"{path} has checksums of the kind {kind!r}, which this version of fuxictr-me cannot compare (it knows "
            f"{' and '.join(KINDS)}); install a newer version, or build the data set again"
        )
    compute, dtype = KINDS[kind]
    layout, rows, block_rows = Layout.from_json(header["layout"]), header["rows"], header["block_rows"]
    offsets = {matrix: header["offsets"][matrix] for matrix in layout.widths}
    if not all(type(count) is int and count >= 0 for count in (rows, block_rows, *offsets.values())) or not block_rows:
        raise UsageError(f"rows {rows!r}, block_rows {block_rows!r} and offsets {offsets} are no counts")
    values = np.frombuffer(sums, dtype).reshape(len(layout.widths), -(-rows // block_rows))
    checksums = {matrix: of_matrix.tolist() for matrix, of_matrix in zip(layout.widths, values, strict=True)}
    return Trailer(
        digest, layout, rows, offsets, header["hdf5_bytes"], block_rows, compute, checksums, header["outside"]
    )


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
