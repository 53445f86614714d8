"""Exported models predict what the eager models do, and raw rows get the ids of the built data set."""

import ast
import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from fuxictr.pytorch.layers import InnerProductInteraction
from helpers.command_line import fails, run_cli
from helpers.families import build
from helpers.feature_maps import categorical, make_feature_map, sequence, write_pretrained
from helpers.logs import close_logs
from helpers.paths import ROOT
from helpers.run_configs import write_config
from helpers.toy_models import DIM, FIELDS, Fused, Tasks, Tower, Wide, make
from helpers.versions import needs_export
from torch import nn

from fuxictr_me import DNN_ME, PNN_ME, DCNv2_ME, FinalMLP_ME, H5DataLoader, Mixed_ME, NFwFM_ME, UsageError, xDeepFM_ME
from fuxictr_me.commands.main import main
from fuxictr_me.data import build_dataset, build_h5
from fuxictr_me.data.manifest import read_manifest, write_manifest
from fuxictr_me.io.checkpoints import save_state_dict
from fuxictr_me.runs.finished_run import find_run, load_trained
from fuxictr_me.serving import compare_predictions, predict
from fuxictr_me.serving import write_model as model_formats
from fuxictr_me.serving.check_vocabulary import check_vocabulary
from fuxictr_me.serving.data_origin import RawColumn, find_origin, find_raw_columns
from fuxictr_me.serving.masked_select import find_positions
from fuxictr_me.serving.vocabulary import make_vocabulary
from fuxictr_me.serving.write_model import write_model

onnxruntime = pytest.importorskip("onnxruntime", reason="the [serving] extra is not installed")
safetensors = pytest.importorskip("safetensors", reason="the [serving] extra is not installed")
pytest.importorskip("onnxscript", reason="the [serving] extra is not installed")
pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = {"user": categorical(11), "history": sequence(5, 3), "price": {"source": "", "type": "numeric"}}
EQUAL_DIMS = {
    "user": categorical(11),
    "place": categorical(5),
    "item": categorical(13),
    "last_item": categorical(13, share_embedding="item"),
    "history": sequence(13, 4, share_embedding="item"),
    "price": {"source": "", "type": "numeric"},
}


# --- the models


def every_kind():
    """Return a feature map with every kind of field that FuxiCTR has, with unequal dimensions."""
    folder = Path.cwd()
    write_pretrained(folder, 9, 6)
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 6, "oov_idx": 8}
    features = {
        **EQUAL_DIMS,
        "summed": sequence(13, 4, feature_encoder="layers.MaskedSumPooling()"),
        "vector": {"source": "", "type": "embedding", "pretrain_dim": 5, "embedding_dim": 5},
        "pre": categorical(9, freeze_emb=False, pretrain_usage="init", **pretrained),
        "frozen": categorical(9, freeze_emb=True, pretrain_usage="concat", **pretrained),
        "session": {"type": "meta"},
    }
    return make_feature_map(features, folder, embedding_dim=4)


def rows_of(feature_map, rows, seed):
    """Return rows with every id from padding to unseen values, which is the last; every fourth sequence is empty."""
    random, batch = np.random.default_rng(seed), {}
    for field, spec in feature_map.features.items():
        if spec["type"] == "numeric":
            batch[field] = random.normal(size=rows).astype(np.float32)
        elif spec["type"] == "embedding":
            batch[field] = random.normal(size=(rows, spec["pretrain_dim"])).astype(np.float32)
        elif spec["type"] == "categorical":
            batch[field] = random.integers(spec["vocab_size"], size=rows)
            batch[field][-1] = spec["vocab_size"] - 1
        elif spec["type"] == "sequence":
            batch[field] = random.integers(spec["vocab_size"], size=(rows, spec["max_len"]))
            batch[field][::4] = 0
    return batch


def eager(model, feature_map):
    """Return the predictions of a model for 1 and 1,000 rows: [(rows, name -> array)]."""
    answers = []
    for rows in (1, 1000):
        batch = rows_of(feature_map, rows, seed=rows)
        with torch.no_grad():
            returned = model.eval()({field: torch.from_numpy(values) for field, values in batch.items()})
        answers.append((batch, {name: y.numpy() for name, y in returned.items() if name.endswith("pred")}))
    return answers


def written(model, feature_map, path, outputs=("y_pred",)):
    """Write a model to a file, and return what it predicted before."""
    expected = eager(model, feature_map)
    assert expected[1][1][outputs[0]].std() > 1e-4  # constant predictions would agree with anything
    write_model(model, SimpleNamespace(feature_map=feature_map), path, list(outputs), {})
    return expected


