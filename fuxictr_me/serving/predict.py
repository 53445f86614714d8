"""Raw rows to probabilities with numpy and onnxruntime alone, a line a row.

``python predict.py csv < rows.csv`` (with a header), or ``python predict.py < rows.json`` (a JSON object a line).
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np


def encode(row, field, vocabularies):
    """What the model takes for a field of a raw row: an id, the ids of a sequence, a number or a vector."""
    value = field["fill"] if row[field["column"]] in (None, "") else row[field["column"]]
    if "vocabulary" not in field:
        return (np.array(value, float) - field.get("shift", 0)) / field.get("scale", 1)
    known, oov, size = vocabularies[field["vocabulary"]], field["oov"], field.get("max_len")
    if field["type"] == "categorical":
        return known.get(str({"str": str, "int": int, "float": float}[field["dtype"]](value)), oov)
    ids = [0 if token == field["fill"] else known.get(token, oov) for token in value.split(field["splitter"])]
    return ([0] * size + ids)[-size:] if field["padding"] == "pre" else (ids + [0] * size)[:size]


if __name__ == "__main__":
    from onnxruntime import InferenceSession

    fields, known, sep = json.loads(Path(__file__).with_name("vocabulary.json").read_text("utf-8")).values()
    rows = list(csv.DictReader(sys.stdin, delimiter=sep) if sys.argv[1:] == ["csv"] else map(json.loads, sys.stdin))
    data = {name: np.array([encode(row, f, known) for row in rows], f["input"]) for name, f in fields.items()}
    np.savetxt(sys.stdout, np.hstack(InferenceSession(Path(__file__).with_name("model.onnx")).run(None, data)), "%.9g")
