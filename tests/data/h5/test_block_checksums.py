"""Checksums at the end of an H5 file: their values and kinds; and blocks are read only once."""

import hashlib
import json
import os
import struct
import zlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
import xxhash
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.h5_sets import write_split

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.block_checksums import RunningChecksums
from fuxictr_me.data.h5.h5_file import H5File
from fuxictr_me.data.loaders.window_shuffle import WindowOrder
from fuxictr_me.data.row_checks import reduce_columns

FEATURES = {"tiny": categorical(200), "large": categorical(200_000), "price": {"source": "", "type": "numeric"}}
WIDE = {**FEATURES, "clicks": sequence(200_000, 60)}  # 253 bytes a row: blocks of less than 1,024 rows


def footer(content):
    """Return (HDF5's bytes, header, checksums) of a file, read without fuxictr-me."""
    magic, length, digest = struct.unpack("<8sQ16s", content[-32:])
    body = content[-32 - length : -32]
    assert magic == b"FXMESUM1" and hashlib.blake2b(body, digest_size=16).digest() == digest
    header, _, sums = body.partition(b"\n")
    return content[: -32 - length], json.loads(header), sums


def with_footer(hdf5, header, sums):
    body = json.dumps(header).encode() + b"\n" + sums
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return hdf5 + body + struct.pack("<8sQ16s", b"FXMESUM1", len(body), digest)


def block_sums(path, header, function):
    """Yield the checksums of all blocks of all matrices, in the order of the layout, as h5py reads them."""
    matrices = dict.fromkeys(place[0] for place in json.loads(header["layout"]).values())
    with h5py.File(path) as file:
        for matrix in matrices:
            rows, size = file[matrix][:], header["block_rows"]
            yield from (function(rows[start : start + size].tobytes()) for start in range(0, len(rows), size))


def rewrite_with_crc32(path):
    """Rewrite a file as earlier versions wrote it, with CRC-32 of each 1,024 rows and without the name of the kind."""
    hdf5, header, _ = footer(path.read_bytes())
    del header["checksum"]
    header["block_rows"] = 1024
    sums = b"".join(struct.pack("<I", crc) for crc in block_sums(path, header, zlib.crc32))
    path.write_bytes(with_footer(hdf5, header, sums))


@pytest.mark.parametrize("features", [FEATURES, WIDE], ids=["narrow", "wide"])
def test_the_trailer_holds_xxh3_of_each_block(tmp_path, features):
    feature_map, path = make_feature_map(features), tmp_path / "train.h5"
    write_split(feature_map, path, 2500)
    _, header, sums = footer(path.read_bytes())
    assert header["checksum"] == "xxh3_64"
    row_bytes = Layout.from_feature_map(feature_map).row_bytes
    assert header["block_rows"] == (1024 if features is FEATURES else 2**17 // row_bytes)
    expected = list(block_sums(path, header, lambda block: xxhash.xxh3_64(block).intdigest()))
    assert np.frombuffer(sums, "<u8").tolist() == expected


def test_running_checksums_do_not_depend_on_pieces():
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows, size = rng.integers(0, 9, (rng.integers(0, 200), 3)).astype(np.int16), int(rng.integers(1, 40))
        running, at = RunningChecksums(size), 0
        while at < len(rows):
            piece = int(rng.integers(0, 90))
            running.update(rows[at : at + piece])
            at += piece
        blocks = (rows[start : start + size].tobytes() for start in range(0, len(rows), size))
        assert running.result().tolist() == [xxhash.xxh3_64(block).intdigest() for block in blocks]


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_files_with_crc32_are_read_and_checked(tmp_path, placement, caplog):
    feature_map, path = make_feature_map(WIDE), tmp_path / "train.h5"
    columns = write_split(feature_map, path, 2500)
    rewrite_with_crc32(path)

    def feed():
        return list(H5DataLoader(feature_map, path, batch_size=300, data_placement=placement))

    for name in ("large", "clicks"):
        np.testing.assert_array_equal(torch.cat([batch[name] for batch in feed()]).numpy(), columns[name])
    assert "not protected" not in caplog.text
    at = H5File(path)._offsets["int32"] + 2000 * 61 * 4  # row 2,000, between two blocks' ends
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"train\.h5 is damaged: rows 1,024 to 2,047 of 'int32' are not as they were"):
        feed()


