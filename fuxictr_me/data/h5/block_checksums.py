"""Checksums at the end of an H5 file: one per block of rows, and one of all bytes outside the rows.

HDF5 ignores bytes after its own end, so other programs can read the file. The bytes are

    JSON header, a line break, the checksum of each block of each matrix (little-endian), footer

and the footer is ``MAGIC``, the length of what lies between HDF5's end and the footer, and BLAKE2b of that.
The header names the kind of checksum. New files have XXH3 (64 bits), which misses one error in 2⁶⁴ and takes a fifth of
the time of CRC-32. Files whose header names no kind have CRC-32 (uint32).
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

from fuxictr_me.data.column_layout import Layout, Matrices, dtype_of
from fuxictr_me.data.h5.block_sizes import streamed_block_rows
from fuxictr_me.errors import UsageError

MAGIC = b"FXMESUM1"
FOOTER = struct.Struct("<8sQ16s")
ADVICE = "restore the file, or delete the data set and build it again"

KINDS: dict[str, tuple[Callable[..., int], str]] = {  # name in the header -> (checksum of bytes, dtype in the file)
    "crc32": (zlib.crc32, "<u4"),
    "xxh3_64": (xxhash.xxh3_64_intdigest, "<u8"),
}
WRITTEN_KIND = "xxh3_64"


class UnknownChecksumError(UsageError):
    """A file whose checksums are of a kind that this version cannot compute."""


@dataclass(frozen=True)
class Trailer:
    """Content of the end of a file.

    Attributes:
        digest: BLAKE2b of header and checksums, as listed in the manifest.
        layout: positions of the columns.
        rows: number of rows.
        offsets: matrix -> position of its first byte.
        hdf5_bytes: length of the file without the trailer.
        block_rows: rows of a block.
        compute: returns the checksum of a block of rows, C-contiguous.
        checksums: matrix -> the checksum of each block.
        outside: BLAKE2b of HDF5's bytes that belong to no matrix.
    """

    digest: str
    layout: Layout
    rows: int
    offsets: dict[str, int]
    hdf5_bytes: int
    block_rows: int
    compute: Callable[..., int]
    checksums: dict[str, list[int]]
    outside: str


class RunningChecksums:
    """XXH3 of each block of rows of one matrix, which arrive in pieces of any length."""

    def __init__(self, block_rows: int) -> None:
        self.block_rows = block_rows
        self._done: list[int] = []
        self._open, self._open_rows = xxhash.xxh3_64(), 0  # a block of which rows are still missing

    def update(self, values: np.ndarray) -> None:
        """Append rows, (n, width), C-contiguous."""
        size, compute = self.block_rows, xxhash.xxh3_64_intdigest
        at = min(len(values), size - self._open_rows) if self._open_rows else 0
        whole = at + (len(values) - at) // size * size
        self._extend_open_block(values[:at])
        self._done += [compute(values[start : start + size].data) for start in range(at, whole, size)]
        self._extend_open_block(values[whole:])

    def result(self) -> np.ndarray:
        """Return the checksums so far; the last block may be shorter than the others."""
        sums = [*self._done, self._open.intdigest()] if self._open_rows else self._done
        return np.array(sums, KINDS[WRITTEN_KIND][1])

    def _extend_open_block(self, rows: np.ndarray) -> None:
        if len(rows):
            self._open.update(rows.data)
            self._open_rows += len(rows)
        if self._open_rows == self.block_rows:
            self._done.append(self._open.intdigest())
            self._open.reset()
            self._open_rows = 0


class VerifiedBlocks:
    """Checker of rows that were read, which compares each block the first time that one of its rows is read."""

    def __init__(self, path: Path, trailer: Trailer) -> None:
        self.path, self.trailer = path, trailer
        self.forget()

    def forget(self) -> None:
        """Forget which blocks were compared, since the file has changed."""
        self._seen = bytearray(-(-self.trailer.rows // self.trailer.block_rows))  # 1 for blocks that were compared

    def check(self, start: int, stop: int, matrices: Matrices, read: Callable[[int, int], Matrices]) -> None:
        """Compare the blocks of the rows ``start`` to ``stop`` that were not compared yet.

        Args:
            start: first row.
            stop: end of the rows.
            matrices: each matrix of the file -> (stop - start, width), the rows.
            read: (start, stop) -> matrices of other rows, for a block of which ``matrices`` holds a part.

        Raises:
            UsageError: a block has changed since it was written.
        """
        seen, size = self._seen, self.trailer.block_rows
        end = -(-stop // size)
        block = seen.find(0, start // size, end)  # the first block that was not compared, or -1
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

    def _compare(self, block: int, rows: Matrices) -> None:
        compute = self.trailer.compute
        for matrix, checksums in self.trailer.checksums.items():
            if compute(rows[matrix]) != checksums[block]:
                first = block * self.trailer.block_rows
                last = first + len(rows[matrix]) - 1
                raise UsageError(
                    f"{self.path} is damaged: rows {first:,} to {last:,} of {matrix!r} are not as they were written; "
                    + ADVICE
                )


def append_trailer(
    path: Path, layout: Layout, rows: int, offsets: dict[str, int], checksums: dict[str, np.ndarray]
) -> str:
    """Append the trailer to a file that HDF5 has closed, and wait until it is on the disk.

    Args:
        path: the file.
        layout: positions of the columns.
        rows: number of rows.
        offsets: matrix -> position of its first byte.
        checksums: matrix -> result of its ``RunningChecksums`` with blocks of ``streamed_block_rows``.

    Returns:
        The digest for the manifest.
    """
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        header = {
            "hdf5_bytes": size,
            "rows": rows,
            "layout": layout.to_json(),
            "offsets": offsets,
            "block_rows": streamed_block_rows(layout.row_bytes),
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
    """Return whether the file ends with a footer, without checking it."""
    try:
        with open(path, "rb") as file:
            file.seek(-FOOTER.size, os.SEEK_END)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:  # shorter than a footer, or unreadable, which opening it will report
        return False


def read_trailer(descriptor: int, path: Path) -> Trailer | None:
    """Read the trailer, and check it and all bytes outside the matrices. HDF5 parses nothing.

    Args:
        descriptor: of the file, open for reading.
        path: of the file, for messages.

    Returns:
        The trailer, or None if the file does not end with a footer.

    Raises:
        UsageError: the trailer, HDF5's metadata or the file's length have changed since they were written, or the
            checksums are of an unknown kind.
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
    except UnknownChecksumError:
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
        raise UnknownChecksumError(
            f"{path} has checksums of the kind {kind!r}, which this version of fuxictr-me cannot compare (it knows "
            f"{' and '.join(KINDS)}); install a newer version, or build the data set again"
        )
    compute, dtype = KINDS[kind]
    layout, rows, block_rows = Layout.from_json(header["layout"]), header["rows"], header["block_rows"]
    offsets = {matrix: header["offsets"][matrix] for matrix in layout.widths}
    if not all(type(count) is int and count >= 0 for count in (rows, block_rows, *offsets.values())) or not block_rows:
        raise UsageError(f"rows {rows!r}, block_rows {block_rows!r} and offsets {offsets} are no counts")
    values = np.frombuffer(sums, dtype).reshape(len(layout.widths), -(-rows // block_rows))
    checksums = dict(zip(layout.widths, values.tolist(), strict=True))
    return Trailer(
        digest, layout, rows, offsets, header["hdf5_bytes"], block_rows, compute, checksums, header["outside"]
    )


def _extents(layout: Layout, rows: int, offsets: dict[str, int]) -> list[tuple[int, int]]:
    """Return the first byte and the end of each matrix, in the order of the file."""
    sizes = {matrix: rows * width * np.dtype(dtype_of(matrix)).itemsize for matrix, width in layout.widths.items()}
    return sorted((offsets[matrix], offsets[matrix] + size) for matrix, size in sizes.items() if size)


def _digest_outside(descriptor: int, size: int, extents: list[tuple[int, int]]) -> str | None:
    """Return BLAKE2b of the first ``size`` bytes without the matrices, or None if the file is shorter."""
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
