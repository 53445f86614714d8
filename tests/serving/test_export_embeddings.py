"""Exported embedding tables, read back by other libraries, are the model's weights."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.run_configs import write_config

from fuxictr_me import DNN_ME, MultiEmbedding, UsageError
from fuxictr_me.io.checkpoints import save_state_dict
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.runs.experiment import load_trained, run_expid
from fuxictr_me.serving.export_embeddings import export_embeddings, export_run_embeddings
from fuxictr_me.tables import table_files as module
from fuxictr_me.tables.table_files import write_npz, write_parquet

pytestmark = pytest.mark.usefixtures("own_folder")

TOKENS = {
    "user": ["__PAD__", "ann", "bob", 'a "quote"', "Ünïcode 用户", "x" * 40, "7", "8", "9", "", "__OOV__"],
    "item": ["__PAD__", "tea", "cup", "pot", "jug", "bag", "__OOV__"],
    "clicks": ["__PAD__", "1", "2", "3", "__OOV__"],
}


def write_vocabulary(folder, **more):
    vocabulary = {field: {token: i for i, token in enumerate(tokens)} for field, tokens in TOKENS.items()}
    vocabulary["last"] = vocabulary["item"]
    (folder / "feature_vocab.json").write_text(json.dumps({**vocabulary, **more}))


@pytest.fixture
def feature_map(tmp_path):
    """Return a feature map with plain, shared, numeric and sequence fields, and one without padding and vocabulary."""
    features = {
        "user": categorical(11),
        "item": categorical(7),
        "last": categorical(7, share_embedding="item"),
        "bucket": {"source": "", "type": "categorical", "vocab_size": 6},
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(5, 3),
    }
    write_vocabulary(tmp_path)
    return make_feature_map(features, tmp_path)


def model_of(feature_map, embedding_dim=(4, 6)):
    return DNN_ME(
        feature_map,
        model_id="mine",
        embedding_dim=list(embedding_dim),
        embedding_initializer="partial(nn.init.normal_, std=1.0)",
        hidden_units=[8, 4],
        model_root="unused",
        **MODEL,
    )


def weights_of(model, field):
    """Return what FuxiCTR's layers look up for every id of a field, set by set."""
    layers = [one_set.embedding_layer.embedding_layers[field] for one_set in model.embedding_layer.sets]
    return [layer(torch.arange(layer.num_embeddings)).detach().numpy() for layer in layers]


def read(path):
    """Read a file of either format: ids, values (None if missing), and a list of sets (D, K)."""
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
        sets = [np.array(frame[f"set_{m}"].to_list(), dtype=np.float32) for m in range(frame.width - 2)]
        return frame["id"].to_list(), frame["value"].to_list(), sets
    with np.load(path, allow_pickle=False) as arrays:
        values = [v if known else None for v, known in zip(arrays["values"], arrays["has_value"], strict=True)]
        return arrays["ids"].tolist(), values, [arrays[f"set_{m}"] for m in range(len(arrays.files) - 3)]


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- what is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["parquet", "npz"])
def test_every_row_has_its_id_its_token_and_its_vectors(feature_map, tmp_path, file_format):
    model = model_of(feature_map)
    index = export_embeddings(model, tmp_path / "out", file_format, checkpoint="some.model")
    assert files_of(tmp_path / "out") == sorted(
        ["index.json", *(f"{field}.{file_format}" for field in ("user", "item", "bucket", "clicks"))]
    )
    for field, rows in {"user": 11, "item": 7, "bucket": 6, "clicks": 5}.items():
        ids, values, sets = read(tmp_path / "out" / f"{field}.{file_format}")
        assert ids == list(range(rows)) and values == TOKENS.get(field, [None] * rows)
        expected = weights_of(model, field)
        assert [table.shape for table in sets] == [(rows, 4), (rows, 6)]
        assert all(np.array_equal(a, b) and a.any() for a, b in zip(sets, expected, strict=True))
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == index
    tables = index.pop("tables")
    assert index.pop("made_by").startswith("fuxictr_me ")
    assert index == {
        "expid": "mine",
        "checkpoint": "some.model",
        "dataset_id": "made",
        "format": file_format,
        "vocabulary": "feature_vocab.json",
    }
    assert tables[1] == {
        "layer": "embedding_layer",
        "field": "item",
        "fields": ["item", "last"],
        "file": f"item.{file_format}",
        "rows": 7,
        "sets": ["set_0", "set_1"],
        "dims": [4, 6],
    }
    assert [table["fields"] for table in tables] == [["user"], ["item", "last"], ["bucket"], ["clicks"]]