def agree(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def runs_in_onnxruntime(model, feature_map, outputs=("y_pred",)):
    expected = written(model, feature_map, Path("model.onnx"), outputs)
    session = onnxruntime.InferenceSession("model.onnx")
    assert [field.name for field in session.get_inputs()] == list(expected[0][0])
    assert all(field.shape[0] == "batch" for field in session.get_inputs())
    for batch, answers in expected:
        for name, found in zip(outputs, session.run(list(outputs), batch), strict=True):
            agree(found, answers[name])
    return session


EVERY_MODEL = {
    DNN_ME: {"aggregation": "ensemble", "hidden_activations": "Dice"},
    PNN_ME: {"aggregation": "elementwise_gated"},
    NFwFM_ME: {"aggregation": "concat"},
    xDeepFM_ME: {"use_linear_term": True, "dnn_hidden_units": []},
    DCNv2_ME: {"embedding_dim": [3, 5], "num_sets": 2, "num_cross_layers": 1, "stacked_dnn_hidden_units": [5]},
    FinalMLP_ME: {"num_heads": 1},
    Mixed_ME: {
        "interactions": ["DNN", "PNN", "NFwFM", "xDeepFM", "DCNv2", "FinalMLP"],
        "num_sets": None,
        "aggregation": "gated",
        "stream_hidden_units": [4],
        "num_cross_layers": 1,
    },
}


FAST = [
    (DCNv2_ME, {}),
    (DNN_ME, {"aggregation": "confidence"}),
    (Mixed_ME, {"interactions": ["PNN", "xDeepFM", "FinalMLP"]}),
]  # what differs most
ALL = [pytest.param(model_class, {}, marks=pytest.mark.slow) for model_class in EVERY_MODEL if model_class != DCNv2_ME]


@needs_export
@pytest.mark.parametrize("model_class, settings", [*FAST, *ALL])
def test_onnx_predicts_what_the_model_does(model_class, settings):
    feature_map = every_kind() if model_class is DCNv2_ME else make_feature_map(SMALL, embedding_dim=4)
    model = build(model_class, feature_map, **{"num_sets": 2, **EVERY_MODEL[model_class], **settings})
    runs_in_onnxruntime(model, feature_map)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_class", "settings"),
    [
        (DCNv2_ME, {"use_low_rank_mixture": True, "model_structure": "stacked_parallel"}),
        (DCNv2_ME, {"field_weights": True, "shared_interaction": True, "fused_embedding": False}),
        (DCNv2_ME, {"num_sets": 1, "model_structure": "crossnet_only"}),
        (DNN_ME, {"aggregation": "weighted", "nonlinear_projection": False, "hidden_activations": ["PReLU", "Tanh"]}),
        (FinalMLP_ME, {"num_sets": 3}),
        (FinalMLP_ME, {"use_fs": True, "fs1_context": ["user"], "fs_hidden_units": [3], "aggregation": "sum"}),
        (PNN_ME, {"concat_embeddings": False, "num_sets": 5}),
        (xDeepFM_ME, {"cin_activation": "Tanh"}),
        (
            Mixed_ME,
            {"interactions": ["DNN", "PNN", "xDeepFM", "NFwFM"], "num_sets": None, "embedding_dim": [4, 3, 4, 5]},
        ),
    ],
)
def test_onnx_predicts_what_the_model_does_with_more_options(model_class, settings):
    feature_map = make_feature_map(EQUAL_DIMS, embedding_dim=4)
    runs_in_onnxruntime(build(model_class, feature_map, **settings), feature_map)


@needs_export
@pytest.mark.parametrize("model_class", [DCNv2_ME, NFwFM_ME])
def test_pt2_predicts_what_the_model_does(model_class):
    feature_map = every_kind() if model_class is DCNv2_ME else make_feature_map(SMALL, embedding_dim=4)
    expected = written(build(model_class, feature_map, num_sets=2), feature_map, Path("model.pt2"))
    loaded = torch.export.load("model.pt2").module()
    for batch, answers in expected:
        found = loaded({field: torch.from_numpy(values) for field, values in batch.items()})
        agree(found["y_pred"].numpy(), answers["y_pred"])
    batch["user"][3] = 11
    with pytest.raises(IndexError):
        loaded({field: torch.from_numpy(values) for field, values in batch.items()})


