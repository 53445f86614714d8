"""Raw rows to probabilities with numpy and onnxruntime alone, a line a row.

``python predict.py csv < rows.csv`` (with a header), or ``python predict.py < rows.json`` (a JSON object a line).
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np


def encode(row, field, vocabularies):
    """Return what the model takes for a field of a raw row: an id, the ids of a sequence, a number or a vector."""
    value = row[field["column"]]
    value = field["fill"] if value is None or value == "" else value
    if "vocabulary" not in field:
        number = np.array(value, float)
        if number.shape != ((field["dim"],) if "dim" in field else ()) or not np.isfinite(number).all():
            raise ValueError
        return (number - field.get("shift", 0)) / field.get("scale", 1)
    known, oov, size = vocabularies[field["vocabulary"]], field["oov"], field.get("max_len")
    if field["type"] == "categorical":
        read = {"str": str, "int": int, "float": float}[field["dtype"]](value)
        is_cut = field["dtype"] == "int" and isinstance(value, float) and read != value
        if isinstance(value, (list, dict)) or value != value or read != read or is_cut:  # NaN is not itself
            raise ValueError
        return known.get(str(read), oov)
    if isinstance(value, list):
        if any(isinstance(item, (list, dict)) for item in value):
            raise ValueError
        value = field["splitter"].join(str(item) for item in value if item is not None)
    ids = [0 if token == field["fill"] else known.get(token, oov) for token in value.split(field["splitter"])]
    return ([0] * size + ids)[-size:] if field["padding"] == "pre" else (ids + [0] * size)[:size]


def encode_rows(rows, fields, vocabularies):
    """Return field -> array for the model; a ValueError names the row, counted from 1, and the column."""
    data = {}
    for name, field in fields.items():
        values, column = [], field["column"]
        for number, row in enumerate(rows, 1):
            if column not in row:
                raise ValueError(f"row {number}: column {column!r} is missing (there are {', '.join(row)})")
            try:
                values.append(encode(row, field, vocabularies))
            except (TypeError, ValueError, AttributeError, OverflowError):
                kind = "text or a list" if field["type"] == "sequence" else f"of dtype {field['dtype'] or 'float'}"
                kind = f"{field['dim']} numbers" if "dim" in field else kind
                raise ValueError(f"row {number}, column {column!r}: {str(row[column])[:50]!r} is not {kind}") from None
        data[name] = np.array(values, field["input"])
    return data


def read_csv(lines, sep):
    """Return the rows of csv with a header, name -> text; blank lines at the end do not count."""
    rows = list(csv.reader(lines, delimiter=sep))
    header = rows.pop(0) if rows else []
    if len(set(header)) < len(header):
        raise ValueError(f"the header names a column twice: {', '.join(header)}")
    while rows and not rows[-1]:
        rows.pop()
    for number, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            raise ValueError(f"row {number} has {len(cells)} values, the header has {len(header)}")
    return [{name: cells[i] for i, name in enumerate(header)} for cells in rows]


def read_json(lines):
    """Return the rows of a JSON object a line, name -> value; blank lines at the end do not count."""
    rows, lines = [], "".join(lines).rstrip().split("\n")
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            rows.append(dict(json.loads(line).items()))
        except (ValueError, AttributeError, RecursionError):
            raise ValueError(f"row {number} is {line.strip()[:50]!r}, not a JSON object") from None
    return rows


if __name__ == "__main__":
    from onnxruntime import InferenceSession

    fields, known, sep = json.loads(Path(__file__).with_name("vocabulary.json").read_text("utf-8")).values()
    sys.stdin.reconfigure(encoding="utf-8-sig", newline="")
    try:
        rows = read_csv(sys.stdin, sep) if sys.argv[1:] == ["csv"] else read_json(sys.stdin)
        if not rows:
            raise ValueError("there are no rows on standard input")
        data = encode_rows(rows, fields, known)
    except (ValueError, csv.Error) as error:
        sys.exit(f"predict.py: error: {error}")
    np.savetxt(sys.stdout, np.hstack(InferenceSession(Path(__file__).with_name("model.onnx")).run(None, data)), "%.9g")
