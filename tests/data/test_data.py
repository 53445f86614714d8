"""Parquet builds and their batches, compared with FuxiCTR's."""

import json
import math
import signal
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor
from fuxictr.preprocess import build_dataset as fuxictr_build
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.forked_processes import Forked
from helpers.raw_files import write_raw

from fuxictr_me import UsageError
from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.data import InMemoryLoader, build_dataset


def test_ids_equal_those_of_fuxictrs_feature_processor(tmp_path):
    params = write_raw(tmp_path)
    built = build_dataset(params)
    assert built == {f"{s}_data": str(tmp_path / "ours" / "made" / f"{s}.parquet") for s in ("train", "valid", "test")}
    encoder = FeatureProcessor(**{**params, "data_root": str(tmp_path / "theirs")})
    train = encoder.preprocess(encoder.read_data(params["train_data"]))
    encoder.fit(train, **params)
    raw = encoder.preprocess(encoder.read_data(params["test_data"])).collect()
    frame = pd.read_parquet(built["test_data"])
    assert list(frame["user"]) == [encoder.processor_dict["user::tokenizer"].vocab.get(u, 41) for u in raw["user"]]
    for name in ("feature_map.json", "feature_vocab.json"):
        assert (tmp_path / "ours/made" / name).read_text() == (tmp_path / "theirs/made" / name).read_text()
    loaded = FeatureProcessor(**params).load_pickle()  # its paths are those of the final folder
    assert loaded.data_dir == str(tmp_path / "ours" / "made") and loaded.json_file.startswith(loaded.data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [0, 100])
def test_files_equal_those_of_fuxictrs_build_dataset(tmp_path, block_size):
    params = write_raw(tmp_path) | {"data_block_size": block_size}
    ours = build_dataset(params)
    theirs_params = {**params, "data_root": str(tmp_path / "theirs")}
    theirs = fuxictr_build(FeatureProcessor(**theirs_params), **theirs_params)
    for split, path in zip(("train", "valid", "test"), theirs, strict=True):
        path = path if path.endswith((".parquet", "/")) else f"{path}.parquet" if not block_size else path
        a, b = pd.read_parquet(ours[f"{split}_data"]), pd.read_parquet(path)
        if block_size:  # Ray divides rows into blocks in another order
            a, b = (f.sort_values(["user", "price"]).reset_index(drop=True) for f in (a, b))
        for column in a.columns:
            np.testing.assert_array_equal(np.array(a[column].tolist()), np.array(b[column].tolist()), column)
    feature_map = FeatureMap("made", str(tmp_path / "ours" / "made"))
    feature_map.load(str(tmp_path / "ours" / "made" / "feature_map.json"), {})
    if detect_flavour() == "wheel" and not block_size:  # FuxiCTR's loader reads the files, too
        from fuxictr.pytorch.dataloaders import RankDataLoader

        loader = RankDataLoader(
            feature_map, stage="test", test_data=ours["test_data"], data_format="parquet", batch_size=64
        )
        mine = InMemoryLoader(feature_map, ours["test_data"], batch_size=64)
        for theirs_batch, batch in zip(loader, mine, strict=True):
            for name, column in batch.items():
                assert torch.equal(column.double(), theirs_batch[name].double()), name


def test_files_do_not_depend_on_the_size_of_chunks(tmp_path, monkeypatch):
    params = write_raw(tmp_path)
    whole = build_dataset(params)
    # 300 rows: borders of chunks inside blocks, and a short last chunk.
    monkeypatch.setattr("fuxictr_me.data.building.encode_columns.iterate_chunks.__defaults__", (70,))
    chunked = build_dataset({**params, "data_root": str(tmp_path / "chunked")})
    for split, path in whole.items():
        assert pq.read_table(path).equals(pq.read_table(chunked[split]))


def test_a_built_data_set_is_not_built_again(tmp_path):
    params = write_raw(tmp_path)
    build_dataset(params)
    before = (tmp_path / "ours/made/train.parquet").stat().st_mtime_ns
    build_dataset(params)
    assert (tmp_path / "ours/made/train.parquet").stat().st_mtime_ns == before


def test_raw_data_are_not_overwritten_by_their_ids(tmp_path):
    params = write_raw(tmp_path)
    (tmp_path / "ours" / "made").mkdir(parents=True)
    raw = tmp_path / "ours" / "made" / "train.parquet"
    pd.read_csv(tmp_path / "train.csv").to_parquet(raw)
    paths = dict.fromkeys(("train_data", "valid_data", "test_data"), str(raw))
    with pytest.raises(UsageError, match=r"to where the raw data .*train.parquet are: set another dataset_id"):
        build_dataset({**params, "data_format": "parquet", **paths})
    assert "clicks" in pd.read_parquet(raw) and list(raw.parent.iterdir()) == [raw]


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    params = write_raw(tmp_path)
    whole = (tmp_path / "test.csv").read_text()
    (tmp_path / "test.csv").write_text(whole.replace("price", "cost"))
    with pytest.raises(UsageError, match=r"unknown column .*test.csv\) 'price'"):
        build_dataset(params)
    assert list((tmp_path / "ours" / "made").iterdir()) == []
    (tmp_path / "test.csv").write_text(whole)
    build_dataset(params)
    assert (tmp_path / "ours/made/feature_map.json").exists()