@pytest.mark.parametrize("model_class", [DCNv2_ME, xDeepFM_ME])
def test_safetensors_hold_the_checkpoint(model_class):
    feature_map = every_kind() if model_class is DCNv2_ME else make_feature_map(EQUAL_DIMS, embedding_dim=4)
    model, other = (build(model_class, feature_map, num_sets=2) for _ in range(2))
    save_state_dict(model.state_dict(), "mine.model")
    run = SimpleNamespace(checkpoint=Path("mine.model"))
    write_model(model, run, Path("model.safetensors"), ["y_pred"], {"expid": "mine"})
    with safetensors.safe_open("model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "expid": "mine"}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert list(weights) == sorted(torch.load("mine.model", weights_only=True))
    other.load_state_dict(weights)
    for (_, found), (_, answers) in zip(eager(other, feature_map), eager(model, feature_map), strict=True):
        assert np.array_equal(found["y_pred"], answers["y_pred"])


@pytest.fixture
def wrapped_map():
    return make_feature_map(FIELDS, embedding_dim=4)


@needs_export
@pytest.mark.parametrize(
    "backbone", [Tasks, *(pytest.param(slow, marks=pytest.mark.slow) for slow in (Tower, Wide, Fused))]
)
def test_onnx_predicts_what_wrapped_models_do(wrapped_map, backbone):
    """Sets 1, 2, … stop with an exception in each forward; in a graph they run to an end that is not kept."""
    outputs = ["y_pred"]
    if backbone is Tasks:
        wrapped_map.labels, outputs = ["label", "bought"], ["label_pred", "bought_pred"]
    runs_in_onnxruntime(make(backbone, wrapped_map, num_sets=3), wrapped_map, outputs)


@needs_export
def test_a_wrapped_model_keeps_one_head(wrapped_map):
    """Tower has three linear layers: each set has the first, and all sets share the others."""
    model = make(Tower, wrapped_map, num_sets=3)
    program = model_formats.trace(model, compare_predictions.random_rows(wrapped_map, 7), ["y_pred"])
    linear = [node for node in program.graph.nodes if node.target is torch.ops.aten.linear.default]
    numeric = 3  # one number, a linear layer in each set
    assert len(linear) == numeric + 3 + 2


class Picky(Tower):
    """A model with a triangle that a mask selects, and with an unused change in place."""

    def build(self):
        super().build()
        self.products = InnerProductInteraction(4, output="inner_product")
        self.fc = nn.Linear(6, 1)

    def logit(self, e, inputs):
        e = e.clone()
        e[e.sum(dim=-1) > 0, -1] = 3.0
        return self.dnn(e) + self.fc(self.products(e.view(-1, 4, DIM)))


@needs_export
def test_masks_and_changes_in_place_can_be_exported(wrapped_map):
    """A mask over fields becomes a selection of known width."""
    model = make(Picky, wrapped_map)
    model.products.triu_mask.data = torch.ones(4, 4).triu(1).bool()  # a parameter of FuxiCTR's, which make has filled
    expected = written(model, wrapped_map, Path("model.pt2"))
    loaded = torch.export.load("model.pt2").module()
    for batch, answers in expected:
        found = loaded({field: torch.from_numpy(values) for field, values in batch.items()})
        agree(found["y_pred"].numpy(), answers["y_pred"])
    x, mask = torch.arange(24.0).view(2, 3, 4), torch.tensor([[True, False, True, False]] * 3)
    for of_fields in (mask, mask.unsqueeze(0)):
        picked = x.flatten(1)[:, find_positions(x, of_fields)].flatten()
        assert torch.equal(picked, torch.masked_select(x, of_fields))
    assert find_positions(x, x > 3) is None


class ByValue(Tower):
    """A model whose forward branches on values, which no graph can express."""

    def logit(self, e, inputs):
        return super().logit(e if float(e.sum()) > 0 else -e, inputs)


def test_a_forward_that_no_graph_can_express_is_refused_in_one_line(wrapped_map):
    with pytest.raises(UsageError, match=r"torch.export cannot follow the forward of ByValue: \w+: \S.*$") as raised:
        model_formats.trace(make(ByValue, wrapped_map), compare_predictions.random_rows(wrapped_map, 7), ["y_pred"])
    assert "\n" not in str(raised.value)


# --- raw values

COLUMNS = [
    {"name": ["user", "word"], "active": True, "dtype": "str", "type": "categorical"},
    {"name": "age", "active": True, "dtype": "int", "type": "categorical", "fill_na": -1},
    {"name": "weight", "active": True, "dtype": "float", "type": "categorical"},
    {"name": "left_out", "active": False, "dtype": "str", "type": "categorical"},
    {"name": "price", "active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"},
    {"name": "stock", "active": True, "dtype": "int", "type": "numeric", "normalizer": "MinMaxScaler", "fill_na": 7},
    {"name": "rank", "active": True, "dtype": "float", "type": "numeric"},
    {"name": "words", "active": True, "dtype": "str", "type": "sequence", "splitter": "|", "max_len": 3},
    {"name": "first", "active": True, "dtype": "str", "type": "sequence", "splitter": "|", "fill_na": "none"},
    {"name": "again", "active": True, "dtype": "str", "type": "categorical", "preprocess": "copy_from(user)"},
    {"name": "clicks", "active": True, "dtype": "str", "type": "categorical", "preprocess": "squared_log"},
    {"name": "bucket", "active": True, "dtype": "int", "type": "categorical", "preprocess": "convert_to_bucket(age)"},
]
COLUMNS[7] |= {"padding": "pre", "share_embedding": "word", "feature_encoder": "layers.MaskedAveragePooling()"}
COLUMNS[8] |= {"max_len": 2, "feature_encoder": "layers.MaskedAveragePooling()"}
PLAIN = COLUMNS[:-2]


def write_raw(splits=(("train", 200), ("valid", 60), ("test", 80)), sep=","):
    """Write csv with missing values and quotes, and with values in later splits that are not in the training data."""
    random = np.random.default_rng(0)
    Path("raw").mkdir(exist_ok=True)
    for split, rows in splits:
        new = split != "train"

        def pick(values, unseen, new=new, rows=rows):
            drawn = np.array(values)[random.integers(len(values), size=rows)]
            return np.where(new & (random.random(rows) < 0.2), unseen, drawn)

        columns = {
            "user": pick(["ann", '"b ""o"" b"', '"c, d"', "Ünï 用户", "7", ""], "zoe"),
            "word": pick(["tea", "cup", "pot", ""], "jug"),
            "age": pick(["7", "42", "-3", "007", ""], "99"),
            "weight": pick(["0.5", "2", "1e3", "0.1", ""], "3.25"),
            "left_out": pick(["x"], "x"),
            "price": pick(["1.5", "20", "3.25e2", ""], "-4"),
            "stock": pick(["1", "5", "90", ""], "1000"),
            "rank": pick(["0.25", "-8.5", ""], "100"),
            "words": pick(["tea", "cup|tea|pot|cup", "tea|pot", "|tea", ""], "jug|tea"),
            "first": pick(["a", "b|none|a", "none", "c|", ""], "z|a|b"),
            "clicks": pick(["0", "3", "1000", "17", ""], "123456"),
            "label": pick(["0", "1"], "0"),
        }
        lines = [sep.join(columns), *(sep.join(row) for row in zip(*columns.values(), strict=True))]
        Path(f"raw/{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_shop(columns=PLAIN, data_format="h5", model=None, **data):
    """Write a config folder with a data set ``shop`` with ``COLUMNS``, and one experiment, ``mine``."""
    dataset = {"data_root": "./data/", "data_format": data_format, "min_categr_count": 2, "feature_cols": columns}
    dataset |= {f"{split}_data": f"raw/{split}.csv" for split in ("train", "valid", "test")}
    dataset |= {"label_col": {"name": "label", "dtype": "float"}, **data}
    model = {"num_sets": 2, "embedding_dim": 3, "num_cross_layers": 1, "stacked_dnn_hidden_units": [4], **(model or {})}
    write_config({"dataset_id": "shop", "callbacks": None, **model})
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump({"shop": dataset}))
    Path("any.model").touch()
    return yaml.safe_load(yaml.safe_dump({**dataset, "dataset_id": "shop"}))


def found_run():
    return find_run("mine", "config", "any.model")


def made():
    """Return feature map, origin and vocabulary of the built set."""
    run = found_run()
    origin = find_origin(run)
    return run.feature_map, origin, make_vocabulary(run.feature_map, origin)


def encoded(vocabulary, rows):
    """Return the model inputs of ``predict.py`` for raw rows, by field."""
    known = vocabulary["vocabularies"]
    return {
        name: np.array([predict.encode(row, field, known) for row in rows], field["input"])
        for name, field in vocabulary["fields"].items()
    }


def read_csv(path, sep=","):

    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=sep))


