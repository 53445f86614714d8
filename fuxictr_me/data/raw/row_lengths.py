"""Check that csv rows are as long as their header, since polars fills short rows and cuts long ones."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from fuxictr_me.errors import UsageError

BLOCK = 1 << 16  # bytes in which separators are counted together
COUNTED_ROW_BY_ROW = 1 << 22  # bytes of a smaller file are checked row by row, so that no two errors cancel out
NEWLINE, QUOTE = ord("\n"), ord('"')


def read_header(file: Path, sep: str) -> list[str]:
    """Return the column names of a csv file.

    Raises:
        UsageError: the file is empty or is not UTF-8 text, or a name occurs twice.
    """
    try:
        names = next((row for row in _rows(file, sep) if row), None)
    except csv.Error as error:
        raise UsageError(f"{file} is not csv with a line for each row: {error}") from error
    if names is None:
        raise UsageError(f"{file} is empty: a csv file starts with a line of column names")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{file}: the header names {', '.join(map(repr, repeated))} more than once")
    return names


def check_row_lengths(file: Path, sep: str, fields: int) -> None:
    """Refuse a csv file with rows of more or fewer fields than its header, or with NUL bytes.

    Separators and newlines are counted in blocks of bytes, which costs little compared with reading the file. Only if
    the counts do not match is the file read again, to name the rows.

    Args:
        file: csv, possibly compressed with gzip.
        sep: one character.
        fields: number of columns in the header.

    Raises:
        UsageError: names the number of such rows and the first one.
    """
    if len(sep.encode()) != 1:
        return  # polars refuses such a separator
    with open_bytes(file) as stream:
        has_whole_rows = _has_whole_rows(file, stream, ord(sep), fields)
    if not has_whole_rows:
        raise UsageError(_name_bad_rows(file, sep, fields))


def open_bytes(file: Path) -> BinaryIO:
    """Open a raw file for reading, decompressed."""
    return cast(BinaryIO, gzip.open(file)) if Path(file).suffix.lower() == ".gz" else open(file, "rb")


def _has_whole_rows(file: Path, stream: BinaryIO, separator: int, fields: int) -> bool:
    head, more = stream.read(COUNTED_ROW_BY_ROW).lstrip(b"\r\n"), stream.read(BLOCK)
    if not more:
        _refuse_nul(file, head)
        return _has_whole_lines(head, separator, fields)
    separators = newlines = is_quoted = 0
    block, has_quotes = head + more, False
    while block:
        _refuse_nul(file, block)
        has_quotes = has_quotes or b'"' in block
        marks, is_quoted = _unquoted(block, separator, is_quoted) if has_quotes else (np.frombuffer(block, np.uint8), 0)
        separators += np.count_nonzero(marks == separator)
        newlines += np.count_nonzero(marks == NEWLINE)
        after_last_newline = block[block.rfind(b"\n") + 1 :].count(separator)
        if not has_quotes and separators - after_last_newline != newlines * (fields - 1):
            return False
        ends_in_newline, block = block.endswith(b"\n"), stream.read(BLOCK)
    rows = newlines + (not ends_in_newline)
    return not is_quoted and separators == rows * (fields - 1)


def _has_whole_lines(data: bytes, separator: int, fields: int) -> bool:
    """Return whether each line, also one without a newline at the end, has ``fields`` fields."""
    marks, is_quoted = _unquoted(data, separator, 0)
    ends = np.flatnonzero(marks == NEWLINE)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(marks))
    return not is_quoted and bool((np.diff(ends, prepend=-1) == fields).all())


def _unquoted(block: bytes, separator: int, is_quoted: int) -> tuple[np.ndarray, int]:
    """Return the separators and newlines outside quotes, in order, and 1 if the block ends within quotes, else 0."""
    data = np.frombuffer(block, np.uint8)
    is_mark = (data == separator) | (data == NEWLINE)
    if is_quoted or b'"' in block:
        parity = np.cumsum(data == QUOTE, dtype=np.uint8) + np.uint8(is_quoted) & 1
        is_mark &= parity == 0
        is_quoted = int(parity[-1])
    return data[is_mark], is_quoted


def _refuse_nul(file: Path, block: bytes) -> None:
    if b"\0" in block:
        raise UsageError(f"{file} holds NUL bytes: it is damaged, or not UTF-8 text")


def _name_bad_rows(file: Path, sep: str, fields: int) -> str:
    bad, first = 0, ""
    try:
        rows = _rows(file, sep)
        next(row for row in rows if row)  # the header
        for number, row in enumerate(rows, 1):
            if len(row) != fields and (row or fields > 1):
                bad += 1
                first = first or f"row {number} with {len(row)}"
    except csv.Error:
        bad = 0
    if not bad:
        return (
            f"{file}: rows, separators and quotes do not fit a header of {fields} fields; "
            'a value with a separator or a quote in it must be quoted, and the quote doubled ("")'
        )
    has = "row does" if bad == 1 else "rows do"
    return f"{file}: {bad} {has} not have the {fields} fields of the header; the first is {first} (was the file cut?)"


def _rows(file: Path, sep: str) -> Iterator[list[str]]:
    with open_bytes(file) as stream:
        lines = (line.decode("utf-8-sig" if i == 0 else "utf-8") for i, line in enumerate(stream))
        try:
            yield from csv.reader(lines, delimiter=sep)
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 text: {error}") from error
