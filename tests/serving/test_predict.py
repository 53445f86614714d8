"""``predict.py`` and the export read raw rows of every form, and refuse invalid ones in one line."""

import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from helpers.command_line import fails
from helpers.run_configs import write_config
from helpers.versions import needs_export

from fuxictr_me import UsageError
from fuxictr_me.data import build_dataset
from fuxictr_me.io.checkpoints import save_state_dict
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.serving import predict
from fuxictr_me.serving.check_vocabulary import check_vocabulary
from fuxictr_me.serving.data_origin import find_origin
from fuxictr_me.serving.export_embeddings import export_run_embeddings
from fuxictr_me.serving.vocabulary import make_vocabulary

pytest.importorskip("onnxruntime", reason="the [serving] extra is not installed")
pytestmark = pytest.mark.usefixtures("own_folder")

KNOWN = {"user": {"ann": 1, "bob": 2, "7": 3}, "age": {"7": 1, "-3": 2}, "size": {"0.5": 1}}
WORDS = {"a": 1, "b": 2, "1": 3, "2.5": 4}


def categorical(name, dtype):
    field = {"type": "categorical", "column": name, "dtype": dtype, "fill": {"str": "", "int": 0, "float": 0.0}[dtype]}
    return {**field, "input": "int64", "vocabulary": name, "oov": 9, "padding_id": 0, "size": 10}


FIELDS = {
    "user": categorical("user", "str"),
    "age": categorical("age", "int"),
    "size": categorical("size", "float"),
    "price": {"type": "numeric", "column": "price", "dtype": "float", "fill": 0.0, "input": "float32", "shift": 1.0},
    "words": {
        **categorical("words", "str"),
        "type": "sequence",
        "splitter": "|",
        "padding": "post",
        "max_len": 3,
    },
    "vector": {"type": "embedding", "column": "vector", "dtype": "float", "fill": None, "input": "float32", "dim": 2},
}
ROW = {"user": "ann", "age": 7, "size": 0.5, "price": 3.5, "words": "a|x|b", "vector": [1, 2]}
CSV = "user,age,size,price,words\n"


@pytest.fixture
def served():
    """Return a folder as ``export`` writes it, without the model, which wrong rows never reach."""
    Path("served").mkdir()
    shutil.copy(predict.__file__, "served/predict.py")

    def write(fields=FIELDS):
        content = {"fields": fields, "vocabularies": {**KNOWN, "words": WORDS}, "sep": ","}
        Path("served/vocabulary.json").write_text(json.dumps(content))

    write()
    return write


def refused(monkeypatch, content, *arguments):
    """Return the one line with which ``predict.py`` ends."""
    content = content if isinstance(content, bytes) else content.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    with pytest.raises(SystemExit) as raised:
        runpy.run_path("served/predict.py", run_name="__main__")
    text = raised.value.code
    assert text.startswith("predict.py: error: ") and "\n" not in text
    return text.removeprefix("predict.py: error: ")


def encode_one(**changed):
    row = {name: value for name, value in (ROW | changed).items() if value is not KeyError}
    return {name: values[0].tolist() for name, values in predict.encode_rows([row], FIELDS, all_known()).items()}


def all_known():
    return {**KNOWN, "words": WORDS}


