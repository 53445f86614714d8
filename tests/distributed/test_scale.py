"""benchmarks/scale.py: its formulas against ranks that really exchange arrays, and its page against the script."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.batches import make_batch
from helpers.forked_processes import run_forked
from helpers.paths import ROOT

from fuxictr_me import DCNv2_ME
from fuxictr_me.estimates.collectives import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    REDUCE_SCATTER,
    Collective,
    link_seconds,
    sent,
)
from fuxictr_me.training.step import Step

sys.path.append(str(ROOT / "benchmarks"))
import scale as script
import scale_formulas as scale
from scale_formulas import BATCHES, FIELDS, HIDDEN, IDS, SETS, Case

PAGE = (ROOT / "benchmarks" / "scale.md").read_text()
DATE, TORCH = re.search(r"scale.md`, (\S+), torch ([\d.]+)\.", PAGE).groups()
SIMULATED_ALIKE = pytest.mark.skipif(
    torch.__version__.split("+")[0] != TORCH, reason="the page's simulations are of another version of torch"
)
MESHES = [(4, 1), (1, 4), (2, 2), (2, 3), (3, 2), (1, 1)]  # S x G


# --- ranks that exchange arrays ------------------------------------------------------------------------


class Post:
    """Takes arrays from rank to rank and counts the bytes that each sends."""

    def __init__(self, ranks):
        self.sent = np.zeros(ranks)

    def send(self, array, source, target):
        if source != target:
            self.sent[source] += array.nbytes
        return array.copy()

    def reduce_scatter(self, parts, group):
        """A ring: rank i of the group ends with the sum of chunk i + 1."""
        R, chunks = len(group), [np.array_split(part.copy().ravel(), len(group)) for part in parts]
        for step in range(R - 1):
            for i, moved in enumerate([chunks[i][(i - step) % R].copy() for i in range(R)]):
                chunks[(i + 1) % R][(i - step) % R] += self.send(moved, group[i], group[(i + 1) % R])
        return chunks

    def all_gather(self, chunks, group):
        """A ring, from where ``reduce_scatter`` ends."""
        R = len(group)
        for step in range(R - 1):
            for i, moved in enumerate([chunks[i][(i + 1 - step) % R].copy() for i in range(R)]):
                chunks[(i + 1) % R][(i + 1 - step) % R] = self.send(moved, group[i], group[(i + 1) % R])
        return [np.concatenate(parts) for parts in chunks]

    def all_reduce(self, parts, group):
        return self.all_gather(self.reduce_scatter(parts, group), group)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_rings_sum_and_send_what_the_formulas_say(ranks):
    parts, group = list(np.random.randn(ranks, 41)), range(ranks)
    post = Post(ranks)
    chunks = post.reduce_scatter(parts, group)
    assert post.sent.mean() == pytest.approx(sent(REDUCE_SCATTER, 8 * 41, ranks))
    results = post.all_gather(chunks, group)
    assert post.sent.mean() == pytest.approx(sent(ALL_REDUCE, 8 * 41, ranks))
    assert post.sent.mean() == pytest.approx(2 * sent(ALL_GATHER, 8 * 41, ranks))
    for result in results:
        np.testing.assert_allclose(result, np.sum(parts, axis=0))


def test_an_all_to_all_leaves_out_what_stays():
    post = Post(5)
    for source in range(5):
        for target in range(5):
            post.send(np.zeros(3), source, target)
    assert (post.sent == sent(ALL_TO_ALL, 5 * 3 * 8, 5)).all()


def tables_and_ids(case, shards):
    """Tables of all sets (M, D, K), and ids (B, F) that fall evenly on so many blocks of rows."""
    tables = np.random.randn(case.sets, case.ids, case.dim).astype(np.float32)
    ids = np.random.randint(0, case.ids // shards, (case.batch, FIELDS))
    shard = np.arange(case.batch * FIELDS).reshape(ids.shape) % shards
    return tables, ids + shard * (case.ids // shards)


@pytest.mark.parametrize("groups, shards", MESHES)
def test_a_mesh_finds_the_embeddings_and_sends_what_the_formula_says(groups, shards):
    case = Case(ids=12 * shards, dim=3, sets=6, batch=4 * shards, ranks=groups * shards)
    tables, ids = tables_and_ids(case, shards)
    post, block, rows = Post(case.ranks), case.ids // shards, case.batch // shards
    dense = np.ones(scale.dense_parameters(case.sets // groups, case.dim), np.float32)
    for s in range(groups):
        of_group = tables[s::groups]  # sets s, s + S, …
        group = range(s * shards, (s + 1) * shards)
        held = [of_group[:, g * block : (g + 1) * block] for g in range(shards)]
        for g, rank in enumerate(group):
            wanted = ids[g * rows : (g + 1) * rows].ravel()
            e = np.empty((len(of_group), len(wanted), case.dim), np.float32)
            for owner in range(shards):
                asked = wanted // block == owner
                received = post.send(wanted[asked], rank, group[owner])  # int64
                e[:, asked] = post.send(held[owner][:, received - owner * block], group[owner], rank)
                post.send(np.ones_like(e[:, asked]), rank, group[owner])  # its gradient
            np.testing.assert_array_equal(e, of_group[:, wanted])
        assert all((sums == shards).all() for sums in post.all_reduce([dense] * shards, group))
    for g in range(shards):
        across, h = range(g, case.ranks, shards), np.ones((rows, HIDDEN), np.float32)
        assert all((sums == groups).all() for sums in post.all_reduce([h] * groups, across))
    post.all_reduce([np.ones(2, np.float32)] * case.ranks, range(case.ranks))
    assert scale.mesh(case, groups, shards).sent == pytest.approx(post.sent.mean(), rel=1e-12)


def test_columns_find_the_embeddings_and_send_what_the_formula_says():
    case = Case(ids=20, dim=3, sets=4, batch=9, ranks=3)
    tables, ids = tables_and_ids(case, 1)
    wide = np.concatenate(tables, axis=1)  # (D, M·K)
    post, rows, columns = Post(3), 3, 4
    for rank in range(3):
        parts = [wide[:, owner * columns : (owner + 1) * columns][ids] for owner in range(3)]  # (B, F, 4)
        own = slice(rank * rows, (rank + 1) * rows)
        e = np.concatenate([post.send(parts[owner][own], owner, rank) for owner in range(3)], axis=2)
        np.testing.assert_array_equal(e, wide[ids[own]])
        for owner in range(3):
            post.send(np.ones_like(e[..., owner * columns : (owner + 1) * columns]), rank, owner)
    post.all_reduce([np.ones(scale.dense_parameters(4, 3), np.float32)] * 3, range(3))
    post.all_reduce([np.ones(2, np.float32)] * 3, range(3))
    assert scale.by_columns(case).sent == pytest.approx(post.sent.mean(), rel=1e-12)


def test_rows_as_dtensor_has_them_find_the_embeddings_and_send_what_the_formula_says():
    case = Case(ids=24, dim=2, sets=3, batch=8, ranks=4)
    tables, ids = tables_and_ids(case, 4)
    post, wide = Post(4), np.concatenate(tables, axis=1)
    parts = [np.where((ids // 6 == rank)[..., None], wide[ids], 0) for rank in range(4)]  # (B, F, M·K)
    chunks = post.reduce_scatter(parts, range(4))
    for rank in range(4):
        mine = (rank + 1) % 4  # two rows of the batch
        np.testing.assert_array_equal(chunks[rank][mine], wide[ids][2 * mine : 2 * mine + 2].ravel())
    post.all_gather(chunks, range(4))  # gradients are as large
    post.all_reduce([np.ones(scale.dense_parameters(3, 2), np.float32)] * 4, range(4))
    post.all_reduce([np.ones(2, np.float32)] * 4, range(4))
    assert scale.dtensor_rows(case).sent == pytest.approx(post.sent.mean(), rel=1e-12)


def test_ddp_sends_every_gradient():
    case, post = Case(ids=50, dim=2, sets=3, batch=8, ranks=4), Post(4)
    post.all_reduce([np.ones(50 * 2 * 3, np.float32)] * 4, range(4))
    post.all_reduce([np.ones(scale.dense_parameters(3, 2), np.float32)] * 4, range(4))
    assert scale.ddp(case).sent == pytest.approx(post.sent.mean(), rel=1e-12)


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="what the page says is of torch 2.13")
def test_dtensor_looks_rows_up_as_the_page_says():
    code = """
