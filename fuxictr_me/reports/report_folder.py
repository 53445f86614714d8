"""Write the folder of a report atomically. An earlier report is replaced; files that no report wrote are kept."""

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fuxictr_me import __version__
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import atomic_folder

PACKAGE = "fuxictr_me"
MADE_BY = f"{PACKAGE} {__version__}"
REPORT = "report.json"  # distinguishes a report from other folders, and lists its files


def check_report_folder(folder: Path, kind: str, key: str) -> None:
    """Refuse to write a report in the place of something else.

    Args:
        folder: may be missing or empty.
        kind: of the report, e.g. ``collapse``.
        key: that ``report.json`` of such a report has.

    Raises:
        UsageError: ``folder`` exists and holds no report of this kind.
    """
    content = _read_report_json(folder)
    is_report = key in content and str(content.get("made_by")).startswith(PACKAGE)
    is_empty = folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    if folder.exists() and not is_empty and (folder.is_symlink() or not is_report):
        raise UsageError(f"{folder} exists and is not a {kind} report: choose another folder with --out, or delete it")


@contextlib.contextmanager
def new_report_folder(folder: Path, unlisted: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` when the block ends without an error.

    Files of an earlier report that the new one does not have are deleted.

    Args:
        folder: checked by ``check_report_folder``.
        unlisted: patterns of the files that older versions wrote without listing them in ``report.json``.
    """
    earlier = _find_files_of_report(folder, unlisted)
    with atomic_folder(folder, replace=True) as built:
        yield built
        written = _list_files(built)
    for name in earlier - written:
        (folder / name).unlink()


def write_report_json(folder: Path, content: Mapping[str, object]) -> None:
    """Write ``report.json``: ``content``, who made it, and the list of all files of the report. Call it last."""
    files = [*sorted(_list_files(folder)), REPORT]
    content = {"made_by": MADE_BY, **content, "files": files}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str] | None = None) -> None:
    """Write rows as csv; ``columns`` are the keys of the first row if None, and other keys are left out."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, columns or list(rows[0] if rows else ()), lineterminator="\n", extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)


def _list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _find_files_of_report(folder: Path, unlisted: Sequence[str]) -> set[str]:
    """Return the files that an earlier report wrote; all others, such as notes, are the user's."""
    listed = _read_report_json(folder).get("files")
    names = {name for name in _list_files(folder) if not (folder / name).is_symlink()}
    if isinstance(listed, list):
        return {name for name in names if name in listed}
    return {name for name in names if any(Path(name).match(pattern) for pattern in unlisted)}


def _read_report_json(folder: Path) -> dict:
    try:
        content = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