@pytest.mark.parametrize(("data_format", "sep"), [("h5", ","), ("h5", ";"), ("csv", ",")])
def test_raw_rows_give_the_ids_of_the_build(data_format, sep):
    write_raw(sep=sep)
    params = write_shop(data_format=data_format, **({} if sep == "," else {"sep": sep}))
    paths = (build_h5 if data_format == "h5" else build_dataset)(params)
    feature_map, origin, vocabulary = made()
    found = encoded(vocabulary, read_csv("raw/test.csv", sep))
    if data_format == "h5":
        built = next(iter(H5DataLoader(feature_map, paths["test_data"], split="test", batch_size=1000)))
        built = {name: values.numpy() for name, values in built.items()}
    else:
        frame = pl.read_parquet(paths["test_data"])
        built = {name: np.array(frame[name].to_list()) for name in frame.columns}
    assert set(found) == set(built) - {"label"} and "left_out" not in found
    for name, values in found.items():
        assert len(values) == 80
        if values.dtype == np.int64:
            assert np.array_equal(values, built[name]), name
            oov = vocabulary["fields"][name]["oov"]
            assert (values == oov).any(), name  # unseen in training, or less than twice
        else:
            np.testing.assert_allclose(values, built[name], rtol=2e-7, atol=1e-7)
    assert (
        check_vocabulary(feature_map, origin, vocabulary)
        == "checked: 80 raw rows of the test split get the same ids as in the built data set"
    )


