"""Estimates agree with formulas by hand, and with what processes and GPUs needed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, FAMILIES
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.paths import ROOT
from helpers.simulations import remembering
from torch.utils.flop_counter import FlopCounterMode

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME, UsageError
from fuxictr_me.commands.plan import plan_run
from fuxictr_me.estimates import GPUS, plan, simulate, what_would_fit
from fuxictr_me.estimates.fastest_settings import fastest_settings
from fuxictr_me.estimates.measured_steps import MEASURED, PEAKS, STEPS, expected_seconds
from fuxictr_me.estimates.operation_ledger import Ledger
from fuxictr_me.estimates.plan import place_data
from fuxictr_me.io.resources import find_zoo_configs

ZOO = find_zoo_configs()["DCNv2_ME"]
DNN = {**MODEL, "model_root": "unused", "hidden_units": [8, 6], "num_sets": 3, "embedding_dim": 4, "batch_size": 2}
# 4 cross layers of 20 fields, K = 10: 12 M weights, 90 MB of activations a set at 4,096 rows.
DCNV2 = {**MODEL, "model_root": "unused", "stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, "num_sets": 4}
DCNV2 |= {"net_dropout": 0.2, "batch_norm": True, "embedding_dim": 10, "batch_size": 4096}


@pytest.fixture(autouse=True, scope="module")
def each_step_of_a_plan_is_simulated_once():
    remembered = remembering(simulate)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plan", "fastest_settings"):
            patch.setattr(importlib.import_module(f"fuxictr_me.estimates.{name}"), "simulate", remembered)
        yield


def map_of(*sizes):
    return make_feature_map({f"f{i}": categorical(size) for i, size in enumerate(sizes)})


# --- parameters and bytes by hand ----------------------------------------------------------------------

IDS, FIELDS = 1000 + 500 + 20, 3
DNN_NET = 3 * (3 * 4 * 8 + 8) + (8 * 6 + 6) + (6 + 1)  # projections of the sets, and the head
BUFFERS = (3 * 8 + 1) * FIELDS  # of the fused table: size, first row, padding id and a flag of each field
COUNTS = 4 * 7  # Adam's step of: the fused table, and weight and bias of the projection, the head and the logit


@pytest.mark.parametrize("settings", [{}, {"embedding_regularizer": 1e-5}, {"num_sets": 3, "net_dropout": 0.5}])
def test_parameters_weights_gradients_and_moments_agree_with_formulas(settings):
    found = simulate(DNN_ME, map_of(1000, 500, 20), {**DNN, **settings})
    parameters = 3 * IDS * 4 + DNN_NET
    assert (found.parameters, found.embedding_parameters) == (parameters, 3 * IDS * 4)
    assert found.memory.weights == 4 * parameters + BUFFERS
    assert found.memory.gradients == 4 * DNN_NET  # the table is updated in one pass, without a gradient of its size
    assert found.memory.optimizer_state == 8 * parameters + COUNTS
    assert found.memory.peak == found.memory.activations + 12 * parameters + 4 * DNN_NET + BUFFERS + COUNTS
    assert found.memory.activations < 4 * 4 * parameters / 10


def test_an_optimizer_without_moments_has_no_state():
    memory = simulate(DNN_ME, map_of(1000, 500, 20), {**DNN, "optimizer": "SGD"}).memory
    assert memory.optimizer_state == 0 and memory.gradients == 4 * (3 * IDS * 4 + DNN_NET)


def test_tables_of_fuxictrs_layers_need_the_same_without_the_buffers():
    memory = simulate(DNN_ME, map_of(1000, 500, 20), {**DNN, "fused_embedding": False}).memory
    parameters = 3 * IDS * 4 + DNN_NET
    assert memory.weights == 4 * parameters and memory.gradients == 4 * parameters
    assert memory.optimizer_state == 8 * parameters + 4 * (3 * FIELDS + 6)


def test_updates_need_no_gradient_of_the_tables_size_and_lazy_ones_move_fewer_bytes():
    feature_map, batch_size = map_of(100_000, 50_000, 20), 64
    dense, lazy = (
        simulate(DNN_ME, feature_map, {**DNN, "batch_size": batch_size, "embedding_updates": updates})
        for updates in ("dense", "lazy")
    )
    entries = 3 * 4 * 150_020
    assert lazy.memory.gradients <= 4 * DNN_NET and dense.memory.gradients <= 4 * DNN_NET
    assert lazy.memory.optimizer_state == dense.memory.optimizer_state
    moved = [sum(operation.bytes for operation in found.operations) for found in (dense, lazy)]
    assert 24 * entries < moved[0] < 27 * entries  # weight and moments read and written; a slot a row is set and read
    rows = 64 + 64 + 20  # at most, of 64 rows
    assert 4 * rows * 12 < moved[1] < 0.05 * moved[0]


def test_catch_up_needs_the_memory_of_its_dense_steps_and_moves_the_bytes_of_later_ones():
    feature_map, settings = map_of(1_000_000, 500_000, 20), {**DNN, "batch_size": 64}
    dense = simulate(DNN_ME, feature_map, settings)
    caught_up = simulate(DNN_ME, feature_map, {**settings, "embedding_updates": "catch_up"})
    numbers = 2 * 4 * 1_500_020  # int32: the step up to which each row is done, and its place in the batch
    assert caught_up.memory.peak == pytest.approx(dense.memory.peak + numbers, rel=0.01)
    assert sum(o.bytes for o in caught_up.operations) < 0.2 * sum(o.bytes for o in dense.operations)


# --- products by hand ----------------------------------------------------------------------------------


def flops_of(model_class, feature_map, settings):
    return sum(operation.flops for operation in simulate(model_class, feature_map, settings).operations)


def test_flops_of_dnn_and_dcnv2_agree_with_formulas():
    rows, sets, width = 512, 4, 6 * 10
    feature_map = map_of(*[50] * 6)
    common = {**DCNV2, "batch_size": rows}
    head = 400 * 400 + 400 * 1
    dcnv2 = sets * (4 * width * width + width * 400) + head
    assert flops_of(DCNv2_ME, feature_map, common) == pytest.approx(3 * 2 * rows * dcnv2, rel=0.01)
    dnn = {key: value for key, value in common.items() if key not in ("stacked_dnn_hidden_units", "num_cross_layers")}
    expected = 3 * 2 * rows * (sets * width * 400 + head)
    assert flops_of(DNN_ME, feature_map, {**dnn, "hidden_units": [400, 400]}) == pytest.approx(expected, rel=0.01)


@EVERY_FAMILY
def test_flops_agree_with_pytorchs_count_in_a_real_step(model_class):
    feature_map = map_of(11, 7, 5)
    settings = {**MODEL, "model_root": "unused", **FAMILIES[model_class], "embedding_dim": 4, "num_sets": 2}
    model = model_class(feature_map, **settings).train()
    model._max_gradient_norm = 10.0
    with FlopCounterMode(display=False) as counter:
        model.train_step(make_batch(feature_map, rows=32))
    found = simulate(model_class, feature_map, {**settings, "batch_size": 32})
    assert sum(operation.flops for operation in found.operations) == counter.get_total_flops() > 0


# --- the ledger, on tensors with data ------------------------------------------------------------------


def moved(function, *tensors):
    with Ledger() as ledger:
        function(*tensors)
    return sum(operation.bytes for operation in ledger.operations)


def test_bytes_are_those_of_the_operands():
    a, b, ids = torch.randn(100, 10), torch.randn(100, 10), torch.arange(7)  # 4,000 bytes each; 56
    assert moved(torch.add, a, b) == 3 * 4000
    assert moved(torch.Tensor.add_, a, b) == 3 * 4000
    assert moved(torch.Tensor.copy_, a, b) == 2 * 4000
    assert moved(torch.Tensor.zero_, a) == 4000
    assert moved(lambda x: x.view(10, 100).t().unsqueeze(0).detach(), a) == 0
    assert moved(torch.empty_like, a) == 0 and moved(lambda x: x.new_zeros(5), a) == 20
    assert moved(lambda x, y: x @ y.t(), a, b) == 2 * 4000 + 4 * 100 * 100
    assert moved(lambda x: x + torch.ones(1).expand(100, 10), a) == 2 * 4000 + 4 + 4  # the 1 is written and read
    assert moved(lambda x, i: torch.nn.functional.embedding(i, x), a, ids) == 2 * 7 * 40 + 56
    assert moved(lambda x, i: x.index_select(0, i), a, ids) == 2 * 7 * 40 + 56
    assert moved(lambda x, i, v: x.index_add_(0, i, v), a, ids, b[:7]) == 3 * 7 * 40 + 56
    assert moved(lambda x, i: x.index_fill_(0, i, 0), a, ids) == 7 * 40 + 56


def test_a_fused_step_of_an_optimizer_is_recorded_but_not_taken():
    """PyTorch 2.4 has no version of it for tensors without data, and would take it on real ones of their size."""
    weight, gradient, first, second = (torch.full((4, 3), value) for value in (1.0, 0.5, 0.0, 0.0))
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "eps": 1e-8}
    options |= {"amsgrad": False, "maximize": False}
    operands = ([weight], [gradient], [first], [second], [], [torch.ones(())])
    with Ledger() as ledger:
        torch._fused_adam_(*operands, **options)
    assert (weight == 1).all() and not first.any() and not second.any()
    assert [operation.name for operation in ledger.operations] == ["_fused_adam_"]
    torch._fused_adam_(*operands, **options)
    assert (weight < 1).all()


def test_fused_adam_moves_28_bytes_per_parameter():
    p = torch.nn.Parameter(torch.randn(1000))
    optimizer = torch.optim.Adam([p], fused=True)
    p.grad = torch.randn(1000)
    optimizer.step()
    with Ledger() as ledger:
        optimizer.step()
    assert [o.bytes for o in ledger.operations if "adam" in o.name] == [pytest.approx(28 * 1000, abs=32)]


def test_the_peak_is_split_by_kind():
    with Ledger() as ledger:
        kept = torch.zeros(1000)
        passing = torch.zeros(5000)
        del passing
        ledger.start()
        first = kept + 1
        second = torch.cat([first, first])  # 1000 + 1000 + 2000 numbers
        third = second.view(2, 1000)
        marked = ledger.serials([third])
        del first, second
        fourth = kept * 2  # 1000 + 2000 + 1000
        fifth = fourth.sum()  # and 1: the peak
        parts = ledger.at_peak(ledger.serials([kept]), marked, ledger.serials([fifth]))
    assert parts == [4000, 8000, 4, 4000]


# --- every kind of field, every setting ----------------------------------------------------------------


MORE_SETTINGS = [{"fused_embedding": False}, {"precision": "bf16"}, {"aggregation": "elementwise_gated"}]
MORE_SETTINGS += [{"aggregation": "confidence", "mutual_learning_regularizer": 0.1}]


@pytest.mark.parametrize(
    ("model_class", "settings"),
    [
        *((family, {}) for family in FAMILIES),
        *((FinalMLP_ME, settings) for settings in MORE_SETTINGS),
        *(
            pytest.param(family, settings, marks=pytest.mark.slow)
            for family in FAMILIES
            for settings in MORE_SETTINGS
            if family is not FinalMLP_ME
        ),
    ],
)
def test_every_family_is_simulated(model_class, settings):
    settings = {**MODEL, "model_root": "unused", **FAMILIES[model_class], "embedding_dim": 4, "num_sets": 2, **settings}
    found = simulate(model_class, map_of(11, 7, 5), {**settings, "batch_size": 16})
    assert found.embedding_parameters == 2 * 4 * 23
    assert found.memory.activations > 16 * 2 * 3 * 4 * 4  # the embeddings of the batch, at least


def test_sequence_numeric_shared_and_embedding_fields_and_their_batch(tmp_path):
    features = {
        "user": categorical(11),
        "seen": sequence(7, 5),
        "item": categorical(7, share_embedding="seen"),
        "price": {"source": "", "type": "numeric"},
        "group": {"source": "", "type": "meta"},
    }
    feature_map = make_feature_map(features, tmp_path)
    settings = {**DNN, "batch_size": 100_000, "callbacks": ["InformationAbundance"], "compile": True, "gpu": 0}
    found = simulate(DNN_ME, feature_map, settings)
    assert found.embedding_parameters == 3 * 4 * (11 + 7 + 1)
    assert found.parameters == DNN_ME(feature_map, **DNN).num_parameters()
    batch_bytes = 100_000 * (8 + 5 * 8 + 8 + 4 + 8 + 4)
    assert batch_bytes < found.memory.activations < 100 * batch_bytes


# --- compared with measurements ----------------------------------------------------------------------------

MEASURE = """
import gc, json, os, sys
sys.path[:0] = [{tests!r}]
import torch
from helpers.batches import make_batch
from helpers.feature_maps import categorical, make_feature_map
from fuxictr_me import DCNv2_ME
from fuxictr_me.training import step

