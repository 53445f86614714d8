"""Predict raw rows with numpy and onnxruntime alone, and print one line per row.

Use ``python predict.py csv < rows.csv`` (with a header) or ``python predict.py < rows.json`` (a JSON object per line).
"""

import csv
import io
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]  # column -> value


def encode(row: Row, field: dict[str, Any], vocabularies: dict[str, dict[str, int]]) -> Any:
    """Return the model's input for a field of a raw row: an id, the ids of a sequence, a number or a vector."""
    value = row[field["column"]]
    value = field["fill"] if value is None or value == "" else value
    if "vocabulary" not in field:
        number = np.array(value, float)
        if number.shape != ((field["dim"],) if "dim" in field else ()) or not np.isfinite(number).all():
            raise ValueError
        return (number - field.get("shift", 0)) / field.get("scale", 1)
    known, oov, size = vocabularies[field["vocabulary"]], field["oov"], field.get("max_len", 0)
    if field["type"] == "categorical":
        token = {"str": str, "int": int, "float": float}[field["dtype"]](value)
        is_rounded = field["dtype"] == "int" and isinstance(value, float) and token != value
        if isinstance(value, (list, dict)) or value != value or token != token or is_rounded:  # NaN != NaN
            raise ValueError
        return known.get(str(token), oov)
    if isinstance(value, list):
        if any(isinstance(item, (list, dict)) for item in value):
            raise ValueError
        value = field["splitter"].join(str(item) for item in value if item is not None)
    ids = [0 if token == field["fill"] else known.get(token, oov) for token in value.split(field["splitter"])]
    return ([0] * size + ids)[-size:] if field["padding"] == "pre" else (ids + [0] * size)[:size]


def encode_rows(
    rows: list[Row], fields: dict[str, Any], vocabularies: dict[str, dict[str, int]]
) -> dict[str, np.ndarray]:
    """Return field -> array for the model. A ValueError names the row, counted from 1, and the column."""
    data = {}
    for name, field in fields.items():
        values, column = [], field["column"]
        for number, row in enumerate(rows, 1):
            if column not in row:
                raise ValueError(f"row {number}: column {column!r} is missing (the row has {', '.join(row)})")
            try:
                values.append(encode(row, field, vocabularies))
            except (TypeError, ValueError, AttributeError, OverflowError):
                kind = "text or a list" if field["type"] == "sequence" else f"of dtype {field['dtype'] or 'float'}"
                kind = f"{field['dim']} numbers" if "dim" in field else kind
                raise ValueError(f"row {number}, column {column!r}: {str(row[column])[:50]!r} is not {kind}") from None
        data[name] = np.array(values, field["input"])
    return data


def read_csv(lines: Iterable[str], sep: str) -> list[Row]:
    """Return the rows of csv with a header. Blank lines at the end are ignored."""
    rows = list(csv.reader(lines, delimiter=sep))
    header = rows.pop(0) if rows else []
    if len(set(header)) < len(header):
        raise ValueError(f"the header has a column twice: {', '.join(header)}")
    while rows and not rows[-1]:
        rows.pop()
    for number, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            raise ValueError(f"row {number} has {len(cells)} values, the header has {len(header)}")
    return [{name: cells[i] for i, name in enumerate(header)} for cells in rows]


def read_json(lines: Iterable[str]) -> list[Row]:
    """Return the rows of a text with one JSON object per line. Blank lines at the end are ignored."""
    rows, text = [], "".join(lines).rstrip()
    for number, line in enumerate(text.split("\n") if text else [], 1):
        try:
            rows.append(dict(json.loads(line).items()))
        except (ValueError, AttributeError, RecursionError):
            raise ValueError(f"row {number} is {line.strip()[:50]!r}, not a JSON object") from None
    return rows


if __name__ == "__main__":
    from onnxruntime import InferenceSession

    fields, known, sep = json.loads(Path(__file__).with_name("vocabulary.json").read_text("utf-8")).values()
    lines = io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", newline="")
    try:
        rows = read_csv(lines, sep) if sys.argv[1:] == ["csv"] else read_json(lines)
        if not rows:
            raise ValueError("standard input has no rows")
        data = encode_rows(rows, fields, known)
    except (ValueError, csv.Error) as error:
        sys.exit(f"predict.py: error: {error}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the reader of a pipe has seen enough
    np.savetxt(sys.stdout, np.hstack(InferenceSession(Path(__file__).with_name("model.onnx")).run(None, data)), "%.9g")