def test_raw_parquet_gives_the_ids_of_the_build():
    """Values have the types of the file, and sequences may be lists."""
    random = np.random.default_rng(1)
    Path("raw").mkdir()
    for split in ("train", "valid", "test"):
        frame = {
            "age": random.integers(4 if split == "train" else 6, size=50).tolist(),
            "weight": random.choice([0.5, 2.0, 1e-7], size=50).tolist(),
            "words": [[f"w{i}" for i in random.integers(3, size=n)] for n in random.integers(1, 5, size=50)],
            "vector": random.normal(size=(50, 2)).tolist(),
            "label": random.integers(2, size=50).tolist(),
        }
        frame["age"][3] = None
        pl.DataFrame(frame).write_parquet(f"raw/{split}.parquet")
    columns = [{**column, "active": True} for column in PLAIN if column["name"] in ("age", "weight")]
    lists = {"active": True, "fill_na": None}  # FuxiCTR cannot fill lists
    columns += [{"name": "words", "dtype": "str", "type": "sequence", "max_len": 3, **lists}]
    columns += [{"name": "vector", "dtype": "float", "type": "embedding", "pretrain_dim": 2, **lists}]
    raw = {f"{split}_data": f"raw/{split}.parquet" for split in ("train", "valid", "test")}
    build_dataset(write_shop(columns, "parquet", **raw))
    feature_map, origin, vocabulary = made()
    assert check_vocabulary(feature_map, origin, vocabulary).startswith("checked: 50 raw rows of the test split")


def test_the_vocabulary_describes_how_values_are_read():
    write_raw()
    build_h5(write_shop())
    _, _, vocabulary = made()
    fields, known = vocabulary["fields"], vocabulary["vocabularies"]
    assert set(known) == {"user", "word", "age", "weight", "first", "again"}  # words has word's
    word = known["word"]
    assert fields["words"] == {
        "type": "sequence", "column": "words", "dtype": "str", "fill": "", "input": "int64", "vocabulary": "word",
        "oov": word["__OOV__"], "padding_id": 0, "size": max(word.values()) + 1,
        "splitter": "|", "padding": "pre", "max_len": 3,
    }  # fmt: skip
    assert fields["again"]["column"] == "user" and fields["age"]["fill"] == -1
    # 7 and 007 are one number, 2 one with 2.0
    assert {"-3", "7", "42"} <= set(known["age"]) and "007" not in known["age"] and "2.0" in known["weight"]
    raw = read_csv("raw/train.csv")
    prices = np.array([float(row["price"] or 0) for row in raw])
    stocks = np.array([int(row["stock"] or 7) for row in raw])
    price, stock = fields["price"], fields["stock"]
    assert (price["shift"], price["scale"]) == pytest.approx((prices.mean(), prices.std()), rel=1e-12)
    assert (stock["shift"], stock["scale"]) == (stocks.min(), stocks.max() - stocks.min())
    assert "shift" not in fields["rank"]

    row = {"user": None, "word": "jug", "age": 7, "weight": 2, "price": None, "stock": 90, "rank": 3}
    row |= {"words": "cup|jug|tea|pot", "first": "a"}
    found = {name: values[0].tolist() for name, values in encoded(vocabulary, [row]).items()}
    assert found["user"] == fields["user"]["oov"] and found["word"] == fields["word"]["oov"]
    assert found["age"] == known["age"]["7"] and found["weight"] == known["weight"]["2.0"]
    assert found["words"] == [word["__OOV__"], word["tea"], word["pot"]]
    assert found["first"] == [known["first"]["a"], 0]
    assert found["price"] == pytest.approx(-prices.mean() / prices.std()) and found["stock"] == 1 and found["rank"] == 3