import json, torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.testing._internal.distributed.fake_pg import FakeStore

dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
mesh = init_device_mesh("cpu", (4,))
weight = torch.nn.Parameter(distribute_tensor(torch.randn(40, 8), mesh, [Shard(0)]))
ids = DTensor.from_local(torch.zeros(12, 3, dtype=torch.int64), mesh, [Replicate()])
with CommDebugMode() as counted:
    e = torch.nn.functional.embedding(ids, weight).redistribute(mesh, [Shard(0)]).to_local()
    e.sum().backward()
kinds = {str(kind): count for kind, count in counted.get_comm_counts().items()}
shapes = [list(x.shape) for x in (e, weight.to_local(), weight.grad.to_local())]
print(json.dumps([kinds, shapes]))
"""
    ran = run_forked(code=code)
    assert ran.returncode == 0, ran.stderr
    kinds, shapes = json.loads(ran.stdout.splitlines()[-1])
    assert kinds == {"c10d_functional.reduce_scatter_tensor": 1, "c10d_functional.all_gather_into_tensor": 1}
    assert shapes == [[3, 3, 8], [10, 8], [40, 8]]  # a quarter of the rows held, the gradient of all


# --- payloads and shares by hand -----------------------------------------------------------------------


def test_payloads_of_ten_sets_and_ten_thousand_rows():
    case = Case(1_000_000, 10, 10, 10_000, 5)
    in_sets = scale.set_parallel(case)
    assert [(e.what, e.kind, e.payload) for e in in_sets.exchanges] == [
        ("h", ALL_REDUCE, 16e6),
        ("norm and penalty", ALL_REDUCE, 8),
    ]
    assert (in_sets.sets, in_sets.rows, in_sets.entries) == (2, 10_000, 2e7)
    in_rows = {e.what: e.payload for e in scale.by_rows(case).exchanges}
    dense = 10 * (4 * (390 * 390 + 390) + 390 * 400 + 400 + 800) + 400 * 400 + 400 + 800 + 401
    assert in_rows == {
        "ids": 3.12e6 / 5,
        "embeddings": 156e6 / 5,
        "embeddings' gradients": 156e6 / 5,
        "dense gradients": 4 * dense,
        "norm and penalty": 8,
    }


@pytest.mark.parametrize(
    "sets, ranks, groups, shards, most_sets", [(10, 8, 8, 1, 2), (4, 8, 4, 2, 1), (10, 64, 10, 6, 1), (1, 8, 1, 8, 1)]
)
def test_sets_go_to_ranks_and_rows_to_ranks_beyond(sets, ranks, groups, shards, most_sets):
    case = Case(4800, 10, sets, 480, ranks)
    share = scale.set_parallel(case)
    assert (share.sets, share.rows, share.entries) == (most_sets, 480 // shards, 4800 * 10 * most_sets / shards)
    by_name = {e.what: e.groups for e in share.exchanges}
    assert len(by_name.get("h", [])) == (shards if groups > 1 else 0)
    if shards > 1:
        assert len(by_name["embeddings"]) == groups
        assert sorted(rank for group in by_name["embeddings"] for rank in group) == list(range(groups * shards))


def test_set_parallel_moves_nothing_of_a_table():
    case = Case(IDS[0], 10, 10, 4096, 8)
    shares = [scale.set_parallel(c) for c in (case, replace(case, ids=IDS[2]), replace(case, dim=16))]
    assert len({share.sent for share in shares}) == 1
    assert {e.what for share in shares for e in share.exchanges} == {"h", "norm and penalty"}


def test_columns_go_no_further_than_there_are_columns():
    case = Case(1000, 10, 1, 640, 64)
    assert scale.by_columns(case).entries == 1000 == scale.by_columns(replace(case, ranks=10)).entries
    assert scale.by_columns(replace(case, ranks=8)).entries == 2000


@pytest.mark.parametrize("engine", scale.ENGINES.values())
def test_shares_grow_with_the_work_and_shrink_with_ranks(engine):
    case = Case(IDS[0], 10, 4, 65_536, 4)
    share = engine(case)
    for larger in (replace(case, ids=2 * IDS[0]), replace(case, sets=8), replace(case, dim=20)):
        grown = engine(larger)
        assert grown.entries > share.entries and grown.sent >= share.sent
    assert engine(replace(case, batch=2 * 65_536)).rows == 2 * share.rows
    spread = engine(replace(case, ranks=8))
    assert spread.entries <= share.entries and spread.rows <= share.rows
    assert (spread.entries < share.entries) == (engine is not scale.ddp)
    alone = engine(replace(case, ranks=1))
    assert (alone.sent, alone.entries) == (0, case.entries)


# --- links by hand -------------------------------------------------------------------------------------


def test_links_within_a_node_are_nvlink():
    assert link_seconds(ALL_REDUCE, 450e9, range(8)) == pytest.approx(2 * 7 / 8)
    assert link_seconds(ALL_TO_ALL, 450e9, range(8)) == pytest.approx(7 / 8)
    assert link_seconds(ALL_GATHER, 450e9, range(3, 5)) == pytest.approx(1 / 2)
    assert link_seconds(ALL_TO_ALL, 450e9, range(1)) == link_seconds(ALL_REDUCE, 1.0, range(1)) == 0


def test_links_between_nodes_are_the_network():
    # Rings through two whole nodes use their eight cards, 400 GB/s; of one rank a node each has its own.
    assert link_seconds(ALL_REDUCE, 400e9, range(16)) == pytest.approx(2 * 15 / 16)
    assert link_seconds(ALL_REDUCE, 50e9, range(0, 64, 8)) == pytest.approx(2 * 7 / 8)
    # All-to-all: half of what a rank has goes to the other node.
    assert link_seconds(ALL_TO_ALL, 50e9, range(16)) == pytest.approx(1 / 2)
    # Ranks 6 and 7 of one node, 8 to 11 of the next: the two send four of six parts out.
    assert link_seconds(ALL_TO_ALL, 6 * 50e9, range(6, 12)) == pytest.approx(4)
    assert link_seconds(ALL_REDUCE, 100e9, range(6, 12)) == pytest.approx(2 * 5 / 6)


def test_the_slowest_group_counts():
    exchange = Collective("h", ALL_TO_ALL, 6 * 50e9, (range(6), range(6, 12)))
    assert exchange.seconds == pytest.approx(4)


# --- memory and work against real tensors and the simulation -------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A small model of four sets after one step, with the settings of the page."""
    settings = scale.load_settings(scale.find_zoo_configs()["DCNv2_ME"], "DCNv2_ME_criteo_base", find_data=False)
    settings |= {"embedding_dim": 2, "num_sets": 4, "callbacks": None, "verbose": 0}
    model = DCNv2_ME(scale.feature_map_of(FIELDS, 780), **settings).train()
    model._max_gradient_norm = settings["max_gradient_norm"]
    model._step = Step(model, on_cpu=False)  # as on a GPU, where the gradient of the table is whole
    model.train_step(make_batch(model.feature_map, rows=8))
    return model