def test_values_of_every_form_are_encoded():
    expected = {"user": 1, "age": 1, "size": 1, "price": 2.5, "words": [1, 9, 2], "vector": [1.0, 2.0]}
    assert encode_one() == expected
    assert encode_one(user=None)["user"] == 9 and encode_one(user=7)["user"] == 3
    assert encode_one(age="007")["age"] == 1 and encode_one(age=7.0)["age"] == 1 and encode_one(age="")["age"] == 9
    assert encode_one(price="1e1")["price"] == 9.0 and encode_one(price=None)["price"] == -1.0
    assert encode_one(words=["b", "a"])["words"] == [2, 1, 0] and encode_one(words=["a|b", None])["words"] == [1, 2, 0]
    assert encode_one(words=[1, 2.5])["words"] == [3, 4, 0] and encode_one(words=[])["words"] == [0, 0, 0]
    assert encode_one(words=None)["words"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"age": "abc"}, "column 'age': 'abc' is not of dtype int"),
        ({"age": 7.5}, "column 'age': '7.5' is not of dtype int"),
        ({"age": [7]}, "column 'age': '[7]' is not of dtype int"),
        ({"size": "nan"}, "column 'size': 'nan' is not of dtype float"),
        ({"user": float("nan")}, "column 'user': 'nan' is not of dtype str"),
        ({"user": {"a": 1}}, "column 'user': \"{'a': 1}\" is not of dtype str"),
        ({"user": ["ann"]}, "column 'user': \"['ann']\" is not of dtype str"),
        ({"price": "NaN"}, "column 'price': 'NaN' is not of dtype float"),
        ({"price": float("inf")}, "column 'price': 'inf' is not of dtype float"),
        ({"price": "dear"}, "column 'price': 'dear' is not of dtype float"),
        ({"price": [1.0]}, "column 'price': '[1.0]' is not of dtype float"),
        ({"words": 7}, "column 'words': '7' is not text or a list"),
        ({"words": [["a"]]}, "column 'words': \"[['a']]\" is not text or a list"),
        ({"vector": [1, 2, 3]}, "column 'vector': '[1, 2, 3]' is not 2 numbers"),
        ({"vector": None}, "column 'vector': 'None' is not 2 numbers"),
        ({"vector": [1, None]}, "column 'vector': '[1, None]' is not 2 numbers"),
        ({"price": KeyError}, "column 'price' is missing (the row has user, age, size, words, vector)"),
    ],
)
def test_invalid_values_are_named(changed, message):
    row = {name: value for name, value in (ROW | changed).items() if value is not KeyError}
    with pytest.raises(ValueError, match=r"^row 2") as raised:
        predict.encode_rows([ROW, row, ROW], FIELDS, all_known())
    assert str(raised.value).removeprefix("row 2").lstrip(",: ") == message


def test_invalid_inputs_are_reported_in_one_line(served, monkeypatch):
    row = json.dumps(ROW)
    assert refused(monkeypatch, "") == "standard input has no rows"
    assert refused(monkeypatch, "\n\n") == "standard input has no rows"
    assert refused(monkeypatch, f"{row}\n\n{row}\n") == "row 2 is '', not a JSON object"
    assert refused(monkeypatch, f"{row}\n[1]\n") == "row 2 is '[1]', not a JSON object"
    assert refused(monkeypatch, f"{row}\n{row[:-9]}\n").startswith('row 2 is \'{"user": "ann"')
    assert refused(monkeypatch, row.replace("3.5", "NaN")) == "row 1, column 'price': 'nan' is not of dtype float"
    served({name: field for name, field in FIELDS.items() if name != "vector"})
    assert refused(monkeypatch, "", "csv") == "standard input has no rows"
    assert refused(monkeypatch, CSV, "csv") == "standard input has no rows"
    good = "ann,7,0.5,1,a\n"
    assert refused(monkeypatch, f"{CSV}{good}\n{good}", "csv") == "row 2 has 0 values, the header has 5"
    assert refused(monkeypatch, f"{CSV}{good}ann,7\n", "csv") == "row 2 has 2 values, the header has 5"
    assert refused(monkeypatch, f"{CSV}{good}ann,x,0.5,1,a\n", "csv") == "row 2, column 'age': 'x' is not of dtype int"
    assert refused(monkeypatch, "user,age\nann,7", "csv").startswith("row 1: column 'size' is missing (the row has")
    assert refused(monkeypatch, f"user,{CSV}", "csv").startswith("the header has a column twice: user, user")
    assert "can't decode byte 0xff" in refused(monkeypatch, CSV.encode() + b"\xff", "csv")