def test_results_of_preprocess_are_columns_with_their_own_name():
    write_raw()
    build_h5(write_shop(COLUMNS))
    feature_map, origin, vocabulary = made()
    fields = vocabulary["fields"]
    assert fields["clicks"]["column"] == "squared_log(clicks)" and fields["clicks"]["dtype"] == "str"
    assert fields["bucket"]["column"] == "convert_to_bucket(age)" and fields["bucket"]["dtype"] == "int"
    assert check_vocabulary(feature_map, origin, vocabulary).startswith("checked: 80 raw rows")
    row = {**read_csv("raw/test.csv")[0], "squared_log(clicks)": "1", "convert_to_bucket(age)": 3}
    found = encoded(vocabulary, [row])
    assert found["clicks"][0] == vocabulary["vocabularies"]["clicks"]["1"]  # 3 clicks: floor(ln(3)²) = 1
    assert found["bucket"][0] == vocabulary["vocabularies"]["bucket"]["3"]
    del row["convert_to_bucket(age)"]  # the raw column does not replace it
    with pytest.raises(KeyError, match=r"convert_to_bucket\(age\)"):
        encoded(vocabulary, [row])


def test_copied_columns_follow_the_order_of_preprocess():
    """FuxiCTR's preprocess starts with the last column: a copy of a later column has its missing values filled."""
    columns = {
        name: {"name": name, "dtype": "str", **more}
        for name, more in {
            "early": {"preprocess": "copy_from(late)", "dtype": "int"},
            "made": {"preprocess": "convert_hour", "fill_na": "x"},
            "of_made": {"preprocess": "copy_from(made)"},
            "late": {"fill_na": "gone"},
            "after": {"preprocess": "copy_from(late)", "fill_na": "here"},
        }.items()
    }
    assert find_raw_columns(columns) == {
        "early": RawColumn("late", "str", "gone"),
        "made": RawColumn("convert_hour(made)", None, None),
        "of_made": RawColumn("made", "str", ""),
        "late": RawColumn("late", "str", "gone"),
        "after": RawColumn("late", "str", "here"),
    }


def test_a_vocabulary_that_gives_other_ids_is_refused():
    write_raw()
    build_h5(write_shop())
    feature_map, origin, vocabulary = made()
    known = vocabulary["vocabularies"]["user"]
    known["ann"], known["7"] = known["7"], known["ann"]
    with pytest.raises(
        UsageError, match=r"field 'user' of row \d+ of the test split, '(ann|7)', would be \d+, but the"
    ):
        check_vocabulary(feature_map, origin, vocabulary)


def test_normalizers_need_the_raw_data_of_the_build():
    write_raw()
    build_h5(write_shop())
    with open("raw/train.csv", "a") as file:
        file.write("ann,tea,7,2,x,1000000,1,1,tea,a,3,0\n")
    run = found_run()
    with pytest.raises(UsageError, match="the raw train data of shop are missing, or have changed"):
        make_vocabulary(run.feature_map, find_origin(run))


# --- the command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with raw data, config and a finished run."""
    folder, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    os.chdir(folder)
    try:
        write_raw()
        write_shop()
        train("mine")
    finally:
        os.chdir(before)
    return folder


def train(expid):
    assert main(["run_expid", "--config", "config", "--expid", expid]) == 0
    close_logs()


@pytest.fixture
def finished(trained, own_folder):
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    manifest = read_manifest(Path("data/shop"))
    for split, files in manifest["made_from"]["raw"].items():
        files[0][0] = str(Path(f"raw/{split}.csv").resolve())
        shutil.copystat(trained / f"raw/{split}.csv", files[0][0])
    write_manifest(Path("data/shop"), **{key: manifest[key] for key in ("made_by", "made_from", "splits", "files")})


EXPORT = ["export", "--config", "config", "--expid", "mine"]