def test_errors_name_checksums_of_an_unknown_kind(tmp_path):
    feature_map, path = make_feature_map(FEATURES), tmp_path / "train.h5"
    write_split(feature_map, path, 50)
    hdf5, header, sums = footer(path.read_bytes())
    path.write_bytes(with_footer(hdf5, {**header, "checksum": "sha3"}, sums))
    with pytest.raises(UsageError, match=r"train\.h5 has checksums of the kind 'sha3', .* knows crc32 and xxh3_64"):
        H5File(path)
    for wrong in (
        {"checksum": ["crc32"]},
        {"checksum": None},
        {"checksum": "crc32"},  # which are half as long
        {"block_rows": 0},
        {"block_rows": -5},
        {"block_rows": 2.5},
        {"rows": -50},
        {"rows": 10**30},
        {"offsets": dict.fromkeys(header["offsets"], 0.5)},
        {"offsets": []},
    ):
        path.write_bytes(with_footer(hdf5, {**header, **wrong}, sums))
        with pytest.raises(
            UsageError, match=r"train\.h5 (is damaged: what its end|has checksums of the kind None)"
        ) as caught:
            H5File(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(with_footer(hdf5, [header], sums))
    with pytest.raises(UsageError, match=r"train\.h5 is damaged"):
        H5File(path)


# --- reads ------------------------------------------------------------------------------------------


@pytest.fixture
def read_ranges(monkeypatch):
    """Return a list to which each read of a file adds (inode, first byte, end)."""
    ranges, preadv = [], os.preadv

    def recorded(descriptor, buffers, at):
        ranges.append((os.fstat(descriptor).st_ino, at, at + sum(len(buffer) for buffer in buffers)))
        return preadv(descriptor, buffers, at)

    monkeypatch.setattr(os, "preadv", recorded)
    return ranges


@pytest.mark.parametrize("features", [FEATURES, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_streaming_reads_each_row_once(tmp_path, read_ranges, features, shuffle):
    """In the first epoch, in which checksums are compared, and in later ones; in one file and in several."""
    feature_map = make_feature_map(features)
    write_split(feature_map, tmp_path / "train.h5", 5000)
    parts = [write_split(feature_map, tmp_path / f"valid/part_{i}.h5", 1500, seed=i) for i in range(3)]
    row_bytes = Layout.from_feature_map(feature_map).row_bytes
    for path, rows in ((tmp_path / "train.h5", 5000), (tmp_path / "valid", 4500)):
        loader = H5DataLoader(feature_map, path, batch_size=600, shuffle=shuffle, data_placement="stream")
        for _ in range(2):
            read_ranges.clear()
            fed = torch.cat([batch["large"] for batch in loader])
            assert sum(stop - start for _, start, stop in read_ranges) == rows * row_bytes
            ordered = sorted(read_ranges)
            assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(ordered))
    assert sorted(fed.tolist()) == sorted(np.concatenate([part["large"] for part in parts]).tolist())


def test_members_of_a_share_read_at_most_one_block_more_at_each_end(tmp_path, read_ranges):
    feature_map = make_feature_map(FEATURES)
    write_split(feature_map, tmp_path / "train.h5", 20_000)
    row_bytes = Layout.from_feature_map(feature_map).row_bytes
    for member in range(3):
        options = {"batch_size": 600, "shuffle": True, "data_placement": "stream", "share": (member, 3)}
        loader = H5DataLoader(feature_map, tmp_path / "train.h5", **options)
        read_ranges.clear()
        own = sum(len(batch["label"]) for batch in loader)
        total = sum(stop - start for _, start, stop in read_ranges)
        assert own * row_bytes <= total <= (own + 2 * 1024) * row_bytes


@pytest.mark.parametrize("origins", [(0,), (-30, 100, 470), (0, 64, 64, 500), (-64, 999, 5000)])
def test_blocks_are_counted_anew_at_each_origin(origins):
    order = WindowOrder(1000, 64, 200, True, origins)
    assert sorted(order.rows(0, 0).tolist()) == list(range(1000))
    grid = {
        o + 64 * i for o, end in zip(origins, (*origins[1:], 1000), strict=True) for i in range(-(-(end - o) // 64))
    }
    for ranges, _ in order.windows(0, 0):
        assert all(start in grid or start == 0 for start, _ in ranges)
        assert all(stop - start <= 64 for start, stop in ranges)


def test_the_order_of_one_file_equals_that_of_earlier_versions():
    """One generator shuffles blocks and then the rows of each window, so that seeds give the same batches as before."""
    random = np.random.default_rng([7, 3])
    starts = np.arange(0, 1000, 64)
    random.shuffle(starts)
    expected = []
    for first in range(0, len(starts), 3):
        rows = np.concatenate([np.arange(start, min(start + 64, 1000)) for start in starts[first : first + 3]])
        expected += rows[random.permutation(len(rows))].tolist()
    assert WindowOrder(1000, 64, 200, True).rows(7, 3).tolist() == expected


@pytest.mark.parametrize("width", [1, 3, 39, 2000])
def test_reduce_columns_equals_numpys_reduction(width):
    rng = np.random.default_rng(0)
    for rows in (1, 5, 1023, 1025):
        values = rng.normal(size=(rows, width)).astype(np.float32)
        for function in (np.minimum, np.maximum):
            np.testing.assert_array_equal(reduce_columns(function, values), function.reduce(values, axis=0))
        values[rows // 2, width // 2] = np.nan
        assert np.isnan(reduce_columns(np.minimum, values)).tolist() == [i == width // 2 for i in range(width)]
