"""Supported endings of raw data files."""

from pathlib import Path

CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET = (".parquet", ".parq", ".pq")
ENDINGS = ".csv, .tsv, .txt (each also with .gz) and .parquet (or .parq, .pq)"


def ending(path: Path) -> str | None:
    """Return the ending that tells the format of a raw file, in lower case; None if it is not supported."""
    name = path.name.lower()
    return next((known for known in (*CSV, *PARQUET) if name.endswith(known)), None)