step.keep_freed_memory = lambda: None

def train(settings, size, rows):
    feature_map = make_feature_map({{f"f{{i}}": categorical(size) for i in range(20)}})
    batch = make_batch(feature_map, rows)
    start = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # VmHWM, the peak, is reset
    model = DCNv2_ME(feature_map, **settings).train()
    model._max_gradient_norm = 10.0
    for _ in range(2):
        model.train_step(batch)
    return status("VmHWM") - start

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

settings = json.loads(sys.argv[1])
train({{**settings, "num_sets": 2, "embedding_dim": 2}}, 5, 8)  # libraries load and keep memory at first use
gc.collect()
print(train(settings, 15_000, settings["batch_size"]))
"""


def peak_of_a_process(settings):
    """Bytes by which resident memory rises while a model of 300,000 ids is built and takes two steps.

    The allocator gives blocks of 64 KB and more back at once, and is not told to keep them: what glibc hoards is not
    predicted.
    """
    command = [sys.executable, "-c", MEASURE.format(tests=str(ROOT / "tests")), json.dumps(settings)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


needs_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux' /proc")


@needs_linux
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"num_sets": 2, "batch_size": 2048}, id="ME 2x"),
        pytest.param({}, id="ME 4x", marks=pytest.mark.slow),
        pytest.param({"embedding_regularizer": 1e-5, "batch_size": 2048}, id="L2", marks=pytest.mark.slow),
        pytest.param({"fused_embedding": False}, id="FuxiCTR's tables", marks=pytest.mark.slow),
        pytest.param({"embedding_updates": "lazy"}, id="lazy", marks=pytest.mark.slow),
        pytest.param({"embedding_updates": "catch_up"}, id="catch_up", marks=pytest.mark.slow),
        pytest.param({"num_sets": 1, "embedding_dim": 40}, id="SE 4x", marks=pytest.mark.slow),
        pytest.param({"num_sets": 10}, id="ME 10x", marks=pytest.mark.slow),
        pytest.param({"precision": "bf16", "num_sets": 2}, id="bf16", marks=pytest.mark.slow),
    ],
)
def test_the_memory_of_a_process_is_as_estimated(settings):
    settings = {**DCNV2, **settings}
    predicted = simulate(DCNv2_ME, map_of(*[15_000] * 20), settings, on_gpu=False).memory.peak
    assert predicted == pytest.approx(peak_of_a_process(settings), rel=0.15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", [{}, {"num_sets": 1, "embedding_dim": 40}, {"embedding_updates": "lazy"}])
def test_the_memory_of_a_gpu_is_as_estimated(settings):
    settings, feature_map = {**DCNV2, **settings}, map_of(*[15_000] * 20)
    batch = {name: x.cuda() for name, x in make_batch(feature_map, settings["batch_size"]).items()}
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = DCNv2_ME(feature_map, **settings, gpu=0).train()
    model._max_gradient_norm = 10.0
    for _ in range(3):
        model.train_step(batch)
    predicted = simulate(DCNv2_ME, feature_map, settings).memory.peak
    assert predicted == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.15)


# --- a plan --------------------------------------------------------------------------------------------


def test_least_times_are_operations_over_the_speeds_of_the_data_sheet():
    feature_map, settings = map_of(*[500] * 5), {**DCNV2, "batch_size": 512}
    for name, precision, peak, bandwidth in (
        ("h100", "float32", 67e12, 3.35e12),
        ("A100", "tf32", 156e12, 2.039e12),
        ("RTX 4090", "float32", 82.6e12, 1.008e12),
        ("V100", "tf32", 15.7e12, 0.9e12),  # a V100 has no tf32
    ):
        found = plan(DCNv2_ME, feature_map, {**settings, "precision": precision}, name)
        assert found.compute_seconds == pytest.approx(found.flops / peak)
        assert found.traffic_seconds == pytest.approx(found.bytes_moved / bandwidth)
        assert found.floor_seconds == max(found.compute_seconds, found.traffic_seconds)
        assert found.floor_seconds <= found.kernel_seconds < found.compute_seconds + found.traffic_seconds
    with pytest.raises(UsageError, match="unknown GPU 'H1000'; did you mean 'H100'"):
        plan(DCNv2_ME, feature_map, settings, "H1000")


def test_data_are_placed_where_the_loader_puts_them():
    feature_map, rows = map_of(200, 30_000, 70_000), {"train": 1000, "valid": 100}  # uint8, int16, int32, label float32
    train, valid = 1000 * (1 + 2 + 4 + 4 + 8), 100 * (1 + 2 + 4 + 4)
    h5 = {"data_format": "h5"}
    assert place_data(feature_map, h5, rows, 1e9) == ({"train": train, "valid": valid}, ("train", "valid"))
    assert place_data(feature_map, {**h5, "shuffle": False}, rows, 1e9)[0]["train"] == train - 8000
    assert place_data(feature_map, h5, rows, 2 * train)[1] == ("valid",)
    assert place_data(feature_map, h5, rows, 2 * train + 1)[1] == ("train", "valid")
    assert place_data(feature_map, {**h5, "data_placement": "memory"}, rows, 1e9)[1] == ()
    assert place_data(feature_map, {**h5, "data_placement": "device"}, rows, 0)[1] == ("train", "valid")
    assert place_data(feature_map, h5, {}, 1e9) == ({}, ())
    assert place_data(feature_map, {"data_format": "csv"}, rows, 1e9) == ({}, ())


def test_plans_that_do_not_fit_list_changes_that_would():
    feature_map = map_of(20_000_000, 15_000_000, 1000)
    settings = {**DNN, "num_sets": 8, "embedding_dim": 10, "batch_size": 16, "hidden_units": [64, 32]}
    found = plan(DNN_ME, feature_map, settings, "V100")  # 35 M ids x (80 x 12 + 4) bytes
    assert not found.fits and found.needed == pytest.approx(33.74e9, rel=0.01)
    changes = {key: value for key, value, changed in what_would_fit(DNN_ME, feature_map, settings, "V100")}
    assert changes == {"num_sets": 4}  # no batch is small enough
    assert plan(DNN_ME, feature_map, {**settings, "num_sets": 4}, "V100").fits
    without_kernel = {**settings, "num_sets": 6, "optimizer": "AdamW"}  # its gradient has the table's size
    assert plan(DNN_ME, feature_map, without_kernel, "V100").needed == pytest.approx(35e6 * 60 * 16, rel=0.01)
    single = {**settings, "num_sets": 1, "embedding_dim": 80}
    assert [change[:2] for change in what_would_fit(DNN_ME, feature_map, single, "V100")] == [("embedding_dim", 40)]


def test_a_batch_that_is_too_large_is_refused():
    feature_map, settings = map_of(*[500] * 5), {**DCNV2, "embedding_dim": [10, 10, 10, 10], "batch_size": 1 << 21}
    [(key, value, changed)] = what_would_fit(DCNv2_ME, feature_map, settings, "T4")
    assert key == "batch_size" and changed.fits and changed.batch_size == value
    assert not plan(DCNv2_ME, feature_map, {**settings, "batch_size": 2 * value}, "T4").fits


# --- times, and what would be fastest ------------------------------------------------------------------

CRITEO_LIKE = {**DCNV2, "embedding_regularizer": 1e-5}


def criteo_like(ids=1_000_000):
    """Return the feature map of the measured steps: 39 fields, half of them small."""
    return map_of(*[50] * 20, *[(ids - 1000) // 19] * 19)


OF_FOUR_SETS, OF_TEN_SETS = [(4, "float32"), (4, "bf16")], [(10, "tf32")]


@pytest.fixture(scope="module", params=[OF_FOUR_SETS, pytest.param(OF_TEN_SETS, marks=pytest.mark.slow)], ids=str)
def measured_plans(request):
    """Return (M, precision) -> plan of a measured step; tf32 has the operations of float32."""
    return {
        (sets, precision): plan(
            DCNv2_ME, criteo_like(), {**CRITEO_LIKE, "num_sets": sets, "precision": precision}, "H200"
        )
        for sets, precision in request.param
    }


def test_expected_times_agree_with_measured_ones(measured_plans):
    compared = 0
    for (sets, precision, is_compiled), ms in STEPS.items():
        if (sets, precision) in measured_plans:
            found = measured_plans[sets, precision]
            expected = expected_seconds(found.kernel_seconds, precision, is_compiled)
            assert 1e3 * expected == pytest.approx(ms, rel=0.08), (sets, precision, is_compiled)
            compared += 1
    assert compared == 2 * len(measured_plans)


def test_the_expected_time_is_that_of_a_recorded_step(measured_plans):
    for (_, precision), found in measured_plans.items():
        assert found.expected_seconds == expected_seconds(found.kernel_seconds, precision)
        unrecorded = expected_seconds(found.kernel_seconds, precision, is_recorded=False)
        assert unrecorded > (2 if precision == "float32" else 1) * found.expected_seconds


def test_the_peak_agrees_with_the_memory_measured_on_a_gpu(measured_plans):
    compared = 0
    for (sets, _), mb in PEAKS.items():
        found = measured_plans.get((sets, "tf32" if sets == 10 else "float32"))  # they need the same memory
        if found:
            assert found.memory.peak / 1e6 == pytest.approx(mb, rel=0.2) and found.memory.peak / 1e6 < mb
            compared += 1
    assert compared > 0


def test_the_fastest_settings_use_compile_and_update_by_rows_only_for_large_tables():
    small, large = map_of(*[500] * 5), map_of(*[5_000_000] * 5)
    settings = {**DCNV2, "num_sets": 2, "compile": False, "num_cross_layers": 1, "batch_size": 512}
    found = {
        ids: fastest_settings(DCNv2_ME, feature_map, settings, plan(DCNv2_ME, feature_map, settings, "H200"))
        for ids, feature_map in (("small", small), ("large", large))
    }
    assert [advice.settings["embedding_updates"] for advice in found["small"]] == ["dense"] * 2
    assert [advice.settings["embedding_updates"] for advice in found["large"]] == ["catch_up"] * 2
    assert [advice.settings["precision"] for advice in found["large"]] == ["float32", "tf32"]
    for same, *rounded in found.values():
        assert same.settings["compile"] is True and same.settings["cuda_graph"] == "auto"
        assert all(advice.seconds < same.seconds for advice in rounded) and len(rounded) == 1
    regularised = {**settings, "embedding_regularizer": 1e-5}
    [first, *_] = fastest_settings(DCNv2_ME, large, regularised, plan(DCNv2_ME, large, regularised, "H200"))
    assert first.settings["embedding_updates"] == "dense"  # all rows have gradients
    on_v100 = plan(DCNv2_ME, small, settings, "V100")  # a V100 has no tf32
    assert len(fastest_settings(DCNv2_ME, small, settings, on_v100)) == 1


# --- the command ---------------------------------------------------------------------------------------


def numbers(text):
    """Return first words of each line -> the first number after them, as text."""
    return {line[:32].strip(): line[32:].split()[0] for line in text.splitlines() if line[32:].split()}


def test_the_papers_criteo_can_be_planned_before_it_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing is built here
    text = plan_run("DCNv2_ME_criteo_ME_10x", str(ZOO))
    net = 10 * (4 * (390 * 390 + 390) + 390 * 400 + 400 + 800) + (400 * 400 + 400 + 800) + 401
    found = numbers(text)
    assert "criteo_paper is not built: 1,086,810 ids, as published" in text
    assert found["embeddings"] == f"{1_086_810 * 100:,}" and found["others"] == f"{net:,}"
    assert "an epoch: 36,672,493 rows, 17,907 steps" in text
    assert "fits: " in text and "of 80 GB" in text
    assert "train data" in text and "on the GPU" in text
    assert "expected (see below)" in text and f"measured on {MEASURED}" in text
    assert "fastest with the same results" in text and "compile: True" in text and "precision: tf32" in text
    assert list(tmp_path.iterdir()) == []


def test_a_plan_needs_a_built_set_or_a_vocabulary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = yaml.safe_load((ZOO / "dataset_config.yaml").read_text())["tiny_flights"]
    with pytest.raises(UsageError) as caught:
        plan_run("DCNv2_ME_test", str(ZOO))
    assert "build it first (fuxictr-me data build tiny_flights --config" in str(caught.value)
    assert "\n" not in str(caught.value)

    sizes = {name: 10 + i for i, name in enumerate(entries["feature_cols"][0]["name"])}
    (tmp_path / "ids.json").write_text(json.dumps(sizes))
    text = plan_run("DCNv2_ME_test", str(ZOO), "T4", vocabulary="ids.json")
    expected = 2 * 4 * (sum(sizes.values()) + 1)  # two sets of 4; the numeric field has one vector
    assert numbers(text)["embeddings"] == f"{expected:,}" and "on one T4 (16 GB, 0.32 TB/s, 8.1 TFLOP/s" in text

    built = tmp_path / "data" / "tiny_flights"
    built.mkdir(parents=True)
    features = [{name: categorical(5)} for name in sizes]
    content = {"dataset_id": "tiny_flights", "labels": ["late"], "features": features, "total_features": 40}
    (built / "feature_map.json").write_text(json.dumps({**content, "input_length": 8}))
    assert numbers(plan_run("DCNv2_ME_test", str(ZOO)))["embeddings"] == f"{2 * 4 * 5 * len(sizes):,}"
    assert numbers(plan_run("DCNv2_ME_test", str(ZOO), vocabulary="ids.json"))["embeddings"] == f"{expected:,}"


def test_the_text_lists_changes_with_which_a_run_fits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = yaml.safe_load((ZOO / "dataset_config.yaml").read_text())["tiny_flights"]["feature_cols"]
    Path("ids.json").write_text(json.dumps(dict.fromkeys(columns[0]["name"], 27_000_000)))
    text = plan_run("DCNv2_ME_test", str(ZOO), "T4", vocabulary="ids.json")  # 216 M ids x (2 sets x 4 x 12 + 4) bytes
    assert "\ndoes not fit: 21.61 GB of 16 GB\n" in text
    assert "num_sets: 1" in text and "11.24 GB  fits" in text and "lazy" not in text  # there is a regulariser
    text = plan_run("DCNv2_ME_test", str(ZOO), "L4", vocabulary="ids.json")
    assert "\nfits: 21.61 GB of 24 GB\n" in text and "num_sets" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"month": 12}', "the vocabulary does not have the field 'day_of_week' (it has month)"),
        ('{"month": 0}', "the number of ids of field 'month' in ids.json must be an integer of 1 or more, got 0"),
        ("[1]", "ids.json must hold field: number of ids, got list"),
        ("{", "ids.json is not a JSON file"),
        (None, "no vocabulary file at ids.json"),
    ],
)
def test_invalid_vocabularies_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("ids.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        plan_run("DCNv2_ME_test", str(ZOO), vocabulary="ids.json")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expid", "message"),
    [
        ("DCNv2_ME_tset", "did you mean 'DCNv2_ME_test'"),
        ("DCNv2_ME_default", "is a template: copy it"),
        ("Base", "Base"),
    ],
)
def test_invalid_settings_are_refused(expid, message):
    with pytest.raises(UsageError, match=message):
        plan_run(expid, str(ZOO))


def test_gpus_have_the_figures_of_their_data_sheets():
    assert {name: gpu.memory / 1e9 for name, gpu in GPUS.items()} == {
        "H200": 141, "H100": 80, "A100": 80, "V100": 32, "L4": 24, "A10": 24, "T4": 16, "RTX4090": 24,
    }  # fmt: skip
