"""Check that every row of a csv file has as many fields as its header; polars fills short rows and cuts long ones."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fuxictr_me.errors import UsageError

BLOCK = 1 << 16  # bytes that are counted together
COUNTED_ROW_BY_ROW = 1 << 22  # bytes: below this, a short and a long row cannot balance each other
NEWLINE, QUOTE = ord("\n"), ord('"')


def read_header(file: Path, sep: str) -> list[str]:
    """Return the column names of a csv file.

    Raises:
        UsageError: an empty file, one that is not UTF-8 text, or a name that occurs twice.
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


def check_whole_rows(file: Path, sep: str, fields: int) -> int | None:
    """Refuse a csv file with rows of more or fewer fields than its header, or with NUL bytes.

    Separators and newlines are counted in blocks of bytes, which costs a small part of reading the file. Only a file in
    which they do not add up is read once more, to name the rows. Blank lines at the end are no rows, unless the header
    has one field, whose empty values they are; polars takes them for rows.

    Args:
        file: csv, or csv compressed by gzip.
        sep: one character.
        fields: columns of the header.

    Returns:
        The number of rows below the header if blank lines follow them, else None: all rows are to be read.

    Raises:
        UsageError: with the number of such rows, and the first.
    """
    if len(sep.encode()) != 1:
        return None  # polars refuses it
    with open_bytes(file) as stream:
        counted = _count_whole_lines(file, stream, ord(sep), fields)
    if counted is None:
        raise UsageError(_name_bad_rows(file, sep, fields))
    lines, blank = counted
    return lines - 1 if blank and fields > 1 else None


def open_bytes(file: Path) -> BinaryIO:
    """Open a raw file for reading, decompressed."""
    return gzip.open(file) if Path(file).suffix.lower() == ".gz" else open(file, "rb")


def _count_whole_lines(file: Path, stream: BinaryIO, separator: int, fields: int) -> tuple[int, int] | None:
    """Return the number of lines, header included, and of blank lines behind them; None if some are not whole."""
    head, more = stream.read(COUNTED_ROW_BY_ROW).lstrip(b"\r\n"), stream.read(BLOCK)
    if not more:
        _refuse_nul(file, head)
        return _count_each_line(head, separator, fields)
    separators = inside = trailing = 0  # trailing: newlines behind the last byte that is none, held back
    newlines, block, has_quotes = 0, head + more, False
    while block:
        _refuse_nul(file, block)
        text = block.rstrip(b"\r\n")
        if text:
            newlines += 0 if inside else trailing
            has_quotes = has_quotes or b'"' in text
            found, inside = _specials(text, separator, inside) if has_quotes else (np.frombuffer(text, np.uint8), 0)
            separators += np.count_nonzero(found == separator)
            newlines += np.count_nonzero(found == NEWLINE)
            after_last_newline = text[text.rfind(b"\n") + 1 :].count(separator)
            if not has_quotes and b"\n" in text and separators - after_last_newline != newlines * (fields - 1):
                return None
            trailing = 0
        trailing += block.count(b"\n", len(text))
        block = stream.read(BLOCK)
    lines = newlines + 1
    return (lines, max(trailing - 1, 0)) if not inside and separators == lines * (fields - 1) else None


def _count_each_line(data: bytes, separator: int, fields: int) -> tuple[int, int] | None:
    """Do what ``_count_whole_lines`` does, and compare the fields of each line."""
    text = data.rstrip(b"\r\n")
    found, inside = _specials(text, separator, 0)
    ends = np.append(np.flatnonzero(found == NEWLINE), len(found))
    is_whole = not text or (not inside and bool((np.diff(ends, prepend=-1) == fields).all()))
    return (len(ends), max(data.count(b"\n", len(text)) - 1, 0)) if is_whole else None


def _specials(block: bytes, separator: int, inside: int) -> tuple[np.ndarray, int]:
    """Return the separators and newlines outside quotes, in order, and whether the block ends inside quotes."""
    data = np.frombuffer(block, np.uint8)
    special = (data == separator) | (data == NEWLINE)
    if inside or b'"' in block:
        parity = np.cumsum(data == QUOTE, dtype=np.uint8) + np.uint8(inside) & 1
        special &= parity == 0
        inside = int(parity[-1])
    return data[special], inside


def _refuse_nul(file: Path, block: bytes) -> None:
    if b"\0" in block:
        raise UsageError(f"{file} holds NUL bytes: it is damaged, or not UTF-8 text")


def _name_bad_rows(file: Path, sep: str, fields: int) -> str:
    bad, first, blank = 0, None, []  # blank: numbers of rows that may be blank lines at the end
    try:
        rows = _rows(file, sep)
        next(row for row in rows if row)  # the header
        for number, row in enumerate(rows, 1):
            if not row:
                blank += [number] * (fields > 1)
                continue
            wrong = [(of_blank, 0) for of_blank in blank] + [(number, len(row))] * (len(row) != fields)
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
