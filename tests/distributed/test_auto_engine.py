"""--engine auto: exchanges, memory and times by hand, and which engine is chosen."""

import re
from types import SimpleNamespace

import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.paths import ROOT
from helpers.simulations import remembering

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME, UsageError
from fuxictr_me.distributed import auto_engine as module
from fuxictr_me.distributed.auto_engine import (
    Estimate,
    choose_engine,
    estimate_engines,
    pick_best,
    shard_feature_map,
)
from fuxictr_me.distributed.engines import Engine
from fuxictr_me.estimates import GPUS
from fuxictr_me.estimates.collectives import ALL_REDUCE, ALL_TO_ALL, Collective, list_collectives
from fuxictr_me.estimates.gpus import Gpu, gpu_of_device
from fuxictr_me.io.resources import find_zoo_configs
from fuxictr_me.runs.run_settings import load_settings

H100 = GPUS["H100"]
FIELDS, DIM, BATCH, HIDDEN = 3, 8, 600, 16
DNN = {**MODEL, "model_root": "unused", "hidden_units": [HIDDEN, 4], "embedding_dim": DIM, "batch_size": BATCH}
LARGE = 100_000_000
PAGE = (ROOT / "benchmarks" / "scale.md").read_text()


@pytest.fixture(autouse=True, scope="module")
def each_step_is_simulated_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "simulate", remembering(module.simulate))
        yield


def map_of(ids):
    """Three fields, of which one has all ids but 20."""
    return make_feature_map({"a": categorical(ids - 20), "b": categorical(10), "c": categorical(10)})


def found_of(ids, sets, ranks, gpu=H100, per_node=8, **settings):
    """name of an engine -> Estimate."""
    found, _ = estimate_engines(DNN_ME, map_of(ids), {**DNN, "num_sets": sets, **settings}, ranks, gpu, per_node)
    return {str(estimate.engine): estimate for estimate in found}


def lines_of(text):
    """name of an engine -> what its line of the table says behind it."""
    cut = (re.fullmatch(r"((?:ddp|sharded|set-parallel)(?:, \d+ groups of \d+)?) +(.*)", x) for x in text.splitlines())
    return {line[1]: line[2].split(maxsplit=3) for line in cut if line}


# --- exchanges by hand ---------------------------------------------------------------------------------

# 9 rows of 5 ids, which are 60 numbers; H = 7; 1,000 parameters of networks, 2,000 numbers in tables.
NUMBERS = {"batch": 9, "ids": 5, "width": 60, "hidden": 7, "dense": 1000, "entries": 2000}


def exchanges(name, groups, members):
    return list_collectives(Engine(name, groups, members), **NUMBERS)


def test_ddp_adds_up_every_gradient():
    (found,) = exchanges("ddp", 1, 3)
    assert (found.kind, found.payload, found.groups) == (ALL_REDUCE, 4 * 3000, (range(3),))
    assert found.sent == pytest.approx(2 * 2 / 3 * 12_000)


def test_two_shards_send_ids_and_embeddings_of_their_five_rows_and_gradients_of_networks():
    found = exchanges("sharded", 1, 2)
    assert [(e.kind, e.payload) for e in found] == [
        (ALL_TO_ALL, 8 * 5 * 5),
        (ALL_TO_ALL, 4 * 5 * 60),
        (ALL_TO_ALL, 4 * 5 * 60),
        (ALL_REDUCE, 4 * 1000),
        (ALL_REDUCE, 8),
    ]
    assert sum(e.sent for e in found) == 100 + 600 + 600 + 4000 + 8


def test_four_groups_of_one_send_h_alone():
    found = exchanges("set-parallel", 4, 1)
    assert [(e.what, e.payload, e.groups) for e in found] == [
        ("h", 4 * 9 * 7, (range(4),)),
        ("norm and penalty", 8, (range(4),)),
    ]
    assert sum(e.sent for e in found) == pytest.approx(2 * 3 / 4 * (4 * 9 * 7 + 8))


def test_two_groups_of_three_exchange_within_and_across():
    found = {e.what: e for e in exchanges("set-parallel", 2, 3)}
    assert found["embeddings"].groups == found["dense gradients"].groups == (range(3), range(3, 6))
    assert [list(group) for group in found["h"].groups] == [[0, 3], [1, 4], [2, 5]]
    of_three_rows = {"ids": 8 * 3 * 5 * 2 / 3, "embeddings": 4 * 3 * 60 * 2 / 3, "h": 2 * 4 * 3 * 7 / 2}
    of_three_rows |= {"embeddings' gradients": 480, "dense gradients": 2 * 4000 * 2 / 3, "norm and penalty": 16 * 5 / 6}
    assert {what: e.sent for what, e in found.items()} == pytest.approx(of_three_rows)