def test_parquet_has_typed_columns(feature_map, tmp_path):
    export_embeddings(model_of(feature_map), tmp_path / "out")
    columns = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "out" / "user.parquet")}
    of_sets = {name: columns.pop(name) for name in ("set_0", "set_1")}
    assert columns == {"id": "int64", "value": "string"}
    assert [kind.split(" ")[0].split("<")[0] for kind in of_sets.values()] == ["fixed_size_list"] * 2
    assert [kind[-3:] for kind in of_sets.values()] == ["[4]", "[6]"] and "float" in of_sets["set_0"]


@pytest.mark.parametrize("chunk_rows", [1, 3, 11, 12])
def test_tables_written_in_chunks_are_complete(feature_map, tmp_path, monkeypatch, chunk_rows):
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
    model, taken = model_of(feature_map), []
    as_they_are = module._float32
    monkeypatch.setattr(module, "_float32", lambda table, chunk: taken.append(chunk) or as_they_are(table, chunk))
    for file_format in ("parquet", "npz"):
        export_embeddings(model, tmp_path / file_format, file_format, fields=["user"])
        ids, values, sets = read(tmp_path / file_format / f"user.{file_format}")
        assert ids == list(range(11)) and values == TOKENS["user"]
        assert all(np.array_equal(a, b) for a, b in zip(sets, weights_of(model, "user"), strict=True))
    metadata = pq.ParquetFile(tmp_path / "parquet" / "user.parquet").metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [chunk_rows] * (11 // chunk_rows) + ([11 % chunk_rows] if 11 % chunk_rows else [])
    assert max(chunk.stop - chunk.start for chunk in taken) <= chunk_rows


@pytest.mark.parametrize("write", [write_parquet, write_npz])
def test_other_dtypes_and_views_are_written(tmp_path, write):
    wide = torch.randn(9, 10)
    sets = [wide[:, 2:6], wide.double(), wide.bfloat16()[:, :3]]
    path = tmp_path / f"x.{write.__name__.removeprefix('write_')}"
    write(path, sets, ["", *"abcdefg", None])
    _, values, written = read(path)
    assert values == ["", *"abcdefg", None]
    assert all(np.array_equal(a, b.to(torch.float32).numpy()) for a, b in zip(written, sets, strict=True))
    with pytest.raises(FileExistsError):
        write(path, sets, [None] * 9)


@pytest.mark.parametrize("file_format", ["parquet", "npz"])
def test_without_a_vocabulary_only_ids_are_written(feature_map, tmp_path, file_format):
    (tmp_path / "feature_vocab.json").unlink()
    index = export_embeddings(model_of(feature_map), tmp_path / "out", file_format)
    assert index["vocabulary"] is None and index["checkpoint"] is None
    ids, values, sets = read(tmp_path / "out" / f"item.{file_format}")
    assert ids == list(range(7)) and values == [None] * 7 and sets[1].shape == (7, 6)


def test_missing_tokens_are_null_and_the_first_of_several_is_used(feature_map, tmp_path):
    write_vocabulary(tmp_path, user={"0": 0, "__PAD__": 0, "three": 3, "drei": 3, "__OOV__": 10})
    export_embeddings(model_of(feature_map), tmp_path / "out", fields=["user"])
    values = read(tmp_path / "out" / "user.parquet")[1]
    assert values == ["0", None, None, "three", None, None, None, None, None, None, "__OOV__"]


def test_a_field_exports_the_table_that_it_shares(feature_map, tmp_path):
    vocabulary = {"last": {"__PAD__": 0, "tea": 1}}  # the table's own field has no vocabulary, the other has one
    (tmp_path / "feature_vocab.json").write_text(json.dumps(vocabulary))
    index = export_embeddings(model_of(feature_map), tmp_path / "out", fields=["clicks", "last"])
    assert [table["file"] for table in index["tables"]] == ["item.parquet", "clicks.parquet"]
    assert read(tmp_path / "out" / "item.parquet")[1][:3] == ["__PAD__", "tea", None]


def test_pretrained_tables_have_the_vectors_that_are_looked_up(every_kind, tmp_path):
    model = torch.nn.ModuleDict({"e": MultiEmbedding(every_kind, 4, 2)})
    export_embeddings(model, tmp_path / "out", fields=["pre", "frozen"])
    for m, one_set in enumerate(model["e"].sets):
        layers = one_set.embedding_layer.embedding_layers
        weight = {name: p.detach().double().numpy() for name, p in layers["pre"].named_parameters()}
        projected = weight["pretrain_embedding.weight"] @ weight["proj.weight"].T
        ids, values, sets = read(tmp_path / "out" / "pre.parquet")
        np.testing.assert_allclose(sets[m], projected, rtol=1e-5, atol=1e-7)
        assert ids == list(range(9)) and values == [None, *map(str, range(1, 9))]
        weight = {name: p.detach().double().numpy() for name, p in layers["frozen"].named_parameters()}
        both = np.hstack([weight["pretrain_embedding.weight"], weight["id_embedding.weight"]])
        sets = read(tmp_path / "out" / "frozen.parquet")[2]
        np.testing.assert_allclose(sets[m], both @ weight["proj.weight"].T, rtol=1e-5, atol=1e-7)


# --- any model, any name -----------------------------------------------------------------------------


def test_each_layer_of_any_fuxictr_model_has_a_folder(feature_map, tmp_path):
    model = torch.nn.ModuleDict(
        {
            "deep": FeatureEmbedding(feature_map, 3),
            "bare": FeatureEmbeddingDict(feature_map, 2, required_feature_columns=["user"]),
            "wide": LogisticRegression(feature_map),
        }
    )
    index = export_embeddings(model, tmp_path / "out")
    assert {table["layer"] for table in index["tables"]} == {"deep", "bare"} and index["expid"] is None
    assert files_of(tmp_path / "out") == [
        "bare/user.parquet",
        "deep/bucket.parquet",
        "deep/clicks.parquet",
        "deep/item.parquet",
        "deep/user.parquet",
        "index.json",
    ]
    weights = [
        model["deep"].embedding_layer.embedding_layers["item"].weight,
        model["bare"].embedding_layers["user"].weight,
    ]
    for file, weight in zip(("deep/item.parquet", "bare/user.parquet"), weights, strict=True):
        assert np.array_equal(read(tmp_path / "out" / file)[2][0], weight.detach().numpy())
    alone = export_embeddings(model["bare"], tmp_path / "alone")
    assert alone["tables"][0]["layer"] == "" and files_of(tmp_path / "alone") == ["index.json", "user.parquet"]


@pytest.mark.parametrize("file_format", ["parquet", "npz"])
def test_names_do_not_leave_the_folder(tmp_path, file_format):
    names = ["/etc/x", "a/b", "a%2Fb", "用户 id", "~", "-"]
    feature_map = make_feature_map({name: categorical(4) for name in names}, tmp_path)
    layers = {name: FeatureEmbeddingDict(feature_map, 2) for name in ("a/b", "/c")}
    index = export_embeddings(torch.nn.ModuleDict(layers), tmp_path / "in" / "out", file_format)
    files = files_of(tmp_path / "in" / "out")
    assert files == sorted(["index.json", *(table["file"] for table in index["tables"])]) and len(files) == 13
    assert files_of(tmp_path / "in") == [f"out/{file}" for file in files]
    assert f"%2Fc/%2Fetc%2Fx.{file_format}" in files and f"%2Fc/a%252Fb.{file_format}" in files
    for table in index["tables"]:
        weight = layers[table["layer"]].embedding_layers[table["field"]].weight.detach().numpy()
        assert np.array_equal(read(tmp_path / "in" / "out" / table["file"])[2][0], weight)


# --- what goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fields": ["usr"]}, "unknown field with an embedding table 'usr'; did you mean 'user'? (known: bucket, "),
        ({"fields": ["user", "price"]}, "unknown field with an embedding table 'price'"),
        ({"fields": []}, "no embedding table to export (fields that have one: bucket, clicks, item, last, user)"),
        ({"file_format": "parkuet"}, "unknown format 'parkuet'; did you mean 'parquet'? (known: npz, parquet)"),
    ],
)
def test_wrong_arguments_give_one_line(feature_map, tmp_path, settings, message):
    with pytest.raises(UsageError) as caught:
        export_embeddings(model_of(feature_map), tmp_path / "out", **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_changed(feature_map, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(UsageError, match=f"{name} exists already"):
            export_embeddings(model_of(feature_map), tmp_path / name)
    assert list((tmp_path / "out").iterdir()) == [] and (tmp_path / "file").read_text() == "mine"


def test_a_model_without_tables_is_refused(feature_map, tmp_path):
    with pytest.raises(UsageError, match=r"no embedding table to export \(fields that have one: none\)"):
        export_embeddings(LogisticRegression(feature_map), tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"user": {"a"', "feature_vocab.json is not a complete vocabulary: Expecting ':' delimiter"),
        ("[1]", "feature_vocab.json must map field -> token -> id, and does not"),
        ('{"user": 3}', "feature_vocab.json must map field -> token -> id, and does not"),
        ('{"user": {"a": 11}}', "gives 'a' of field 'user' the id 11, its table has ids 0 to 10"),
        ('{"user": {"a": -1}}', "gives 'a' of field 'user' the id -1, its table has ids 0 to 10"),
        ('{"clicks": {"a": "1"}}', "gives 'a' of field 'clicks' the id '1', its table has ids 0 to 4"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(feature_map, tmp_path, text, message):
    (tmp_path / "feature_vocab.json").write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        export_embeddings(model_of(feature_map), tmp_path / "out")
    assert message in str(caught.value) and "\n" not in str(caught.value) and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("file_format", ["parquet", "npz"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError("no space left")])
def test_interrupted_writing_leaves_nothing(feature_map, tmp_path, monkeypatch, file_format, stop):
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    model, before, chunks = model_of(feature_map), sorted(tmp_path.iterdir()), []
    as_they_are = module._float32

    def stops_in_the_second_table(table, chunk):
        chunks.append(sorted(path.name for path in tmp_path.glob(f".building-*/out/*.{file_format}")))
        if len(table) == 7 and chunk.start == 3:
            raise stop
        return as_they_are(table, chunk)

    monkeypatch.setattr(module, "_float32", stops_in_the_second_table)
    with pytest.raises(type(stop)):
        export_embeddings(model, tmp_path / "out", file_format)
    assert chunks[-1] == [f"item.{file_format}", f"user.{file_format}"] and sorted(tmp_path.iterdir()) == before


# --- the command -------------------------------------------------------------------------------------


def test_tables_of_a_run_have_the_raw_values():
    config = write_config({"num_sets": 2, "embedding_dim": 3}, {"min_categr_count": 3})
    run_expid("mine", config)
    lines = export_run_embeddings("mine", config, "tables").splitlines()
    model = load_trained("mine", config)
    assert lines[0] == "tables: tables of mine from checkpoints/tiny_flights/mine.model"
    assert lines[1].split() == ["field", "rows", "sets", "dim", "MB", "file"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert set(rows) == set(model.feature_map.features) - {"distance"}
    table = Path("tables/origin.parquet")
    assert rows["origin"] == ["5", "2", "3", f"{table.stat().st_size / 1e6:.2f}", "origin.parquet"]

    encoded = pl.read_parquet("data/tiny_flights/train.parquet")
    with open(find_bundled_folder("dataset_configs") / "tiny_flights" / "train.csv") as file:
        raw = list(csv.DictReader(file))
    for field in ("carrier", "tailnum", "hour"):
        _, values, sets = read(Path("tables") / f"{field}.parquet")
        counts = {token: sum(row[field] == token for row in raw) for token in {row[field] for row in raw}}
        expected = [row[field] if counts[row[field]] >= 3 else "__OOV__" for row in raw]
        assert [values[i] for i in encoded[field]] == expected and "__OOV__" in values
        for one_set, table in zip(model.embedding_layer.sets, sets, strict=True):
            assert np.array_equal(table, one_set.embedding_layer.embedding_layers[field].weight.detach().numpy())


def test_another_checkpoint_can_be_given_and_is_checked():
    config = write_config()
    run_expid("mine", config)
    model = load_trained("mine", config)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.25)
    save_state_dict(model.state_dict(), "other.model")
    for name in ("feature_vocab.json", "manifest.json"):  # the manifest lists the vocabulary
        Path("data/tiny_flights", name).unlink()
    text = export_run_embeddings("mine", config, "of_other", "npz", ["hour"], checkpoint="other.model")
    assert text.startswith(
        "of_other: tables of mine from other.model\nids without raw values: the data set has no feature_vocab."
    )
    assert np.all(read(Path("of_other/hour.npz"))[2][0] == 0.25)
    assert json.loads(Path("of_other/index.json").read_text())["checkpoint"] == "other.model"
    with pytest.raises(UsageError, match=r"no checkpoint at othre\.model; did you mean other\.model"):
        export_run_embeddings("mine", config, "x", checkpoint="othre.model")
    with pytest.raises(UsageError, match="of_other exists already"):
        export_run_embeddings("no such expid", config, "of_other")
    Path(model.checkpoint).unlink()
    with pytest.raises(UsageError, match=r"no checkpoint at .*mine\.model"):
        export_run_embeddings("mine", config, "x")
    save_state_dict({"foreign": torch.zeros(2)}, "foreign.model")
    with pytest.raises(UsageError, match="the checkpoint has no embedding layer"):
        export_run_embeddings("mine", config, "x", checkpoint="foreign.model")
    assert not Path("x").exists()