def of_rank(name, tensor, rank, ranks, rows):
    """The part of a parameter, or of what is as large, that a rank holds: set-parallel, or by rows of the table."""
    if name == "embedding_layer.table.weight":
        return tensor[rank::ranks] if rows else tensor.view(780, 4, 2)[:, rank::ranks]
    if not rows and name.startswith(("interaction", "projection")):
        return tensor.view(4, -1)[rank::ranks]
    return tensor


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_weights_gradients_and_moments_are_those_of_real_tensors(trained, rows, ranks):
    case = Case(780, 2, 4, 8, ranks)
    share = (scale.by_rows if rows else scale.set_parallel)(case)
    held = [0] * ranks
    for name, parameter in trained.named_parameters():
        state = trained.optimizer.state[parameter]
        for tensor in (parameter.data, parameter.grad, state["exp_avg"], state["exp_avg_sq"]):
            for rank in range(ranks):
                held[rank] += of_rank(name, tensor, rank, ranks, rows).numel() * tensor.element_size()
    assert max(held) == 16 * (share.entries + scale.dense_parameters(share.sets, 2))
    assert share.gradient == share.entries


@pytest.mark.parametrize("sets, dim", [(1, 10), (3, 16), (10, 2)])
def test_dense_parameters_are_those_of_the_model(sets, dim):
    model = DCNv2_ME(scale.feature_map_of(FIELDS, 390), num_sets=sets, embedding_dim=dim, batch_norm=True, verbose=0)
    assert scale.dense_parameters(sets, dim) == model.num_parameters(count_embedding=False)


