"""Splits that several processes share, compared with plain loops over lanes, batches and rows."""

import logging

import numpy as np
import pytest
import torch
from helpers.feature_maps import categorical, make_feature_map, sequence

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader, RankShares
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_writer import H5Writer
from fuxictr_me.data.h5.split_rows import SplitRows

FEATURES = {
    "row": categorical(3000),
    "clicks": sequence(3000, 4),
    "price": {"source": "", "type": "numeric"},
    "group": {"type": "meta"},
}
# rows and batch size: B is 64, a multiple of it, not one, less; N is a multiple of B, less, or leaves a small rest
SHAPES = [(1000, 64), (640, 128), (1000, 100), (777, 10), (1000, 1000), (30, 50), (103, 10), (101, 7), (3, 5), (6, 5)]
MEMBERS = (1, 2, 3, 5)


@pytest.fixture
def feature_map():
    return make_feature_map(FEATURES)


@pytest.fixture
def load(feature_map, tmp_path):
    """Return a function that loads a split whose row i holds i in each column."""

    def loader(rows, batch_size, share=None, **more):
        path = tmp_path / f"{rows}.h5"
        if not path.exists():
            layout, i = Layout.from_feature_map(feature_map), np.arange(rows)
            clicks = np.stack([i, i + 1, i + 2, i + 3], axis=1)
            columns = {"row": i, "clicks": clicks, "price": i / 2, "group": i + 2**40, "label": i % 2}
            writer = H5Writer(path, layout, rows)
            writer.write(layout.gather(columns, rows))
            writer.close()
        more = {"data_placement": "memory", "seed": 2024, **more}
        return H5DataLoader(feature_map, path, batch_size=batch_size, share=share, **more)

    return loader


def rows_per_batch(loader):
    """Return the rows of each batch of an epoch, after a check of their columns."""
    batches = list(loader)
    for batch in batches:
        i = batch["row"]
        assert torch.equal(batch["clicks"], i[:, None] + torch.arange(4))
        assert torch.equal(batch["price"], i / 2) and torch.equal(batch["label"], (i % 2).float())
        assert torch.equal(batch["group"], i + 2**40)
    return [batch["row"].tolist() for batch in batches]


def flatten(lists):
    return [row for rows in lists for row in rows]


def join_parts(members):
    """Join the parts of each batch, in the order of members."""
    return [flatten(parts) for parts in zip(*members, strict=True)]


# --- the definition, in loops --------------------------------------------------------------------------


def rows_of_lane(v, n, V):
    """Return c_v(n), the number of integers 1 ... n in (vn/V, (v+1)n/V]."""
    return sum(v * n < k * V <= (v + 1) * n for k in range(1, n + 1))


def batches_by_definition(N, B, V, seed=None, epoch=None):
    """Return the rows of each lane in each batch, [batch][lane] -> list."""
    sizes = []
    left = N
    while left:
        sizes.append(min(B, left))
        left -= sizes[-1]
    batches, start = [[] for _ in sizes], 0
    for v in range(V):
        pieces = [rows_of_lane(v, n, V) for n in sizes]
        lane = np.arange(start, start + sum(pieces))
        start += len(lane)
        if seed is not None:
            number = np.random.SeedSequence([seed, epoch, v]).generate_state(1, np.uint64)[0] // 2
            generator = torch.Generator().manual_seed(int(number))
            lane = lane[torch.randperm(len(lane), generator=generator).numpy()]
        at = 0
        for i, n in enumerate(pieces):
            batches[i].append(lane[at : at + n].tolist())
            at += n
    assert start == N
    return batches


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize(("N", "B"), SHAPES)
def test_shuffled_batches_follow_the_definition(load, N, B, members):
    if members > B:
        pytest.skip("refused")
    for g in range(members):
        loader = load(N, B, (g, members), shuffle=True, seed=7)
        first, last = 64 * g // members, 64 * (g + 1) // members
        for epoch in range(2):
            pieces = batches_by_definition(N, B, 64, 7, epoch)
            assert rows_per_batch(loader) == [flatten(batch[first:last]) for batch in pieces]
        own = [row for batch in batches_by_definition(N, B, 64) for lane in batch[first:last] for row in lane]
        assert sorted(own) == list(loader.rank_shares.rows)


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize(("N", "B"), SHAPES)
def test_without_shuffle_the_members_rows_are_in_the_order_of_the_file(load, N, B, members, placement):
    if members > B:
        pytest.skip("refused")
    pieces = batches_by_definition(N, B, members)
    found = []
    for g in range(members):
        loader = load(N, B, (g, members), data_placement=placement, window_rows=30)
        assert loader.rank_shares.order(0, 0, "cpu") is None
        batches = rows_per_batch(loader)
        assert batches == [batch[g] for batch in pieces]
        found += flatten(batches)
        assert flatten(batches) == list(loader.rank_shares.rows)
    assert found == list(range(N))


