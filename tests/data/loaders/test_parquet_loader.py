"""Batches of parquet data sets."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from helpers.feature_maps import categorical, make_feature_map, sequence

from fuxictr_me import UsageError
from fuxictr_me.data import InMemoryLoader


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