def test_links_are_slower_where_a_node_has_fewer_ranks():
    everyone = (range(4),)
    swapped = Collective("e", ALL_TO_ALL, 4 * 50e9, everyone)  # 50 GB for each
    assert swapped.seconds == swapped.seconds_on(4) == pytest.approx(3 * 50 / 450)
    assert swapped.seconds_on(2) == pytest.approx(2)
    added = Collective("h", ALL_REDUCE, 50e9, everyone)
    assert added.seconds_on(1) == pytest.approx(2 * 3 / 4) and added.seconds_on(2) == pytest.approx(3 / 4)


# --- memory and time by hand ---------------------------------------------------------------------------


def test_a_table_entry_takes_16_bytes_and_40_of_traffic_on_the_ranks_that_hold_it():
    found, more = found_of(LARGE, 4, 4), found_of(2 * LARGE, 4, 4)
    whole = LARGE * DIM * 4  # numbers that are added
    assert set(found) == {"ddp", "sharded", "set-parallel", "set-parallel, 2 groups of 2"}
    for name, estimate in found.items():
        held = whole if name == "ddp" else whole / 4
        assert more[name].memory - estimate.memory == pytest.approx(16 * held, rel=1e-6)
        links = 2 * 3 / 4 * 4 * whole / 450e9 if name == "ddp" else 0
        assert more[name].seconds - estimate.seconds == pytest.approx(40 * held / 3.35e12 + links, rel=1e-6)
        assert more[name].sent - estimate.sent == pytest.approx(links * 450e9)


def test_bytes_sent_equal_a_calculation_by_hand():
    found = found_of(LARGE, 4, 4)
    dense = 4 * (FIELDS * DIM * HIDDEN + HIDDEN) + HIDDEN * 4 + 4 + 4 + 1  # four projections, the head
    of_two = 2 * (FIELDS * DIM * HIDDEN + HIDDEN) + HIDDEN * 4 + 4 + 4 + 1
    rows, half = BATCH // 4, BATCH // 2
    assert found["ddp"].sent == pytest.approx(3 / 4 * 2 * 4 * (LARGE * DIM * 4 + dense))
    numbers = 8 * rows * FIELDS + 2 * 4 * rows * FIELDS * DIM * 4 + 2 * (4 * dense + 8)
    assert found["sharded"].sent == pytest.approx(3 / 4 * numbers)
    assert found["set-parallel"].sent == pytest.approx(3 / 4 * 2 * (4 * BATCH * HIDDEN + 8))
    numbers = 8 * half * FIELDS + 2 * 4 * half * FIELDS * DIM * 2 + 2 * 4 * of_two + 2 * 4 * half * HIDDEN
    assert found["set-parallel, 2 groups of 2"].sent == pytest.approx(numbers / 2 + 3 / 4 * 2 * 8)


def test_h_is_as_wide_as_in_the_whole_model():
    hidden = {"mlp1_hidden_units": [16, 4], "mlp2_hidden_units": [12, 6], "nonlinear_projection": False, "num_sets": 2}
    settings = {key: value for key, value in DNN.items() if key != "hidden_units"} | hidden
    found, _ = estimate_engines(FinalMLP_ME, map_of(1000), settings, 2, H100, 2)
    assert str(found[-1].engine) == "set-parallel" and found[-1].sent == pytest.approx(4 * BATCH * (16 + 12) + 8)


def test_memory_falls_with_ranks():
    on_2, on_4, on_8 = (found_of(LARGE, 8, ranks) for ranks in (2, 4, 8))
    for name in ("sharded", "set-parallel"):
        assert on_8[name].memory < on_4[name].memory < on_2[name].memory
        assert on_8[name].memory == pytest.approx(on_2[name].memory / 4, rel=1e-3)
    assert on_8["ddp"].memory == pytest.approx(on_2["ddp"].memory, rel=1e-3)


