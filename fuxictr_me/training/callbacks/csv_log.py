"""A csv file to which a callback adds rows during training."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuxictr_me.errors import RunError
from fuxictr_me.io.atomic import append_atomically, write_atomically


class CsvLog:
    """Replaces the file of an earlier run by an empty table, and adds rows to it.

    Args:
        path: of the file. Its folder is created.
        columns: names of the columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_bytes(_csv_block([columns])))
        self._inode = path.stat().st_ino

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, all or none of them. Keys that are no columns are left out.

        Raises:
            RunError: another run has replaced the file.
        """
        if self.path.stat().st_ino != self._inode:
            raise RunError(f"another run has replaced {self.path}: rows of two runs do not go into one file")
        append_atomically(self.path, _csv_block([[row[column] for column in self.columns] for row in rows]))


def _csv_block(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