def test_a_killed_build_leaves_no_feature_map(tmp_path):
    params = write_raw(tmp_path, rows=20_000)
    code = f"from fuxictr_me.data import build_dataset; build_dataset({params!r})"
    process = Forked(code=code)
    folder = tmp_path / "ours" / "made"
    deadline = time.monotonic() + 60
    while not list(folder.glob(".building-*/made/feature_map.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "feature_map.json").exists() and not (folder / "train.parquet").exists()
    build_dataset(params)
    assert (folder / "feature_map.json").exists() and (folder / "test.parquet").exists()


@pytest.fixture
def parquet(tmp_path):
    feature_map = make_feature_map({"user": categorical(100), "clicks": sequence(9, 3)})
    rows = 1000
    frame = pd.DataFrame({"user": np.arange(rows) % 100, "label": (np.arange(rows) % 2).astype(float)})
    frame["clicks"] = list(np.random.randint(0, 9, (rows, 3)))
    frame["row"] = np.arange(rows)
    feature_map.features["row"] = {"type": "meta"}
    frame.to_parquet(tmp_path / "train.parquet")
    return feature_map, tmp_path / "train.parquet", frame


def test_batches_have_the_shapes_of_fuxictr(parquet):
    feature_map, path, frame = parquet
    loader = InMemoryLoader(feature_map, str(path), batch_size=300)
    batches = list(loader)
    assert len(loader) == len(batches) == 4 and loader.num_samples == 1000 and loader.num_blocks == 1
    assert [len(b["user"]) for b in batches] == [300, 300, 300, 100]
    assert batches[0]["clicks"].shape == (300, 3) and set(batches[0]) == {"user", "clicks", "row", "label"}
    joined = torch.cat([b["clicks"] for b in batches])
    assert torch.equal(joined, torch.tensor(np.stack(frame["clicks"])))


def test_shuffled_epochs_hold_each_row_once_in_an_order_set_by_the_seed(parquet):
    feature_map, path, _ = parquet

    def epochs(seed):
        loader = InMemoryLoader(feature_map, str(path), batch_size=64, shuffle=True, seed=seed)
        return [torch.cat([b["row"] for b in loader]) for _ in range(2)]

    first, second = epochs(1)
    assert torch.equal(first.sort().values, torch.arange(1000)) and not torch.equal(first, second)
    assert torch.equal(second.sort().values, torch.arange(1000))
    assert all(torch.equal(a, b) for a, b in zip(epochs(1), (first, second), strict=True))
    assert not torch.equal(epochs(2)[0], first)
    batch = next(iter(InMemoryLoader(feature_map, str(path), batch_size=64, shuffle=True)))
    assert torch.equal(batch["user"], batch["row"] % 100)  # rows stay together


def test_a_folder_of_files_is_read_in_order(parquet, tmp_path):
    feature_map, path, frame = parquet
    (tmp_path / "parts").mkdir()
    for part in range(3):
        frame.iloc[part * 400 : (part + 1) * 400].to_parquet(tmp_path / "parts" / f"part-{part:06d}-0.parquet")
    loader = InMemoryLoader(feature_map, str(tmp_path / "parts"), batch_size=1000)
    assert torch.equal(next(iter(loader))["row"], torch.arange(1000))
    assert pq.read_metadata(path).num_rows == 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="user"), "unknown column .* 'user'"),
        (lambda f: f.assign(user=100), "field 'user' has ids from 100 to 100, but its vocabulary holds 0 to 99"),
        (lambda f: f.assign(user=-1), "field 'user' has ids from -1 to -1"),
        (lambda f: f.assign(user="anna"), "column 'user' holds .*string, not numbers"),
        (lambda f: f.assign(label=np.nan), "column 'label' misses 1000 of 1000 values"),
        (lambda f: f.assign(clicks=[[1, 2, 3]] * 998 + [[1, 2], [1, 2, 3, 4]]), "'clicks' has sequences of 2 to 4 ids"),
        (lambda f: f.iloc[:0], "the train split holds no rows"),
    ],
)
def test_errors_name_bad_files(parquet, change, message):
    feature_map, path, frame = parquet
    change(frame).to_parquet(path)
    with pytest.raises(UsageError, match=message):
        InMemoryLoader(feature_map, str(path))
    with pytest.raises(UsageError, match="no parquet data at"):
        InMemoryLoader(feature_map, str(path) + "x")


def test_squared_log_equals_the_papers_formula(tmp_path):
    counts = ["", "-2", "0", "1", "2", "3", "4", "20", "1000", "65535"]
    frame = pd.DataFrame({"count": counts * 3, "label": [0, 1] * 15})
    frame.to_csv(tmp_path / "a.csv", index=False)
    column = {"name": "count", "active": True, "dtype": "str", "type": "categorical", "preprocess": "squared_log"}
    params = {"dataset_id": "counts", "data_root": str(tmp_path), "data_format": "csv", "min_categr_count": 1}
    params |= {"feature_cols": [column], "label_col": {"name": "label", "dtype": "float"}}
    params |= {f"{split}_data": str(tmp_path / "a.csv") for split in ("train", "valid", "test")}
    built = build_dataset(params)
    vocabulary = json.loads((tmp_path / "counts" / "feature_vocab.json").read_text())["count"]
    token = {identity: text for text, identity in vocabulary.items()}

    def paper(text):
        if text == "":
            return "missing"
        v = int(text)
        return str(v - 2) if v <= 2 else str(math.floor(math.log(v) ** 2))

    ids = pd.read_parquet(built["train_data"])["count"]
    assert [token[i] for i in ids] == [paper(text) for text in counts * 3]
    assert paper("2") == "0" and paper("3") == "1" and paper("-2") == "-4"
    with pytest.raises(UsageError, match="did you mean 'squared_log'"):
        build_dataset({**params, "dataset_id": "other", "feature_cols": [{**column, "preprocess": "squaredlog"}]})
    assert not (tmp_path / "other" / "feature_map.json").exists()