def test_a_byte_order_mark_and_blank_lines_at_the_end_are_ignored(served, monkeypatch):
    """The rows are encoded, and only the model is missing."""
    import onnxruntime

    seen = []

    class Session:
        def __init__(self, *_):
            pass

        def run(self, _, data):
            seen.append({name: values.tolist() for name, values in data.items()})
            return [np.zeros((len(data["user"]), 1))]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    served({name: field for name, field in FIELDS.items() if name != "vector"})
    for content, arguments in (
        (f"\ufeff{CSV}ann,7,0.5,1,a|b\r\n\r\n", ["csv"]),
        ("\ufeff" + json.dumps(ROW | {"price": 1, "words": ["a", "b"]}) + "\n\n \n", []),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode()), encoding="ascii"))
        monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
        runpy.run_path("served/predict.py", run_name="__main__")
    assert seen == [{"user": [1], "age": [1], "size": [1], "price": [0.0], "words": [[1, 2, 0]]}] * 2


# --- the export ------------------------------------------------------------------------------------------


def write_shop(columns, raw, data_format="csv"):
    data = {f"{split}_data": raw.format(split) for split in ("train", "valid", "test")}
    label = {"name": "label", "dtype": "float"}
    settings = {"data_root": "./data/", "data_format": data_format, "feature_cols": columns, "label_col": label, **data}
    config = write_config({"dataset_id": "tiny_flights"}, settings)
    build_dataset({**settings, "dataset_id": "tiny_flights"})
    Path("any.model").touch()
    return find_run("mine", config, "any.model")


def exported(run):
    """Return the result of comparing raw with built rows."""
    origin = find_origin(run)
    return check_vocabulary(run.feature_map, origin, make_vocabulary(run.feature_map, origin))


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_raw_rows_after_a_byte_order_mark_are_read(ending):
    import gzip

    Path("raw").mkdir()
    text = "\ufeffuser,label\nann,1\nbob,0\nann,0\n"
    text = text.replace(",", "\t") if ending == "tsv" else text
    for split in ("train", "valid", "test"):
        content = text.encode()
        Path(f"raw/{split}.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    column = {"name": "user", "active": True, "dtype": "str", "type": "categorical"}
    assert exported(write_shop([column], f"raw/{{}}.{ending}")).startswith("checked: 3 raw rows of the test split")


def test_list_columns_of_parquet_are_read():
    Path("raw").mkdir()
    for split in ("train", "valid", "test"):
        frame = {"words": [["a", "b"], ["b"], ["c"] * 5], "numbers": [[1, 2], [30], [2]], "label": [0, 1, 0]}
        pl.DataFrame(frame).write_parquet(f"raw/{split}.parquet")
    more = {"active": True, "dtype": "str", "type": "sequence", "max_len": 3, "fill_na": None}
    columns = [{"name": name, **more} for name in ("words", "numbers")]
    run = write_shop(columns, "raw/{}.parquet", "parquet")
    assert exported(run).startswith("checked: 3 raw rows of the test split")
    known = make_vocabulary(run.feature_map, find_origin(run))
    assert set(known["vocabularies"]["numbers"]) == {"__PAD__", "__OOV__", "1", "2", "30"}


@needs_export
def test_damaged_checkpoints_are_not_exported(capsys):
    Path("raw").mkdir()
    for split in ("train", "valid", "test"):
        Path(f"raw/{split}.csv").write_text("user,label\nann,1\nbob,0\n")
    column = {"name": "user", "active": True, "dtype": "str", "type": "categorical"}
    write_shop([column], "raw/{}.csv")
    torch.save({0: torch.zeros(2), "a": torch.zeros(2)}, "numbers.model")
    save_state_dict({"fc.weight": torch.tensor([1.0, float("nan"), float("inf")])}, "nan.model")
    torch.save({"epoch": 3}, "other.model")
    export = ["export", "--config", "config", "--expid", "mine", "--out", "out", "--format", "pt2", "--checkpoint"]
    for name, named in (("numbers", "0"), ("nan", "'fc.weight'"), ("other", "'epoch'")):
        line = fails(capsys, *export, f"{name}.model")
        assert line.startswith(f"{name}.model") and named in line and ("NaN" in line) == (name == "nan")
    with pytest.raises(UsageError, match=r"nan.model: .*'fc.weight' .*NaN"):
        export_run_embeddings("mine", "config", "out", checkpoint="nan.model")
    assert not Path("out").exists()