def test_embeddings_that_are_received_have_a_buffer(monkeypatch):
    received = 4 * BATCH // 2 * FIELDS * DIM * 4
    with_buffer = found_of(LARGE, 4, 2)["sharded"].memory
    monkeypatch.setattr(module, "NUMBER", 0)
    assert with_buffer - found_of(LARGE, 4, 2)["sharded"].memory == received


def test_an_optimizer_without_moments_takes_half():
    adam, plain = (found_of(LARGE, 4, 4, optimizer=name)["sharded"].memory for name in ("adam", "SGD"))
    assert plain == pytest.approx(adam / 2, rel=1e-3)


def test_only_rows_of_plain_fields_are_sharded():
    feature_map = map_of(1000)
    part = shard_feature_map(feature_map, [(["a", "b"], (990, 8))], 4)
    assert [part.features[field]["vocab_size"] for field in "abc"] == [245, 3, 10]
    assert [feature_map.features[field]["vocab_size"] for field in "abc"] == [980, 10, 10]


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the page's simulations are of torch 2.13")
def test_figures_equal_those_of_the_page_on_scale():
    paper = load_settings(find_zoo_configs()["DCNv2_ME"], "DCNv2_ME_criteo_base", find_data=False)
    features = {f"f{i}": categorical(3_380_000 if i < 10 else 10) for i in range(39)}
    settings = paper | {"embedding_dim": 10, "num_sets": 4, "batch_size": 10_000}
    found, _ = estimate_engines(DCNv2_ME, make_feature_map(features), settings, 8, H100, 8)
    told = {str(e.engine): f"{e.memory / 1e9:.3g} GB {e.sent / 1e6:.1f} MB {e.seconds * 1e3:.3g} ms" for e in found}
    assert told["sharded"] == "2.8 GB 36.6 MB 2.59 ms"
    assert told["set-parallel, 4 groups of 2"] == "2.76 GB 24.3 MB 2.58 ms"
    assert told["ddp"].startswith("21.7 GB") and told["ddp"].endswith("37.7 ms")
    cells = "21.7 GB: 37.5l 37.7l 40.1l | 2.76 GB: **2.26m** **2.58m** 5.56m | 2.80 GB: **2.32m** **2.59m** **5.19m**"
    assert f"| 33.8M | 4x10 | {cells} |" in PAGE and "| 4x10 | 10,000 | 24.3 | 36.6 |" in PAGE


# --- which is chosen -----------------------------------------------------------------------------------


def test_times_within_five_percent_are_equal_and_the_fewest_bytes_decide():
    shards, sets, mesh = Engine("sharded", 1, 4), Engine("set-parallel", 4, 1), Engine("set-parallel", 2, 2)
    assert pick_best([Estimate(shards, 1, 9.0, 1.0), Estimate(sets, 1, 3.0, 1.04)]).engine == sets
    assert pick_best([Estimate(shards, 1, 9.0, 1.0), Estimate(sets, 1, 3.0, 1.06)]).engine == shards
    assert pick_best([Estimate(shards, 1, 3.0, 1.0), Estimate(mesh, 1, 3.0, 1.01)]).engine == mesh


@pytest.mark.parametrize("ids, name", [(1000, "ddp"), (LARGE, "sharded")])
def test_one_set_is_replicated_where_small_and_divided_where_large(ids, name):
    engine, _ = choose_engine(DNN_ME, map_of(ids), {**DNN, "num_sets": 1, "batch_size": 100_000}, 4, H100)
    assert engine == Engine(name, 1, 4)


@pytest.mark.parametrize("changed", [{}, {"aggregation": "sum"}, {"nonlinear_projection": False}])
def test_as_many_large_sets_as_ranks_go_one_to_each(changed):
    engine, text = choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 4, **changed}, 4, H100)
    assert engine == Engine("set-parallel", 4, 1)
    assert [name for name, line in lines_of(text).items() if line[-1] == "chosen"] == ["set-parallel"]


def test_ten_large_sets_on_eight_ranks_are_divided_evenly():
    engine, text = choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 10}, 8, H100)
    assert engine in (Engine("set-parallel", 2, 4), Engine("sharded", 1, 8))
    memory = {name: float(line[0]) for name, line in lines_of(text).items()}
    assert memory["set-parallel"] / memory["set-parallel, 2 groups of 4"] == pytest.approx(2 / 1.25, rel=1e-3)


