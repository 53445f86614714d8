"""Parquet builds, compared with FuxiCTR's."""

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
