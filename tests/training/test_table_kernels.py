"""The Triton kernels, in its interpreter if there is no GPU, against PyTorch and plain Adam in float64."""

import copy

import pytest
import torch
from helpers.feature_maps import categorical, make_feature_map
from helpers.step_pairs import difference, rare_batches, two_models

from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.catch_up import FIRST_STEPS, CaughtUpRows
from fuxictr_me.training.one_pass import OnePassRows, SweptRows
from fuxictr_me.training.step import Step
from fuxictr_me.training.table_updates import DenseRows
from fuxictr_me.training.touched_rows import LazyRows, TouchedRows

pytest.importorskip("triton", reason="Triton is not installed: pip install 'fuxictr-me[kernels]'")
import triton

from fuxictr_me.training import kernel_check, table_kernels

pytestmark = pytest.mark.skipif(
    triton.__version__.startswith("3.0.") and not torch.cuda.is_available(),
    reason="Triton 3.0's interpreter crashes in atomic_add",
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES, PADDING = [31, 5, 40], {0: 0, 2: 3}  # rows of each field; its padding id


def set_block(monkeypatch, block):
    """Let a small table have several blocks."""
    monkeypatch.setattr(table_kernels.sweep, "__defaults__", (0.0, 0.0, block, 4))


def make_table(dims, dtype):
    table = FusedTable(["a", "b", "c"], SIZES, dims).to(DEVICE, dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        table.weight.copy_(torch.randn(table.weight.shape, generator=generator, dtype=torch.float64))
        table.weight[2] = 0  # λ₁ has no gradient there
    for f, padding in PADDING.items():
        table.padding_ids[f] = padding
    return table


def batch_of(table, step, size=50):
    """Return rows of a batch, with repeated ones and padding, and the factors of the embeddings in the loss."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.stack([torch.randint(min(D, 6 + step), (size,), generator=generator) for D in SIZES], dim=1).to(DEVICE)
    weights = torch.randn(size, len(SIZES), table.weight.shape[1], generator=generator, dtype=torch.float64)
    return ids + table.first_rows, ids == table.padding_ids, weights.to(DEVICE, table.weight.dtype)


def step_by(rows, batches, max_norm):
    """Take one step as ``Step`` does. Return the squared norm and the penalty."""
    rows.prepare()
    rows.optimizer.zero_grad()
    rows.begin()
    loss = sum((rows.read(*ids) * weights).sum() for *ids, weights in batches)
    if batches:
        loss.backward()
    square, penalty = rows.collect()
    square = torch.as_tensor(square, dtype=rows.table.weight.dtype, device=DEVICE)
    rows.scale((max_norm / (square.sqrt() + 1e-6)).clamp(max=1.0))
    rows.optimizer.step()
    rows.finish()
    rows.count()
    return float(square), float(penalty)


class PlainAdam:
    """The dense gradient, its norm, clipping and Adam, written out in float64."""

    def __init__(self, weight, l1, l2, decay=0.0, lr=0.01, eps=1e-8):
        self.W = weight.detach().double().cpu().clone()
        self.m, self.v, self.t = torch.zeros_like(self.W), torch.zeros_like(self.W), 0
        self.l1, self.l2, self.decay, self.lr, self.eps = l1, l2, decay, lr, eps

    def step(self, batches, max_norm):
        W = self.W
        G = self.l1 * W.sign() + self.l2 * W
        for rows, padded, weights in batches:
            for b, f in (~padded).nonzero().tolist():
                G[rows[b, f]] += weights[b, f].double().cpu()
        square, penalty = float(G.square().sum()), float((self.l1 * W.abs() + self.l2 / 2 * W.square()).sum())
        G = G * min(1.0, max_norm / (square**0.5 + 1e-6)) + self.decay * W
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * G
        self.v = 0.999 * self.v + 0.001 * G * G
        root = (self.v / (1 - 0.999**self.t)).sqrt()
        self.W = W - self.lr * (self.m / (1 - 0.9**self.t)) / (root + self.eps)
        return square, penalty


@pytest.mark.parametrize("dims, block, l1, l2, decay, max_norm", [
    ([7], 128, 0.0, 0.0, 0.0, 1e9),
    ([3, 4], 512, 0.0, 0.01, 0.0, 5.0),  # clipped in every step
    ([10] * 10, 4096, 0.001, 0.01, 0.0, 1e9),
    ([100], 2048, 0.001, 0.0, 0.0, 5.0),
    ([64], 256, 0.0, 0.0, 0.02, 5.0),  # 19 blocks, all full
    ([390], 16384, 0.0, 0.01, 0.0, 1e9),
    ([7], 1024, 0.1, 0.0, 0.0, 1e9),  # one block, not full
])  # fmt: skip
def test_one_pass_equals_dense_adam(dims, block, l1, l2, decay, max_norm, monkeypatch):
    set_block(monkeypatch, block)
    tables = [make_table(dims, torch.float32), make_table(dims, torch.float32)]
    optimizers = [torch.optim.Adam([table.weight], lr=0.01, weight_decay=decay, fused=True) for table in tables]
    mine = OnePassRows(tables[0], optimizers[0], l1, l2, table_kernels)
    theirs = DenseRows(tables[1], optimizers[1], l1, l2)
    plain = PlainAdam(tables[0].weight, l1, l2, decay)
    for step in range(6):
        batches = [batch_of(tables[0], step, size=[50, 3][step % 2])]
        if step == 3:
            batches = []  # nothing was read
        if step == 4:
            batches.append(batch_of(tables[0], 77, size=9))  # the table was read twice
        expected = plain.step(batches, max_norm)
        for rows in (mine, theirs):
            assert step_by(rows, batches, max_norm) == pytest.approx(expected, rel=2e-5, abs=1e-6), (step, rows)
        errors = [float((table.weight.detach().cpu().double() - plain.W).abs().max()) for table in tables]
        assert errors[0] < 2 * errors[1] + 1e-6, (step, errors)
    for moment, exact in (("exp_avg", plain.m), ("exp_avg_sq", plain.v)):
        got = optimizers[0].state[tables[0].weight][moment].cpu().double()
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-6)
    assert tables[0].weight.grad is None
    assert float(optimizers[0].state[tables[0].weight]["step"]) == 6


def test_weights_and_moments_loaded_between_steps_are_used():
    table = make_table([7], torch.float32)
    optimizer = torch.optim.Adam([table.weight], lr=0.01, fused=True)
    rows, other = OnePassRows(table, optimizer, 0.0, 0.1, table_kernels), make_table([7], torch.float32)
    plain = PlainAdam(table.weight, 0.0, 0.1)
    for step in range(5):
        if step == 2:
            with torch.no_grad():
                table.weight.copy_(3 * other.weight)
            plain.W = 3 * other.weight.detach().double().cpu()
        if step == 3:
            before = rows.graph_key
            optimizer.load_state_dict(torch.optim.Adam([other.weight]).state_dict())
            plain.m, plain.v, plain.t, plain.lr = 0 * plain.m, 0 * plain.v, 0, 1e-3
            assert rows.graph_key != before  # a graph that was captured knows the old moments
        batches = [batch_of(table, step)]
        assert step_by(rows, batches, 5.0) == pytest.approx(plain.step(batches, 5.0), rel=1e-5)
    torch.testing.assert_close(table.weight.detach().cpu().double(), plain.W, rtol=0, atol=1e-5)


def test_a_learning_rate_tensor_is_read_in_every_step():
    table = make_table([7], torch.float32)
    lr = torch.tensor(0.01, device=DEVICE)
    rows = OnePassRows(table, torch.optim.Adam([table.weight], lr=lr, fused=True), 0.0, 0.0, table_kernels)
    plain = PlainAdam(table.weight, 0.0, 0.0)
    for step in range(4):
        lr.fill_(0.01 / (1 + step))
        plain.lr = 0.01 / (1 + step)
        batches = [batch_of(table, step)]
        step_by(rows, batches, 5.0), plain.step(batches, 5.0)
    torch.testing.assert_close(table.weight.detach().cpu().double(), plain.W, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernels", [None, table_kernels])
@pytest.mark.parametrize("dims", [[7], [3, 97]])
def test_lazy_rows_equal_pytorchs_sparse_adam(dims, kernels):
    table, other = make_table(dims, torch.float32), make_table(dims, torch.float64)
    rows = LazyRows(table, torch.optim.Adam([table.weight], lr=0.01), on_cpu=False)
    rows.kernels = kernels
    sparse_adam = torch.optim.SparseAdam([other.weight], lr=0.01)
    for step in range(6):
        batch = batch_of(table, step)
        step_by(rows, [batch], 1e9)
        at, padded, weights = batch
        e = torch.nn.functional.embedding(at[~padded], other.weight, sparse=True)
        sparse_adam.zero_grad()
        (e * weights[~padded].double()).sum().backward()
        # padding rows of the batch count as touched here, with a gradient of 0
        touched, nothing = at[padded].unsqueeze(0), e.new_zeros(int(padded.sum()), e.shape[1])
        zero = torch.sparse_coo_tensor(touched, nothing, other.weight.shape, check_invariants=True)
        other.weight.grad = (other.weight.grad + zero).coalesce()
        sparse_adam.step()
    torch.testing.assert_close(table.weight.detach().double(), other.weight.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "of_dense_steps, kernels",
    [(None, None), (None, table_kernels), pytest.param(table_kernels, table_kernels, marks=pytest.mark.slow)],
)
def test_catch_up_with_static_shapes_equals_dense_adam(of_dense_steps, kernels, monkeypatch):
    monkeypatch.setattr("fuxictr_me.training.catch_up.CHUNK_ROWS", 30)
    table = make_table([3, 4], torch.float32)
    optimizer = torch.optim.Adam([table.weight], lr=0.01, fused=True)
    rows = CaughtUpRows(table, optimizer, on_cpu=False, kernels=of_dense_steps)
    rows.kernels = kernels
    plain, keys = PlainAdam(table.weight, 0.0, 0.0), set()
    for step in range(FIRST_STEPS + 60):
        batches = [batch_of(table, step % 11 if step % 50 else 60, size=5)]  # most rows are read rarely
        if step == FIRST_STEPS + 30:
            optimizer.param_groups[0]["lr"] = plain.lr = 0.002
        assert step_by(rows, batches, 5.0)[0] == pytest.approx(plain.step(batches, 5.0)[0], rel=1e-4), step
        keys.add(rows.graph_key[0])
    assert keys == {True, False}
    assert int((rows.last < rows.steps).sum()) > 30
    rows.settle()
    torch.testing.assert_close(table.weight.detach().cpu().double(), plain.W, rtol=0, atol=2e-4)
    assert float(optimizer.state[table.weight]["step"]) == FIRST_STEPS + 60


def test_catch_up_continues_from_the_optimizers_step():
    """After loading a state, rows are updated singly at once, with the bias corrections of the steps so far."""
    first, second = make_table([7], torch.float64), make_table([7], torch.float64)
    optimizers = [torch.optim.Adam([table.weight], lr=0.01) for table in (first, second)]
    whole = CaughtUpRows(first, optimizers[0])
    for step in range(FIRST_STEPS + 10):
        step_by(whole, [batch_of(first, step, size=5)], 5.0)
    whole.settle()
    with torch.no_grad():
        second.weight.copy_(first.weight)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    resumed = CaughtUpRows(second, optimizers[1])
    for step in range(20):
        for rows in (whole, resumed):
            step_by(rows, [batch_of(first, step, size=5)], 5.0)
    assert resumed.dense is None
    whole.settle(), resumed.settle()
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=1e-12)


def test_on_a_gpu_equal_rows_share_one_place_and_no_shape_depends_on_the_data():
    table = make_table([7], torch.float32)
    rows = TouchedRows(table, torch.optim.Adam([table.weight]), on_cpu=False)
    ids = torch.tensor([5, 9, 5, 5, 0, 9], device=DEVICE)
    touched, place = rows._number(ids)
    assert torch.equal(touched, ids)
    assert torch.equal(ids[place], ids)
    assert place[0] == place[2] == place[3] and place[1] == place[5]
    assert int(rows._is_first(place).sum()) == 3


def test_kernels_that_fail_or_are_wrong_are_not_used(monkeypatch, caplog):
    assert kernel_check.find_error(torch.device(DEVICE), 7) == ""
    right = table_kernels.sweep

    def wrong(*args, **options):
        sums = right(*args, **options)
        args[0].mul_(1.001)
        return sums

    for broken, told in (
        (wrong, "are off: weights by"),
        (lambda *_, **__: 1 / 0, "ZeroDivisionError: division by zero"),
    ):
        monkeypatch.setattr(table_kernels, "sweep", broken)
        kernel_check.kernels_work_on.cache_clear()
        assert not kernel_check.kernels_work_on(torch.device(DEVICE), 7)
        assert told in caplog.text
    kernel_check.kernels_work_on.cache_clear()


def test_a_models_step_with_the_kernel_equals_fuxictrs():
    feature_map = make_feature_map({"user": categorical(300), "item": categorical(50)})
    settings = {"embedding_regularizer": 0.01, "batch_norm": False, "net_dropout": 0}
    ours, plain = two_models("DNN", feature_map, dtype=torch.float32, **settings)
    ours._step, table = Step(ours), ours.embedding_layer.table
    assert [type(rows) for rows in ours._step.rows] == [SweptRows]
    table.updates = OnePassRows(table, ours.optimizer, 0.0, 0.01, table_kernels)
    ours._step.rows = [table.updates]
    for step, batch in rare_batches(feature_map, 8):
        mine, theirs = (model.train_step(batch).item() for model in (ours, plain))
        assert mine == pytest.approx(theirs, abs=1e-5), step
    assert difference(ours, plain) < 1e-4