def without_fuxictr(folder):
    """Make a folder for Python's path from which FuxiCTR, torch and this package cannot be imported."""
    for name in ("fuxictr", "fuxictr_me", "torch", "polars", "pandas"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise ImportError('a server has not this')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@needs_export
def test_a_server_predicts_from_raw_rows(finished, capsys):
    capsys.readouterr()
    assert main([*EXPORT, "--out", "served"]) == 0
    text = capsys.readouterr().out
    assert "served: DCNv2_ME, run mine on shop" in text and "80 raw rows of the test split get the same ids" in text
    assert "words int64 (batch, 3)" in text and "rank float32 (batch)" in text and "y_pred float32 (batch, 1)" in text
    assert sorted(path.name for path in Path("served").iterdir()) == [
        "manifest.json", "model.onnx", "predict.py", "vocabulary.json"
    ]  # fmt: skip
    manifest = json.loads(Path("served/manifest.json").read_text())
    assert (manifest["expid"], manifest["dataset_id"], manifest["model"]) == ("mine", "shop", "DCNv2_ME")
    md5 = subprocess.run(["md5sum", "checkpoints/shop/mine.model"], capture_output=True, text=True, check=True)
    assert manifest["md5_of_checkpoint"] == md5.stdout.split()[0]
    assert manifest["inputs"][0] == {"name": "user", "dtype": "int64", "shape": ["batch"]}
    assert max(manifest["largest_difference"].values()) <= 1e-6
    assert str(ROOT).encode() not in Path("served/model.onnx").read_bytes()  # stack traces would name files

    model = load_trained("mine", "config")
    test = H5DataLoader(model.feature_map, "data/shop/test.h5", split="test", batch_size=1000)
    expected = model.predict(test)
    Path("served").rename("elsewhere")
    for name in ("raw/test.csv", "rows.json"):
        if name == "rows.json":
            rows = [{k: None if v == "" else v for k, v in row.items()} for row in read_csv("raw/test.csv")]
            Path(name).write_text("\n".join(map(json.dumps, rows)))
        command = [sys.executable, "elsewhere/predict.py", *(["csv"] if name.endswith("csv") else [])]
        with open(name) as lines:
            environment = without_fuxictr(Path(f"stubs_{Path(name).stem}").resolve())
            done = subprocess.run(command, stdin=lines, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, rtol=0, atol=1e-6)

    rows = rows_of(model.feature_map, 5, seed=0)
    size = model.feature_map.features["user"]["vocab_size"]
    rows["user"][2] = size  # in a fused table this would be a row of the next field
    session = onnxruntime.InferenceSession("elsewhere/model.onnx")
    with pytest.raises(Exception, match=rf"out of data bounds, idx={size} must be within the inclusive range"):
        session.run(None, rows)


def test_predict_py_is_short_and_needs_numpy_and_onnxruntime_only():
    source = Path(predict.__file__).read_text()
    tree = ast.parse(source)
    texts = [node.body[0] for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    quoted = {n for t in texts if isinstance(t.value, ast.Constant) for n in range(t.lineno, t.end_lineno + 1)}
    lines = [line for n, line in enumerate(source.splitlines(), 1) if line.strip() and n not in quoted]
    assert len(lines) <= 80
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "onnxruntime"}
    code = source[source.index("import csv") :]
    assert f"```python\n{code}```" in (ROOT / "docs" / "serving.md").read_text()


MODULE = """
from torch import nn
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel

class Deep(BaseModel):
    def __init__(self, feature_map, model_id="Deep", gpu=-1, embedding_dim=3, learning_rate=1e-2, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.dnn = MLP_Block(feature_map.sum_emb_out_dim(), output_dim=1, hidden_units=[6, 4])
        self.compile("adam", "binary_crossentropy", learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.dnn(e))}
"""


@needs_export
def test_a_wrapped_model_of_the_users_own_is_exported(finished, capsys):
    """The class is beside the config. pt2 takes the least time."""
    Path("deep_model.py").write_text(MODULE)
    settings = {"model": "deep_model:Deep", "num_sets": 3, "embedding_dim": 3, "dataset_id": "shop"}
    settings |= {"loss": "binary_crossentropy", "task": "binary_classification", "metrics": ["AUC"], "verbose": 0}
    settings |= {"model_root": "./checkpoints/", "epochs": 1, "batch_size": 64, "batched": True}
    Path("config/model_config.yaml").write_text(yaml.safe_dump({"deep": settings}))
    train("deep")
    capsys.readouterr()
    export = ["export", "--config", "config", "--expid", "deep", "--out", "served", "--format", "pt2"]
    assert main(export) == 0
    assert "served: deep_model:Deep, run deep on shop" in capsys.readouterr().out
    assert sorted(path.name for path in Path("served").iterdir()) == ["manifest.json", "model.pt2", "vocabulary.json"]
    model = load_trained("deep", "config").eval()
    loaded = torch.export.load("served/model.pt2").module()
    rows = encoded(json.loads(Path("served/vocabulary.json").read_text()), read_csv("raw/test.csv"))
    batch = {name: torch.from_numpy(values) for name, values in rows.items()}
    agree(loaded(batch)["y_pred"].numpy(), model(batch)["y_pred"].detach().numpy())


@needs_export
def test_errors_are_one_line(finished, capsys, monkeypatch):
    capsys.readouterr()
    Path("there").mkdir()
    assert "there exists already" in fails(capsys, *EXPORT, "--out", "there")
    assert "did you mean 'mine'" in fails(capsys, *EXPORT[:-1], "mien", "--out", "out")
    assert "no checkpoint at none.model" in fails(capsys, *EXPORT, "--out", "out", "--checkpoint", "none.model")
    save_state_dict({"fc.weight": torch.zeros(2)}, "other.model")
    message = fails(capsys, *EXPORT, "--out", "out", "--checkpoint", "other.model", "--format", "pt2")
    assert "other.model does not fit this model" in message

    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        message = fails(capsys, *EXPORT, "--out", "out")
    assert message == (
        "export --format onnx needs onnx and onnxscript and onnxruntime: pip install 'fuxictr-me[serving]'"
    )
    with monkeypatch.context() as patch:
        patch.setattr(model_formats, "MIN_TORCH", (99, 1))
        message = fails(capsys, *EXPORT, "--out", "out", "--format", "pt2")
    assert message == f"export --format pt2 needs torch 99.1 or newer, here is {torch.__version__}"

    def other(path):
        run = torch.export.load(path).module()
        return lambda rows: {name: y + 3e-6 for name, y in run(rows).items()}

    with monkeypatch.context() as patch:
        patch.setattr(model_formats, "read_pt2", other)
        message = fails(capsys, *EXPORT, "--out", "out", "--format", "pt2", code=1)
    assert re.search(r"differ by 3\.\de-06 .* in a batch of 1 rows, more than 1e-06: nothing was written", message)
    assert not list(Path.cwd().glob("out")) and not list(Path.cwd().glob(".building-*"))


@needs_export
def test_without_a_vocabulary_only_the_model_is_exported(finished, capsys):
    """One data set does not record how it was built, and one exists as ids only."""
    capsys.readouterr()
    Path("data/shop/feature_vocab.json").rename("vocab.json")
    Path("data/shop/manifest.json").unlink()  # it lists the vocabulary
    for file_format in ("safetensors", "pt2"):
        assert main([*EXPORT, "--out", file_format, "--format", file_format]) == 0
        assert (
            "no vocabulary, so that rows must come as ids: data/shop has no feature_vocab.json"
            in capsys.readouterr().out
        )
        assert {path.name for path in Path(file_format).iterdir()} == {f"model.{file_format}", "manifest.json"}
    assert json.loads(Path("pt2/manifest.json").read_text())["vocabulary"] is None

    Path("vocab.json").rename("data/shop/feature_vocab.json")
    export = [*EXPORT, "--format", "safetensors", "--out"]
    assert main([*export, "by_config"]) == 0  # the built rows agree with it
    assert "80 raw rows of the test split" in capsys.readouterr().out
    config = Path("config/dataset_config.yaml")
    config.write_text(config.read_text().replace("fill_na: none", "fill_na: a"))
    assert main([*export, "otherwise"]) == 0
    assert "no vocabulary, so that rows must come as ids: field 'first' of row" in capsys.readouterr().out
    shutil.rmtree("raw")
    assert main([*export, "gone"]) == 0
    assert "no vocabulary, so that rows must come as ids: no train_data at" in capsys.readouterr().out


def test_a_failed_export_leaves_no_folder(finished, capsys, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("fuxictr_me.serving.export._export_vocabulary", full)
    assert fails(capsys, *EXPORT, "--out", "out", "--format", "safetensors", code=1) == "No space left on device"
    assert not Path("out").exists() and not list(Path.cwd().glob(".building-*"))


@pytest.mark.slow
def test_the_command_works_in_a_new_process(finished):
    done = run_cli(*EXPORT, "--out", "served", "--format", "safetensors", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.count("\n") < 15