@pytest.mark.parametrize(
    "ids, rows", [(100_000, 3000), (3_000_000, 300), pytest.param(3_000_000, 3000, marks=pytest.mark.slow)]
)
def test_memory_and_work_of_one_rank_are_those_that_planning_simulates(ids, rows):
    case = Case(ids, 10, 1, rows, 1)
    found, share = scale.simulated(ids, 10, 1, rows), scale.ddp(case)
    assert scale.memory(case, share) == pytest.approx(found.memory.peak, rel=2e-3)
    parts = scale.floor(case, share)
    assert parts["p"] * 67e12 == pytest.approx(sum(o.flops for o in found.operations))
    assert parts["m"] * 3.35e12 == pytest.approx(sum(o.bytes for o in found.operations), rel=2e-2)
    assert parts["l"] == 0


def test_steps_by_rows_are_those_that_planning_simulates_and_do_not_sweep():
    case = Case(3_000_000, 10, 1, 3000, 1)
    found = scale.simulated(3_000_000, 10, 1, 3000, "catch_up")
    parts = scale.floor(case, scale.by_rows(case), "catch_up")
    assert parts["m"] * 3.35e12 == pytest.approx(sum(o.bytes for o in found.operations), rel=1e-2)
    swept = scale.floor(case, scale.by_rows(case))["m"] - parts["m"]
    assert 0 < swept * 3.35e12 < scale.SWEEP * case.entries


