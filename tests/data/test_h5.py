"""H5 data sets: writing, reading, feeding, and errors."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.forked_processes import Forked
from helpers.h5_sets import FEATURES, SPLITS, random_columns, read_epoch, rewrite_as_format_1_file, write_split
from helpers.raw_files import write_raw
from helpers.sample_files import SAMPLES, write_sample

from fuxictr_me import UsageError
from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.data import H5DataLoader, InMemoryLoader, build_dataset, build_h5
from fuxictr_me.data.building.count_tokens import count_tokens
from fuxictr_me.data.building.encode_columns import Lookup, pad
from fuxictr_me.data.building.processor import PreparingProcessor
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_file import H5File, checksums
from fuxictr_me.data.h5.h5_writer import H5Writer
from fuxictr_me.data.loaders.window_shuffle import WindowOrder, mixing
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.io.resources import find_bundled_folder


def load_map(folder, **params):
    feature_map = FeatureMap(Path(folder).name, str(folder))
    feature_map.load(str(Path(folder) / "feature_map.json"), params)
    return feature_map


# --- files -------------------------------------------------------------------------------------------


def test_each_field_has_the_smallest_dtype_that_holds_it(feature_map):
    layout = Layout.from_feature_map(feature_map)
    assert {name: place.matrix for name, place in layout.places.items()} == {
        "tiny": "uint8",
        "small": "int16",
        "large": "int32",
        "clicks": "int16",
        "price": "float32",
        "group": "meta",
        "label": "float32",
    }
    assert layout.row_bytes == 1 + (1 + 4) * 2 + 4 + 2 * 4 + 8
    for size, dtype in ((256, "uint8"), (257, "int16"), (2**15, "int16"), (2**15 + 1, "int32"), (2**31 + 1, "int64")):
        assert Layout.from_feature_map(make_feature_map({"f": categorical(size)})).places["f"].matrix == dtype
    assert Layout.from_json(layout.to_json()).places == layout.places


def test_rows_are_read_as_they_were_written(feature_map, columns, tmp_path):
    file = H5File(tmp_path / "train.h5")
    assert file.rows == 1000 and file.layout.places == Layout.from_feature_map(feature_map).places
    for start, stop in ((0, 1000), (0, 0), (3, 4), (69, 141), (999, 1000)):
        for name, values in file.layout.split_columns(file.read(start, stop)).items():
            expected = columns[name][start:stop]
            np.testing.assert_array_equal(values, expected.astype(values.dtype), err_msg=name)
    with h5py.File(tmp_path / "train.h5") as plain:  # h5py alone reads the same
        np.testing.assert_array_equal(plain["int32"][:, 0], columns["large"])


def test_checksums_are_those_of_the_bytes_in_the_file(feature_map, columns, tmp_path):
    writer = H5Writer(tmp_path / "again.h5", Layout.from_feature_map(feature_map), 1000)
    writer.write(Layout.from_feature_map(feature_map).gather(columns, 1000))
    writer.close()
    assert checksums(H5File(tmp_path / "train.h5")) == writer.manifest_entry()["checksums"]
    rewrite_as_format_1_file(tmp_path / "train.h5")
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file["uint8"][500, 0] ^= 1
    changed = checksums(H5File(tmp_path / "train.h5"))
    assert {name for name in changed if changed[name] != writer.manifest_entry()["checksums"][name]} == {"uint8"}


# --- feeding -----------------------------------------------------------------------------------------


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


# --- window shuffle -------------------------------------------------------------------


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


# --- building ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [0, 110])
def test_h5_holds_the_ids_of_the_parquet_build(tmp_path, monkeypatch, block_size):
    params = write_raw(tmp_path)
    parquet = build_dataset(params)
    monkeypatch.setattr("fuxictr_me.data.building.encode_columns.iterate_chunks.__defaults__", (70,))
    h5 = build_h5({**params, "data_format": "h5", "dataset_id": "h5", "data_block_size": block_size})
    feature_map = load_map(tmp_path / "ours" / "h5")
    for split in SPLITS:
        rows = read_epoch(H5DataLoader(feature_map, h5[f"{split}_data"], batch_size=64))
        expected = InMemoryLoader(feature_map, parquet[f"{split}_data"], batch_size=64).columns
        for name, values in expected.items():
            assert torch.equal(rows[name].double(), values.double().float().double()), name
    assert len(list((tmp_path / "ours/h5").glob("train/*.h5"))) == (3 if block_size else 0)


class Reference(PreparingProcessor):
    """Processor that counts tokens as FuxiCTR does, column by column."""

    _collect_statistics = getattr(FeatureProcessor, "_collect_statistics", None)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_bundled_data_set_is_built_and_fed_with_fuxictrs_ids(name, tmp_path):
    entries = yaml.safe_load((find_bundled_folder("dataset_configs") / name / "dataset_config.yaml").read_text())
    folder = json.loads((find_bundled_folder("dataset_configs") / name / "files.json").read_text())["folder"]
    write_sample(name, tmp_path / folder)
    for dataset_id, entry in entries.items():
        paths = {f"{s}_data": str(tmp_path / folder / Path(entry[f"{s}_data"]).name) for s in SPLITS}
        params = {**entry, **paths, "dataset_id": dataset_id, "data_root": str(tmp_path / "data"), "data_format": "h5"}
        group = [c["name"] for c in entry["feature_cols"] if c["type"] == "meta"]
        params["group_id"] = group[0] if group else None
        built = build_h5(params)
        feature_map = load_map(tmp_path / "data" / dataset_id, **params)
        reference = PreparingProcessor(**{**params, "data_root": str(tmp_path / "theirs")})
        lazy = {s: reference.preprocess(reference.read_data(paths[f"{s}_data"])) for s in SPLITS}
        own = {key: value for key, value in params.items() if not key.endswith("_data")}
        reference.fit(lazy["train"], **own)
        for file in ("feature_map.json", "feature_vocab.json"):
            mine, theirs = (tmp_path / where / dataset_id / file for where in ("data", "theirs"))
            assert mine.read_text() == theirs.read_text()
        for split in SPLITS:
            raw = lazy[split].collect()
            columns = raw.to_pandas() if detect_flavour() == "main" else {c: raw[c].to_numpy() for c in raw.columns}
            expected = reference.transform(columns)  # FuxiCTR encodes row by row
            rows = read_epoch(H5DataLoader(feature_map, built[f"{split}_data"], batch_size=64))
            for column in rows:
                np.testing.assert_allclose(rows[column].numpy(), np.array(list(expected[column])), rtol=1e-6)


def test_token_counts_do_not_depend_on_chunks(tmp_path, monkeypatch):
    import polars as pl

    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "word": random.choice(["a", "b", "c", None], 1000).tolist(),
            "number": random.zipf(1.5, 1000),
            "clicks": ["^".join(map(str, random.integers(0, 30, n))) for n in random.integers(1, 7, 1000)],
        }
    )
    monkeypatch.setattr(
        "fuxictr_me.data.building.count_tokens.iterate_chunks", lambda lazy: lazy.collect().iter_slices(37)
    )
    counts, longest = count_tokens(frame.lazy(), {"word": None, "number": None, "clicks": "^"})
    assert counts["word"] == pd.Series(frame["word"].to_list()).value_counts().to_dict()
    assert counts["number"] == pd.Series(frame["number"].to_list()).value_counts().to_dict()
    every = [token for row in frame["clicks"] for token in row.split("^")]
    assert counts["clicks"] == pd.Series(every).value_counts().to_dict()
    assert longest == {"clicks": 6} and count_tokens(frame.lazy(), {}) == ({}, {})


def test_unknown_missing_and_reserved_tokens():
    import polars as pl

    text = Lookup({"a": 1, "b": 2, "__PAD__": 0, "__OOV__": 3})
    assert text(pl.Series(["b", "x", "a", "__PAD__", "__OOV__", None])).tolist() == [2, 3, 1, 0, 3, 3]
    numbers = Lookup({7: 2, -1: 1, 30: 3, "__PAD__": 0, "__OOV__": 4})
    assert numbers(pl.Series([30, 8, -1, 7, -5, 99])).tolist() == [3, 4, 1, 2, 4, 4]
    floats = Lookup({0.5: 1, 2.0: 2, "__PAD__": 0, "__OOV__": 3})
    assert floats(pl.Series([2.0, 0.5, float("nan"), 1.0])).tolist() == [2, 1, 3, 3]


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_padding_equals_fuxictrs(padding):
    from fuxictr.preprocess.tokenizer import pad_sequences

    random = np.random.default_rng(0)
    sequences = [random.integers(1, 50, random.integers(1, 9)).tolist() for _ in range(200)]
    expected = pad_sequences(sequences, maxlen=5, value=0, padding=padding, truncating=padding)
    lengths = np.array([len(s) for s in sequences])
    np.testing.assert_array_equal(pad(np.concatenate(sequences), lengths, 5, padding), expected)


def test_the_manifest_records_the_build(tmp_path):
    params = {**write_raw(tmp_path), "data_format": "h5"}
    build_h5(params)
    manifest = read_manifest(tmp_path / "ours/made")
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == dict.fromkeys(SPLITS, 300)
    for split, entry in manifest["splits"].items():
        stored = entry["files"][f"{split}.h5"]
        assert stored["rows"] == 300 and stored["checksums"] == checksums(H5File(tmp_path / f"ours/made/{split}.h5"))
    assert manifest["made_from"]["settings"]["label_col"] == params["label_col"]
    assert manifest["made_by"].startswith("fuxictr_me ")


@pytest.mark.parametrize("build", [build_dataset, build_h5])
def test_a_changed_config_or_raw_file_causes_a_rebuild_with_a_reason(tmp_path, caplog, build):
    params = {**write_raw(tmp_path), "data_format": "h5" if build is build_h5 else "csv"}
    train = Path(build(params)["train_data"])
    first = train.stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        build(params)
    assert train.stat().st_mtime_ns == first and "exists already and matches these settings and files" in caplog.text
    vocabulary = json.loads((train.parent / "feature_vocab.json").read_text())["user"]
    caplog.clear()
    build({**params, "min_categr_count": 9})
    assert "is rebuilt: min_categr_count 'not set' is now 9" in caplog.text
    assert len(json.loads((train.parent / "feature_vocab.json").read_text())["user"]) < len(vocabulary)
    caplog.clear()
    frame = pd.read_csv(tmp_path / "valid.csv")
    frame[:200].to_csv(tmp_path / "valid.csv", index=False)
    build({**params, "min_categr_count": 9})
    assert "is rebuilt: the raw valid data" in caplog.text
    if build is build_h5:
        assert H5File(train.parent / "valid.h5").rows == 200


def test_a_parquet_set_without_manifest_is_used_with_a_warning(tmp_path, caplog):
    params = write_raw(tmp_path)
    build_dataset(params)
    (tmp_path / "ours/made/manifest.json").unlink()
    build_dataset({**params, "min_categr_count": 9})
    assert "it cannot be known whether it fits these settings" in caplog.text


def test_a_killed_build_leaves_nothing_and_the_next_is_complete(tmp_path):
    params = {**write_raw(tmp_path, rows=3000), "data_format": "h5"}
    (tmp_path / "params.json").write_text(json.dumps(params))
    code = (
        "import json, sys, time; from fuxictr_me.data import build_h5\n"
        "from fuxictr_me.data.building.split_writer import H5SplitWriter\n"
        "write = H5SplitWriter.write\n"
        "def slow(self, matrices):\n"
        f"    write(self, matrices); open({str(tmp_path / 'writing')!r}, 'w').close(); time.sleep(60)\n"
        "H5SplitWriter.write = slow\n"
        f"build_h5(json.load(open({str(tmp_path / 'params.json')!r})), progress=False)"
    )
    child, deadline = Forked(code=code), time.monotonic() + 60
    while not (tmp_path / "writing").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    left = list((tmp_path / "ours/made").glob(".building-*"))
    assert left and not (tmp_path / "ours/made/feature_map.json").exists()
    child.kill()
    assert child.returncode == -signal.SIGKILL
    assert not list((tmp_path / "ours/made").glob("*.h5"))
    build_h5(params)
    assert sorted(p.name for p in (tmp_path / "ours/made").iterdir()) == sorted(
        ["feature_map.json", "feature_vocab.json", "feature_processor.pkl", "manifest.json"]
        + [f"{split}.h5" for split in SPLITS]
    )


def test_concurrent_builders_of_one_set_wait_for_each_other(tmp_path):
    params = {**write_raw(tmp_path), "data_format": "h5"}
    results, errors = [], []

    def one():
        try:
            results.append(build_h5(params, progress=False))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and results[0] == results[1] == results[2]
    assert H5File(results[0]["train_data"]).rows == 300


def test_a_full_disk_is_a_one_line_error_and_leaves_nothing(tmp_path, monkeypatch):
    params = {**write_raw(tmp_path), "data_format": "h5"}

    def full(self, key, value):
        raise OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device', x)")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    with pytest.raises(OSError, match=r"train.h5 cannot be written: No space left on device$"):
        build_h5(params)
    assert list((tmp_path / "ours/made").iterdir()) == []


# --- errors ---------------------------------------------------------------------------------


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def rewrite(feature_map, path, **changed):
    """Write the split again with changed columns, without the checks of ``Layout.gather``."""
    columns = random_columns(feature_map, 1000) | changed
    layout = Layout.from_feature_map(feature_map)
    matrices = layout.allocate(1000)
    for name, place in layout.places.items():
        part = matrices[place.matrix][:, place.start : place.stop]
        part[...] = np.asarray(columns[name]).reshape(1000, -1)
    path.unlink()
    writer = H5Writer(path, layout, 1000)
    writer.write(matrices)
    writer.close()


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_rows_with_wrong_values_are_refused(feature_map, columns, tmp_path, placement):
    path = tmp_path / "train.h5"

    def message(**changed):
        rewrite(feature_map, path, **changed)
        with pytest.raises(UsageError) as caught:
            list(H5DataLoader(feature_map, path, batch_size=64, data_placement=placement, window_rows=150))
        return str(caught.value)

    late = np.zeros(1000, int)
    late[990] = 3000
    assert "field 'small' has ids from 0 to 3000, but its vocabulary holds 0 to 2999" in message(small=late)
    late[990] = -1
    assert "field 'large' has ids from -1 to 0, but its vocabulary holds 0 to 199999" in message(large=late)
    prices = np.zeros(1000)
    prices[3] = np.nan
    assert "column 'price' has 1 values that are NaN or infinite" in message(price=prices)
    prices[3] = np.inf
    assert "column 'price' has 1 values that are NaN or infinite" in message(price=prices)
    labels = np.zeros(1000)
    labels[7:9] = 2
    assert "label 'label' must be 0 or 1 for binary_classification, found 2 in 2 rows" in message(label=labels)
    rewrite(feature_map, path, label=labels)
    assert len(read_epoch(H5DataLoader(feature_map, path, batch_size=64, task="regression"))["label"]) == 1000


def test_errors_name_damaged_files(feature_map, columns, tmp_path):
    path = tmp_path / "train.h5"
    content = path.read_bytes()

    def message(**more):
        with pytest.raises(UsageError) as caught:
            H5DataLoader(feature_map, path, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path.write_bytes(content[: len(content) // 2])
    assert "train.h5 is not a valid H5 file" in message() or "is truncated" in message()
    path.write_bytes(b"")
    assert "is not a valid H5 file" in message()
    path.write_bytes(b"label,user\n0,1\n" * 100)
    assert "is not a valid H5 file" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.pop("int16"))
    assert "train.h5 is damaged: the checksums at its end are gone" in message()
    path.write_bytes(content)
    rewrite_as_format_1_file(path)
    content = path.read_bytes()
    damage(path, lambda file: file.pop("int16"))
    assert "dataset 'int16' is missing" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.attrs.modify("fuxictr_me", 99))
    assert "is of format 99; this version reads 1 and 2" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.attrs.modify("rows", 2000))
    assert "expected (2000, 1)" in message()
    other = make_feature_map({**FEATURES, "smal": categorical(9)})
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"unknown column .* 'smal'; did you mean 'small'"):
        H5DataLoader(other, path)
    longer = make_feature_map({"clicks": sequence(3000, 9)})
    with pytest.raises(UsageError, match="column 'clicks' is 4 wide, the feature map says 9"):
        H5DataLoader(longer, path)
    assert "batch_size must be an integer of 1 or more, got 0" in message(batch_size=0)
    assert "unknown data_placement 'gpu'" in message(data_placement="gpu")
    assert "window_rows must be an integer of 1 or more, got 0" in message(window_rows=0)
    assert "needs a GPU, and gpu is -1" in message(data_placement="device")


def test_a_file_that_shrinks_while_it_is_read_is_refused(feature_map, columns, tmp_path):
    loader = H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=50, data_placement="stream", window_rows=100)
    os.truncate(tmp_path / "train.h5", 3000)
    with pytest.raises(UsageError, match="has become shorter while it was read"):
        list(loader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_one_line_error(feature_map, columns, tmp_path):
    (tmp_path / "train.h5").chmod(0)
    with pytest.raises(UsageError, match="may not be read: permission denied"):
        H5DataLoader(feature_map, tmp_path / "train.h5")


def test_an_empty_split_is_refused(feature_map, tmp_path):
    H5Writer(tmp_path / "valid.h5", Layout.from_feature_map(feature_map), 0).close()
    with pytest.raises(UsageError, match="the valid split holds no rows"):
        H5DataLoader(feature_map, tmp_path / "valid.h5", split="valid")
    params = {**write_raw(tmp_path), "data_format": "h5"}
    (tmp_path / "valid.csv").write_text((tmp_path / "valid.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(UsageError, match="the valid split holds no rows"):
        build_h5(params)
    assert list((tmp_path / "ours/made").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"small": np.zeros(999, int)}, "column 'small' has shape (999,), expected (1000,)"),
        ({"clicks": np.zeros((1000, 3), int)}, "column 'clicks' has shape (1000, 3), expected (1000, 4)"),
        ({"small": np.array(["a"] * 1000)}, "column 'small' holds <U1, not numbers"),
        ({"tiny": np.full(1000, 300)}, "column 'tiny' has ids from 300 to 300, past its vocabulary"),
        ({"tiny": np.full(1000, 0.5)}, "column 'tiny' holds ids that are not whole numbers"),
        ({"tiny": np.full(1000, np.nan)}, "column 'tiny' holds ids that are not whole numbers"),
    ],
)
def test_columns_that_do_not_fit_the_layout_are_refused(feature_map, changed, message):
    with pytest.raises(UsageError) as caught:
        Layout.from_feature_map(feature_map).gather(random_columns(feature_map, 1000) | changed, 1000)
    assert message in str(caught.value)


def test_a_writer_counts_its_rows(feature_map, tmp_path):
    layout = Layout.from_feature_map(feature_map)
    matrices = layout.gather(random_columns(feature_map, 10), 10)
    writer = H5Writer(tmp_path / "a.h5", layout, 15)
    writer.write(matrices)
    with pytest.raises(UsageError, match="more than the 15 rows that were counted"):
        writer.write(matrices)
    with pytest.raises(UsageError, match="10 rows, 15 were counted before"):
        writer.close()


# --- H5 files of FuxiCTR ----------------------------------------------------------------------------


def test_h5_files_of_fuxictr_2_0_to_2_1_are_read(feature_map, tmp_path):
    parts = [random_columns(feature_map, 100 + i, seed=i) for i in range(2)]
    for i, columns in enumerate(parts):
        (tmp_path / "train").mkdir(exist_ok=True)
        with h5py.File(tmp_path / f"train/part_{i}.h5", "w") as file:
            for name, values in columns.items():
                dtype = {"clicks": np.int32, "label": np.float64, "price": np.float64}.get(name, np.int64)
                file[name] = values.astype(dtype)
    for placement in ("memory", "stream"):
        rows = read_epoch(
            H5DataLoader(feature_map, tmp_path / "train", batch_size=64, data_placement=placement, window_rows=60)
        )
        for name, values in rows.items():
            expected = np.concatenate([columns[name] for columns in parts])
            np.testing.assert_array_equal(values.numpy(), expected.astype(values.numpy().dtype), err_msg=name)
    damage(tmp_path / "train/part_1.h5", lambda file: file.pop("price"))
    with pytest.raises(UsageError, match=r"part_1.h5.* 'price'"):
        H5DataLoader(feature_map, tmp_path / "train")
    damage(tmp_path / "train/part_1.h5", lambda file: file.create_dataset("price", data=np.zeros(5)))
    with pytest.raises(UsageError, match="columns of unequal length: 'price' 5, 'tiny' 101 rows"):
        H5DataLoader(feature_map, tmp_path / "train")


def test_h5_files_of_fuxictr_1_are_read(tmp_path):
    feature_map = make_feature_map({"user": categorical(300), "clicks": sequence(50, 3), "item": categorical(70_000)})
    columns = random_columns(feature_map, 200)
    ordered = [columns[name].reshape(200, -1) for name in ("user", "clicks", "item", "label")]
    for part, (start, stop) in enumerate(((0, 120), (120, 200))):
        with h5py.File(tmp_path / f"train_part_{part}.h5", "w") as file:
            file["data"] = np.hstack(ordered)[start:stop].astype(np.float64)
    rows = read_epoch(H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64))
    for name, values in rows.items():
        np.testing.assert_array_equal(values.numpy(), columns[name].astype(values.numpy().dtype), err_msg=name)
    narrow = make_feature_map({"user": categorical(300)})
    with pytest.raises(UsageError, match=r"'data' has shape \(120, 6\), .* are 2 wide"):
        H5DataLoader(narrow, tmp_path / "train.h5")


# --- comparison with FuxiCTR's loader -------------------------------------------------------------------------


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


@pytest.mark.slow
@pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")
def test_ids_equal_those_of_fuxictrs_main_branch():
    """Without the data set whose sequences fail in FuxiCTR's main with numpy 2."""
    pytest.importorskip("keras_preprocessing", reason="FuxiCTR's main branch needs keras_preprocessing")
    environment = {**os.environ, "PYTHONPATH": os.environ["FUXICTR_SRC"]}
    select = ["-k", "every_data_set and not kuaivideo or says_what_was_built or killed", "-W", "ignore"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, *select]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