# --- the same batches for any number of members ----------------------------------------------------------


@pytest.mark.parametrize(("N", "B"), SHAPES)
def test_batches_are_the_same_for_any_number_of_members(load, N, B):
    def epochs(members, seed):
        loaders = [load(N, B, (g, members), shuffle=True, seed=seed) for g in range(members)]
        return [join_parts([rows_per_batch(loader) for loader in loaders]) for _ in range(2)]

    one, other = epochs(1, seed=1), epochs(1, seed=2)
    for epoch in (*one, *other):
        assert [len(batch) for batch in epoch] == [B] * (N // B) + [N % B] * (N % B > 0)
        assert sorted(flatten(epoch)) == list(range(N))
    if N > 64:  # else a lane has one row
        orders = [tuple(flatten(epoch)) for epoch in (*one, *other)]
        assert len(set(orders)) == 4 and tuple(range(N)) not in orders
    for members in MEMBERS[1:]:
        if members <= B:
            assert epochs(members, seed=1) == one


def test_a_batch_has_as_many_rows_of_every_64th_of_the_file(load):
    for batch in rows_per_batch(load(1280, 128, (0, 1), shuffle=True)):
        assert [row // 20 for row in batch] == [lane for lane in range(64) for _ in range(2)]


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("N", "B"), SHAPES)
def test_parts_of_batches_have_the_announced_sizes(load, N, B, shuffle, placement):
    for members in MEMBERS:
        if members > B:
            continue
        ends = [0] * -(-N // B)
        for g in range(members):
            loader = load(N, B, (g, members), shuffle=shuffle, data_placement=placement, window_rows=30)
            assert loader.num_samples == N and len(loader) == len(loader.rank_shares) == len(ends)
            batches = rows_per_batch(loader)
            for i, batch in enumerate(batches):
                total, start, stop = loader.rank_shares.part(i)
                assert (total, start, stop - start) == (min(B, N - i * B), ends[i], len(batch))
                ends[i] = stop
        assert ends == [min(B, N - i * B) for i in range(len(ends))]


@pytest.mark.parametrize("shuffle", [True, False])
def test_with_two_rows_per_member_each_member_has_a_row_in_each_full_batch(shuffle):
    for members in range(1, 81):
        for B in (2 * members, 2 * members + 1, 3 * members - 1):
            _, starts, stops = zip(
                *(RankShares(B, B, g, members, shuffle).part(0) for g in range(members)), strict=True
            )
            assert all(a < b for a, b in zip(starts, stops, strict=True))
            assert (starts[0], stops[-1]) == (0, B) and starts[1:] == stops[:-1]


def test_more_members_than_lanes_are_allowed(load):
    loaders = [load(1000, 80, (g, 70), shuffle=True) for g in range(70)]
    epoch = join_parts([rows_per_batch(loader) for loader in loaders])
    assert epoch == [flatten(batch) for batch in batches_by_definition(1000, 80, 70, 2024, 0)]
    assert sorted(flatten(epoch)) == list(range(1000))


# --- streamed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize(("rows", "window_rows"), [(77, 1), (777, 30), (777, 5000)])
def test_streamed_members_yield_each_row_once(load, members, rows, window_rows):
    def epochs(seed):
        more = {"shuffle": True, "seed": seed, "data_placement": "stream", "window_rows": window_rows}
        loaders = [load(rows, 10, (g, members), **more) for g in range(members)]
        return [[flatten(rows_per_batch(loader)) for loader in loaders] for _ in range(2)]

    first, other = epochs(1), epochs(2)
    assert first == epochs(1)
    for epoch in (*first, *other):
        assert sorted(flatten(epoch)) == list(range(rows))
        for g, own in enumerate(epoch):
            assert sorted(own) == list(RankShares(rows, 10, g, members, True).rows)
    assert len({str(epoch) for epoch in (*first, *other)}) == 4


def test_streamed_members_have_different_orders(load):
    more = {"shuffle": True, "data_placement": "stream", "window_rows": 30}
    one, two = (np.array(flatten(rows_per_batch(load(1280, 128, (g, 2), **more)))) for g in range(2))
    assert sorted(one) == sorted(two - 640) and not np.array_equal(one, two - 640)


# --- memory and reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_member_reads_only_its_rows_and_each_once(load, monkeypatch, placement, shuffle):
    asked, read = [], SplitRows.read

    def recorded(self, start, stop, into=None):
        asked.extend(range(start, stop))
        return read(self, start, stop, into)

    monkeypatch.setattr(SplitRows, "read", recorded)
    monkeypatch.setattr("fuxictr_me.data.loaders.h5_loader.LOAD_ROWS", 50)
    for members in MEMBERS:
        for g in range(members):
            asked.clear()
            loader = load(777, 10, (g, members), shuffle=shuffle, data_placement=placement, window_rows=30)
            rows_per_batch(loader)
            assert sorted(asked) == list(loader.rank_shares.rows)


def test_auto_counts_only_the_rows_of_the_member(load, monkeypatch, caplog):
    row = 2 + 4 * 2 + 4 + 8 + 4  # bytes: row and clicks int16, price and label float32, group int64
    monkeypatch.setattr("fuxictr_me.data.loaders.h5_loader.free_memory", lambda: 1000 * row)  # half of it for 500 rows
    with caplog.at_level(logging.INFO):
        placements = [load(1000, 100, share, data_placement="auto").placement for share in (None, (1, 2), (1, 4))]
    assert placements == ["stream", "stream", "memory"]
    assert ": 1,000 rows" in caplog.text and ": 250 of 1,000 rows" in caplog.text
    monkeypatch.setattr("fuxictr_me.data.loaders.h5_loader.free_memory", lambda: 1000 * row + 2)
    assert load(1000, 100, (1, 2), data_placement="auto").placement == "memory"
    assert load(1000, 100, (1, 2), data_placement="auto", shuffle=True).placement == "stream"  # the order takes 8 more
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each process has a half of what is free
    assert load(1000, 100, (1, 2), data_placement="auto").placement == "stream"
    assert load(1000, 100, (1, 4), data_placement="auto").placement == "memory"


@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("N", "at"), [(1, 0), (102, 10)])
def test_a_part_without_rows_is_an_empty_batch(load, N, at, shuffle, placement):
    """The first of three members has no row in a batch of one row or of two."""
    loader = load(N, 10, (0, 3), shuffle=shuffle, data_placement=placement, window_rows=30)
    assert loader.rank_shares.part(at) == (N - 10 * at, 0, 0)
    batches = list(loader)
    assert len(batches) == at + 1
    assert {name: (x.dtype, tuple(x.shape)) for name, x in batches[at].items()} == {
        "row": (torch.int64, (0,)),
        "clicks": (torch.int64, (0, 4)),
        "price": (torch.float32, (0,)),
        "group": (torch.int64, (0,)),
        "label": (torch.float32, (0,)),
    }
    assert list(batches[at]) == [*FEATURES, "label"]


def test_without_share_a_loader_yields_all_rows(load):
    loader = load(777, 10)
    assert loader.rank_shares is None and loader.num_samples == 777
    assert flatten(rows_per_batch(loader)) == list(range(777))


def test_batches_smaller_than_the_number_of_members_are_refused(load):
    with pytest.raises(UsageError) as caught:
        load(100, 3, (0, 4))
    message = "batch_size must be at least the number of processes that share a batch, 4, got 3"
    assert str(caught.value) == message
    assert len(load(100, 4, (0, 4))) == 25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("placement", ["device", "memory", "stream"])
def test_a_gpu_gets_the_same_batches(load, placement):
    for share in ((0, 3), (1, 3), (2, 3)):
        more = {"shuffle": True, "window_rows": 30}
        on_cpu = load(102, 10, share, data_placement="stream" if placement == "stream" else "memory", **more)
        on_gpu = load(102, 10, share, data_placement=placement, gpu=0, **more)
        for a, b in zip(on_cpu, on_gpu, strict=True):
            assert b["row"].is_cuda and all(torch.equal(a[name], b[name].cpu()) for name in a)