def test_a_larger_table_takes_16_bytes_a_number_and_40_of_traffic():
    case = Case(10_000_000, 10, 1, 1000, 4)
    for engine, parts in ((scale.ddp, 1), (scale.by_rows, 4)):
        more = replace(case, ids=20_000_000)
        share, grown = engine(case), engine(more)
        assert scale.memory(more, grown) - scale.memory(case, share) == pytest.approx(16 * 1e8 / parts)
        swept = scale.floor(more, grown)["m"] - scale.floor(case, share)["m"]
        assert swept * 3.35e12 == pytest.approx(40 * 1e8 / parts)


def test_dtensor_rows_hold_the_gradient_of_the_whole_table():
    case = Case(100_000_000, 10, 1, 1000, 4)
    more = scale.memory(case, scale.dtensor_rows(case)) - scale.memory(case, scale.by_rows(case))
    buffers = 4 * (1000 - 250) * FIELDS * 10
    assert more == pytest.approx(4 * 1e9 * 3 / 4 + buffers)


def test_the_floor_is_the_longer_of_two_and_the_links():
    assert scale.total({"p": 3.0, "m": 5.0, "l": 2.0}) == scale.total({"p": 5.0, "m": 3.0, "l": 2.0}) == 7.0
    found = {name: {"p": 0.0, "m": m, "l": 0.0} for name, m in (("rows", 1.0), ("columns", 1.04), ("ddp", 1.06))}
    assert script.best(found) == {"rows", "columns"} and script.best({}) == set()
    assert script.cell(found, "columns") == "**1,040m**" and script.cell(found, "ddp") == "1,060m"
    assert script.cell(found, "set-parallel") == "–"


# --- the page ------------------------------------------------------------------------------------------


def test_the_page_says_date_command_and_that_nothing_was_measured():
    assert "`python benchmarks/scale.py --gpus 8 64 --write benchmarks/scale.md`" in PAGE
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", DATE) and "**Nothing here was measured.**" in PAGE
    assert len(PAGE.splitlines()) <= 150


def test_the_page_has_the_bytes_and_the_first_example_of_the_script():
    assert "\n".join(script.bytes_table([8, 64])) in PAGE
    example = script.first_example()
    assert script.wrap(example, "- ", "  ") in PAGE
    assert "10e9 numbers: 40 GB of weights, 120 GB with Adam's moments, and 160 GB with the dense gradient." in example
    assert "480 GB is 48 B per number, 4 times weights and moments" in example and "K = 40" in example


@SIMULATED_ALIKE
def test_the_page_has_the_lines_of_single_sets():
    for ranks in (8, 64):
        for line in script.dense_table(ranks, dims=(10,), sets=(1,)):
            assert f"\n{line}\n" in PAGE
    for line in script.by_rows_table((8, 64), sets=(1,)):
        assert f"\n{line}\n" in PAGE


@pytest.mark.slow
@SIMULATED_ALIKE
def test_the_page_is_what_the_script_prints():
    assert script.page([8, 64], DATE) == PAGE


@pytest.mark.slow
def test_what_the_page_says_of_ddp_and_of_dense_updates_holds():
    for ids in IDS:
        for sets in SETS:
            for batch in BATCHES:
                cases = [Case(ids, 10, sets, batch, ranks) for ranks in (8, 64)]
                on_8, on_64 = (scale.floor(case, scale.ddp(case)) for case in cases)
                assert max(on_8, key=on_8.get) == max(on_64, key=on_64.get) == "l"
                assert scale.total(on_64) > scale.total(on_8)
                for case in cases:
                    for name, parts in script.floors(case).items():
                        assert max(parts, key=parts.get) == ("l" if name == "ddp" else "m")
