"""Batches of H5 data sets, also compared with FuxiCTR's npz loader."""

import logging
import threading
import time

import numpy as np
import pytest
import torch
from helpers.feature_maps import make_feature_map
from helpers.h5_sets import FEATURES, read_epoch, write_split

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader
from fuxictr_me.data.loaders.window_shuffle import WindowOrder, mixing


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("batch_size", [1, 64, 100, 333, 1000, 5000])
def test_batches_without_shuffle_hold_the_rows_in_order(feature_map, columns, tmp_path, placement, batch_size):
    loader = H5DataLoader(
        feature_map, str(tmp_path / "train.h5"), batch_size=batch_size, data_placement=placement, window_rows=150
    )
    assert (loader.num_samples, loader.num_blocks, loader.placement) == (1000, 1, placement)
    rows = read_epoch(loader)
    assert list(rows) == [*FEATURES, "label"]
    for name, values in rows.items():
        assert values.dtype == (torch.float32 if name in ("price", "label") else torch.int64), name
        np.testing.assert_array_equal(values.numpy(), columns[name].astype(values.numpy().dtype), err_msg=name)


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("batch_size", [64, 333])
def test_epochs_hold_each_row_once_in_an_order_set_by_the_seed(feature_map, columns, tmp_path, placement, batch_size):
    def epochs(seed):
        loader = H5DataLoader(
            feature_map,
            str(tmp_path / "train.h5"),
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            data_placement=placement,
            window_rows=150,
        )
        return [read_epoch(loader) for _ in range(2)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    row_of = {price: row for row, price in enumerate(columns["price"].astype(np.float32))}
    orders = []
    for rows in (*first, *other):
        order = [row_of[float(price)] for price in rows["price"]]
        assert sorted(order) == list(range(1000))
        for name, values in rows.items():  # rows stay whole
            np.testing.assert_array_equal(values.numpy(), columns[name][order].astype(values.numpy().dtype), name)
        orders.append(order)
    assert len({tuple(order) for order in orders}) == 4
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("shuffle", [True, False])
def test_row_numbers_select_the_batches_of_the_same_epoch(feature_map, columns, tmp_path, shuffle):
    loaders = [
        H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64, shuffle=shuffle, data_placement="memory")
        for _ in range(2)
    ]
    assert all(loader.holds_rows_on_device for loader in loaders)
    for _ in range(2):
        selected = [loaders[0].select(rows) for rows in loaders[0].row_batches()]
        batches = list(loaders[1])
        assert len(selected) == len(batches) == 16
        for mine, theirs in zip(selected, batches, strict=True):
            assert list(mine) == list(theirs)
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_streamed_or_shared_rows_are_not_selected_on_the_device(feature_map, columns, tmp_path):
    for options in ({"data_placement": "stream"}, {"data_placement": "memory", "share": (0, 2)}):
        assert not H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64, **options).holds_rows_on_device


def test_an_interrupted_epoch_leaves_no_thread_and_the_next_is_complete(feature_map, columns, tmp_path):
    loader = H5DataLoader(
        feature_map, str(tmp_path / "train.h5"), batch_size=10, shuffle=True, data_placement="stream", window_rows=150
    )
    for _ in range(3):
        for batch in loader:
            assert len(batch["label"]) == 10
            break
    deadline = time.time() + 10
    while any(t.name.startswith("h5-reader") for t in threading.enumerate()) and time.time() < deadline:
        time.sleep(0.05)
    assert not any(t.name.startswith("h5-reader") for t in threading.enumerate())
    assert len(read_epoch(loader)["label"]) == 1000


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_blocks_of_a_folder_are_read_as_one_split(feature_map, tmp_path, placement):
    parts = [write_split(feature_map, tmp_path / f"train/part_{i}.h5", 90 + i, seed=i) for i in range(12)]  # 10 after 9
    loader = H5DataLoader(feature_map, tmp_path / "train", batch_size=64, data_placement=placement, window_rows=100)
    assert loader.num_blocks == 12 and loader.num_samples == sum(range(90, 102))
    rows = read_epoch(loader)
    for name in ("large", "clicks", "label"):
        expected = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(rows[name].numpy(), expected.astype(rows[name].numpy().dtype))


