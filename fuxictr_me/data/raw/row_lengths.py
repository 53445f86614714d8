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


def check_row_lengths(file: Path, sep: str, fields: int) -> int | None:
    """Refuse a csv file with rows of more or fewer fields than its header, or with NUL bytes.

    Separators and newlines are counted in blocks of bytes, which costs little compared with reading the file. Only if
    the counts do not match is the file read again, to name the rows. Blank lines at the end are not rows, although
    polars reads them as rows. If the header has one field, each blank line is a row whose value is missing.

    Args:
        file: csv, possibly compressed with gzip.
        sep: one character.
        fields: number of columns in the header.

    Returns:
        The number of rows below the header if blank lines follow them; otherwise None, and all rows are to be read.

    Raises:
        UsageError: names the number of such rows and the first one.
    """
    if len(sep.encode()) != 1:
        return None  # polars refuses such a separator
    with open_bytes(file) as stream:
        counts = _count_lines(file, stream, ord(sep), fields)
    if counts is None:
        raise UsageError(_name_bad_rows(file, sep, fields))
    lines, blank = counts
    return lines - 1 if blank and fields > 1 else None


def open_bytes(file: Path) -> BinaryIO:
    """Open a raw file for reading, decompressed."""
    return cast(BinaryIO, gzip.open(file)) if Path(file).suffix.lower() == ".gz" else open(file, "rb")


def _count_lines(file: Path, stream: BinaryIO, separator: int, fields: int) -> tuple[int, int] | None:
    """Return the number of lines, including the header, and of the blank lines after them.

    Returns:
        None if some lines do not have ``fields`` fields.
    """
    head, more = stream.read(COUNTED_ROW_BY_ROW).lstrip(b"\r\n"), stream.read(BLOCK)
    if not more:
        _refuse_nul(file, head)
        return _count_lines_one_by_one(head, separator, fields)
    separators = newlines = is_quoted = 0
    trailing = 0  # newlines since the last text; they count only if more text follows
    block, has_quotes = head + more, False
    while block:
        _refuse_nul(file, block)
        text = block.rstrip(b"\r\n")
        if text:
            newlines += 0 if is_quoted else trailing
            has_quotes = has_quotes or b'"' in text
            marks, is_quoted = (
                _unquoted(text, separator, is_quoted) if has_quotes else (np.frombuffer(text, np.uint8), 0)
            )
            separators += np.count_nonzero(marks == separator)
            newlines += np.count_nonzero(marks == NEWLINE)
            after_last_newline = text[text.rfind(b"\n") + 1 :].count(separator)
            if not has_quotes and b"\n" in text and separators - after_last_newline != newlines * (fields - 1):
                return None
            trailing = 0
        trailing += block.count(b"\n", len(text))
        block = stream.read(BLOCK)
    lines = newlines + 1
    return (lines, max(trailing - 1, 0)) if not is_quoted and separators == lines * (fields - 1) else None


def _count_lines_one_by_one(data: bytes, separator: int, fields: int) -> tuple[int, int] | None:
    """Return what ``_count_lines`` returns, after comparing the number of fields of each line."""
    text = data.rstrip(b"\r\n")
    marks, is_quoted = _unquoted(text, separator, 0)
    ends = np.append(np.flatnonzero(marks == NEWLINE), len(marks))
    is_whole = not text or (not is_quoted and bool((np.diff(ends, prepend=-1) == fields).all()))
    return (len(ends), max(data.count(b"\n", len(text)) - 1, 0)) if is_whole else None


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
    blank: list[int] = []  # numbers of rows that may be the blank lines at the end
    try:
        rows = _rows(file, sep)
        next(row for row in rows if row)  # the header
        for number, row in enumerate(rows, 1):
            if not row:
                blank += [number] * (fields > 1)
                continue
            wrong = [(blank_row, 0) for blank_row in blank] + [(number, len(row))] * (len(row) != fields)
            if wrong:
                bad += len(wrong)
                first = first or "row {} with {}".format(*wrong[0])
            blank = []
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