def test_the_table_has_the_figures_and_says_what_does_not_fit():
    gpu = Gpu("Small", 30e9, H100.bandwidth, H100.peaks)
    engine, text = choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 4}, 4, gpu)
    lines, found = lines_of(text), found_of(LARGE, 4, 4, gpu, per_node=4)
    assert list(lines) == list(found)
    for name, estimate in found.items():
        figures = [float(figure.replace(",", "")) for figure in lines[name][:3]]
        assert figures == pytest.approx([estimate.memory / 1e9, estimate.sent / 1e6, estimate.seconds * 1e3], rel=5e-3)
    assert lines["ddp"][3] == "does not fit" and lines[str(engine)][3] == "chosen"
    assert text.startswith("4 processes of 30 GB, 4 per node; Small, links of a DGX H100 assumed\n")


def test_nodes_of_fewer_ranks_make_links_slower():
    arguments = DNN_ME, map_of(1000), {**DNN, "num_sets": 4}, 4, H100
    alone, together = (lines_of(choose_engine(*arguments, ranks_per_node=n)[1])["ddp"] for n in (1, 8))
    assert alone[:2] == together[:2] and float(alone[2]) > float(together[2])


def test_a_model_that_fits_nowhere_is_refused_in_one_line():
    gpu = Gpu("Small", 1e9, H100.bandwidth, H100.peaks)
    with pytest.raises(UsageError) as error:
        choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 4}, 4, gpu)
    assert re.fullmatch(
        r"no engine fits: the least, set-parallel(, 2 groups of 2)?, needs 12\.\d GB on the fullest of 4 processes, "
        r"and each has 1 GB",
        str(error.value),
    )


def test_processes_on_cpus_share_what_is_free(monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 16e9)
    settings, ids = {**DNN, "num_sets": 4}, 10_000_000
    _, text = choose_engine(DNN_ME, map_of(ids), settings, 4)
    assert text.startswith("4 processes of 4 GB, 4 per node; speeds of an H100 assumed\n")
    lines = lines_of(text)
    assert lines["ddp"][3] == "does not fit"
    assert float(lines["ddp"][0]) == pytest.approx(16 * ids * DIM * 4 / 1e9, rel=0.01)
    assert float(lines["sharded"][0]) == pytest.approx(12 * ids * DIM / 1e9, rel=0.01)  # its gradient in pieces
    assert choose_engine(DNN_ME, map_of(1000), settings, 4, ranks_per_node=2)[1].startswith(
        "4 processes of 8 GB, 2 per "
    )


def test_updates_by_rows_refuse_ddp():
    engine, text = choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 4, "embedding_updates": "lazy"}, 4, H100)
    assert engine.name != "ddp"
    assert re.search(r"\nddp +refused: ddp updates every row, embedding_updates is lazy\n", text)


def test_without_a_fused_table_there_are_no_rows_to_divide():
    engine, text = choose_engine(DNN_ME, map_of(LARGE), {**DNN, "num_sets": 4, "fused_embedding": False}, 4, H100)
    assert engine == Engine("set-parallel", 4, 1)
    assert len(re.findall(r"\n(?:sharded|set-parallel, 2 groups of 2) +refused: there is no fused table", text)) == 2


def test_a_batch_smaller_than_the_ranks_is_estimated_too():
    settings = {**DNN, "num_sets": 2, "batch_size": 3, "batch_norm": True}
    assert choose_engine(DNN_ME, map_of(LARGE), settings, 4, H100)[0].name in ("sharded", "set-parallel")


def test_one_process_has_everything():
    assert choose_engine(DNN_ME, map_of(1000), DNN, 1) == (Engine("set-parallel", 1, 1), "one process")


def test_settings_that_all_engines_refuse_are_named_at_once():
    with pytest.raises(UsageError, match="needs aggregation mean or sum, got 'gated'"):
        choose_engine(DNN_ME, map_of(1000), {**DNN, "num_sets": 4, "aggregation": "gated"}, 4, H100)
    with pytest.raises(UsageError, match="BaseModel is not one"):
        choose_engine(BaseModel, map_of(1000), DNN, 4, H100)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "H100"),  # not an L4
        ("Another", "H100"),
    ],
)
def test_a_device_has_its_own_memory_and_the_speeds_of_its_kind(monkeypatch, name, like):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(name=name, total_memory=7e9))
    gpu = gpu_of_device(0)
    assert (gpu.name, gpu.memory) == (name, 7e9)
    assert (gpu.bandwidth, gpu.peaks) == (GPUS[like].bandwidth, GPUS[like].peaks)