def test_a_path_rewritten_by_fuxictr_leads_to_the_h5_file_beside_it(feature_map, columns, tmp_path):
    for path in ("train", "train.parquet", "train.h5"):
        assert H5DataLoader(feature_map, str(tmp_path / path)).num_samples == 1000
    with pytest.raises(UsageError, match=r"no H5 data at .*valid.parquet"):
        H5DataLoader(feature_map, str(tmp_path / "valid.parquet"))


def test_a_feature_map_with_fewer_fields_reads_only_these(columns, tmp_path):
    narrow = make_feature_map({"large": FEATURES["large"], "clicks": FEATURES["clicks"]})
    rows = read_epoch(H5DataLoader(narrow, tmp_path / "train.h5", batch_size=64))
    assert list(rows) == ["large", "clicks", "label"]
    np.testing.assert_array_equal(rows["clicks"].numpy(), columns["clicks"])


def test_auto_holds_rows_in_memory_if_possible_and_streams_otherwise(
    feature_map, columns, tmp_path, monkeypatch, caplog
):
    with caplog.at_level(logging.INFO):
        assert H5DataLoader(feature_map, tmp_path / "train.h5").placement == "memory"
    assert "1,000 rows" in caplog.text and "memory" in caplog.text
    monkeypatch.setattr(
        "fuxictr_me.data.loaders.h5_loader.free_memory", lambda: 2 * 1000 * 31
    )  # half of it is not enough
    assert H5DataLoader(feature_map, tmp_path / "train.h5").placement == "stream"


@pytest.mark.parametrize(
    ("rows", "block", "window"), [(1000, 64, 200), (1000, 1000, 1000), (7, 100, 100), (100, 1, 10)]
)
def test_windows_cover_each_row_once(rows, block, window):
    order = WindowOrder(rows, block, window, shuffle=True)
    assert sorted(order.rows(0, 0)) == list(range(rows))
    assert max(sum(b - a for a, b in ranges) for ranges, _ in order.windows(0, 0)) <= max(
        block, window // block * block
    )
    assert list(WindowOrder(rows, block, window, shuffle=False).rows(0, 0)) == list(range(rows))


def test_mixing_measures_how_far_from_uniform_an_order_is():
    rows, batch = 200_000, 500
    uniform = mixing(np.random.default_rng(0).permutation(rows), batch)
    assert uniform > 0.85
    assert mixing(np.arange(rows), batch) < 0.01
    by_blocks = [mixing(WindowOrder(rows, block, 50_000, True).rows(0, 0), batch) for block in (5000, 500, 50)]
    assert by_blocks[0] < by_blocks[1] < by_blocks[2] and by_blocks[2] > 0.5
    one_window = mixing(WindowOrder(rows, 500, rows, True).rows(0, 0), batch)
    assert one_window > 0.85


def test_batches_equal_those_of_fuxictrs_npz_loader(tmp_path):
    from fuxictr.pytorch.dataloaders import RankDataLoader

    feature_map = make_feature_map({name: FEATURES[name] for name in ("tiny", "small", "large", "clicks", "price")})
    columns = write_split(feature_map, tmp_path / "train.h5", 500)
    np.savez(tmp_path / "train.npz", **columns)

    def theirs(shuffle):
        options = {"batch_size": 64, "shuffle": shuffle, "num_workers": 0, "data_format": "npz"}
        loader = RankDataLoader(feature_map, stage="train", train_data=str(tmp_path / "train.npz"), **options)
        return (loader.make_iterator() if hasattr(loader, "make_iterator") else loader)[0]

    mine = H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64)
    assert len(mine) == len(theirs(False))
    for a, b in zip(mine, theirs(False), strict=True):
        assert list(a) == list(b)
        for name in a:
            assert a[name].shape == b[name].shape
            np.testing.assert_array_equal(a[name].float().numpy(), b[name].float().numpy(), err_msg=name)

    def rows(loader):
        whole = [
            torch.cat([batch[name].float().reshape(len(batch["label"]), -1) for name in batch], 1) for batch in loader
        ]
        return sorted(map(tuple, torch.cat(whole).tolist()))

    assert rows(H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64, shuffle=True)) == rows(theirs(True))
