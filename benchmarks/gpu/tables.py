"""Cells of one fused table: its kernels against float64, the time of its updates, and InformationAbundance."""

import itertools
import time
from collections.abc import Iterator

import torch
from machine import FIELDS, Machine
from models import build
from torch import Tensor

KINDS = ("dense", "one pass", "catch_up", "lazy")
SIZES = ((1_000_000, 40), (1_000_000, 100), (5_000_000, 100))
# After 8 steps of up to 1e-3: mean error of weights, and relative error of the norm of the gradient. Early updates are
# like a sign, so where a gradient is near 0 its rounding moves a weight; the mean does not see that.
MEAN_ERROR, NORM_ERROR = 1e-7, 1e-4


def make_table(machine: Machine, ids: int, dim: int, dtype: torch.dtype = torch.float32) -> object:
    """Return a table of 39 fields: half are small, the others share the ids by a power law."""
    from fuxictr_me.nn.fused_table import FusedTable

    small = [3 + 7 * f for f in range(FIELDS // 2)]
    shares = [1 / (f + 1) for f in range(FIELDS - len(small))]
    large = [max(4, int((ids - sum(small)) * share / sum(shares))) for share in shares]
    with machine.device:
        table = FusedTable([f"f{f}" for f in range(FIELDS)], small + large, [dim]).to(dtype)
        table.weight.detach().normal_(std=0.1)
    table.padding_ids.zero_()
    return table


def make_batch(table: object, batch_size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows (B, F), frequent ids first; whether they are padding; and the gradient of the embeddings."""
    device = table.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    u = torch.rand(batch_size, FIELDS, generator=generator, device=device)
    ids = (u.pow(3) * table.sizes).long().clamp_(max=table.sizes - 1)
    gradient = torch.randn(batch_size, FIELDS, table.weight.shape[1], generator=generator, device=device)
    return ids + table.first_rows, ids == 0, gradient.to(table.weight.dtype)


def updates(kind: str, table: object, l2: float = 0.0, **adam: float) -> object:
    """Return what updates the table in a training step."""
    from fuxictr_me.training import table_kernels
    from fuxictr_me.training.catch_up import CaughtUpRows
    from fuxictr_me.training.one_pass import OnePassRows
    from fuxictr_me.training.table_updates import DenseRows
    from fuxictr_me.training.touched_rows import LazyRows

    optimizer = torch.optim.Adam([table.weight], lr=1e-3, fused=True, **adam)
    if kind == "dense":
        return DenseRows(table, optimizer, 0.0, l2)
    if kind == "one pass":
        return OnePassRows(table, optimizer, 0.0, l2, table_kernels)
    by = {"catch_up": CaughtUpRows, "lazy": LazyRows}[kind](table, optimizer, on_cpu=False)
    by.kernels = table_kernels  # in the interpreter, too
    return by


def compute(by: object, batch: tuple) -> Tensor:
    """Do the part of a step that can be recorded; the gradient of the embeddings is given. Returns ‖G‖²."""
    rows, padded, gradient = batch
    by.optimizer.zero_grad()
    by.begin()
    by.read(rows, padded).backward(gradient)
    square, _ = by.collect()
    by.scale((10.0 / (square.sqrt() + 1e-6)).clamp(max=1.0))
    by.optimizer.step()
    by.finish()
    return square


def step(by: object, batch: tuple) -> Tensor:
    """Do a step in which nothing but the table is trained."""
    by.prepare()
    square = compute(by, batch)
    by.count()
    return square


def equal(machine: Machine, cell: dict) -> Iterator[dict]:
    """Each kind of updates in float32 against ``DenseRows`` in float64."""
    from fuxictr_me.training import catch_up

    catch_up.FIRST_STEPS = 3
    batch_size = 8 if machine.is_tiny else 4096
    for dim, l2, adam, kinds in (
        (100, 1e-3, {}, KINDS[:2]),
        (40, 0.0, {"weight_decay": 1e-3}, KINDS[:2]),
        (7, 1e-3, {}, KINDS[:2]),
        (20 if machine.is_tiny else 390, 0.0, {}, KINDS[:3]),
    ):
        tables = {kind: make_table(machine, cell["ids"], dim) for kind in kinds}
        exact = make_table(machine, cell["ids"], dim, torch.float64)
        exact.weight.detach().copy_(tables["dense"].weight.detach())
        for table in tables.values():
            table.weight.detach().copy_(exact.weight.detach())
        reference = updates("dense", exact, l2, **adam)
        tested = {kind: updates(kind, table, l2, **adam) for kind, table in tables.items()}
        norms = dict.fromkeys(kinds, 0.0)
        for number in range(8):
            batch = make_batch(exact, batch_size, number)
            square = step(reference, batch)
            for kind, by in tested.items():
                mine = step(by, (batch[0], batch[1], batch[2].float()))
                norms[kind] = max(norms[kind], abs(float(mine / square) - 1))
        for kind, table in tables.items():
            tested[kind].settle()
            mean = float((table.weight.detach().double() - exact.weight.detach()).abs().mean())
            right = mean <= MEAN_ERROR and norms[kind] <= NORM_ERROR
            yield {"kind": kind, "K": dim, "mean_error": mean, "norm_error": norms[kind], "right": right}


def large_offsets(machine: Machine, cell: dict) -> Iterator[dict]:
    """Entries past 2³¹: rows at the end of a table of 2.3e9 entries move as those of a small one do."""
    from fuxictr_me.training import table_kernels

    ids, dim, device = (50 if machine.is_tiny else 23_000_000), 100, machine.device
    w = torch.zeros(ids, dim, device=device)
    state = {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
    slots = torch.full((ids,), -1, dtype=torch.int32, device=device)
    slots[-3], slots[1] = 0, 1
    gradient = torch.ones(2, dim, device=device)
    gradient[1] = -2.0
    group = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    one, rate = torch.ones((), device=device), torch.full((), 1e-3, device=device)
    corrected = tuple(torch.full((), 1 - beta, dtype=torch.float64, device=device) for beta in group["betas"])
    sums = table_kernels.sweep(w, state, slots, gradient, one, rate, corrected, group, l2=1e-3)
    right = w.abs().amax(1).nonzero().flatten().tolist() == [1, ids - 3]
    right = right and abs(float(w[-3, 5]) + 1e-3) < 1e-8 and abs(float(w[1, 7]) - 1e-3) < 1e-8
    right = right and abs(float(sums.double().sum()) / (2 * dim * 1e-6) - 1) < 1e-4
    yield {"entries": w.numel(), "right": right}


def waits(machine: Machine, cell: dict) -> Iterator[dict]:
    """No kind of updates waits for the device in a step: PyTorch raises where something does."""
    if machine.device.type == "cpu":
        yield {"skipped": "needs a GPU", "right": True}
        return
    from fuxictr_me.training import catch_up

    catch_up.FIRST_STEPS = 2
    for kind in KINDS:
        table = make_table(machine, 20_000, 100)
        by, batch = updates(kind, table), make_batch(table, 4096, 0)
        for _ in range(5):
            step(by, batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(by, batch)
            found = ""
        except RuntimeError as error:
            found = str(error)[:200]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        yield {"kind": kind, "waits": found, "right": not found}


def times(machine: Machine, cell: dict) -> Iterator[dict | None]:
    """Measure a step of the table, look-up and gradients included, as a replayed CUDA graph; and its peak of memory."""
    from fuxictr_me.training import catch_up

    catch_up.FIRST_STEPS = 2
    yield None
    for (ids, dim), kind in itertools.product(SIZES[:1] if machine.is_tiny else SIZES, KINDS):
        machine.clean()
        ids = 300 if machine.is_tiny else ids
        table = make_table(machine, ids, dim)
        by = updates(kind, table, 1e-5 if kind in KINDS[:2] else 0.0)
        batches = [make_batch(table, 8 if machine.is_tiny else 4096, seed) for seed in range(4)]
        for number in range(3 if machine.is_tiny else 6):
            step(by, batches[number % 4])
        mb = machine.peak_bytes() / 1e6
        yield {"kind": kind, "ids": ids, "K": dim, "ms": _replay_ms(machine, by, batches[0]), "mb": mb}
        del table, by, batches


def _replay_ms(machine: Machine, by: object, batch: tuple, repeats: int = 20) -> float:
    """Return the ms of a step that is replayed as a CUDA graph, the learning rate a tensor; 0 on a CPU."""
    group = by.optimizer.param_groups[0]
    rate = group["lr"]
    group["lr"], group["capturable"] = torch.full((), rate, device=machine.device), machine.device.type == "cuda"
    try:
        if machine.device.type == "cpu":
            compute(by, batch)
            return 0.0
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute(by, batch)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            compute(by, batch)
        graph.replay()
        start = machine.wait()
        for _ in range(repeats):
            graph.replay()
        return 1e3 * (machine.wait() - start) / repeats
    finally:
        group["lr"], group["capturable"] = rate, False


def abundance(machine: Machine, cell: dict) -> Iterator[dict | None]:
    """Measure InformationAbundance at one evaluation: every field, every set, and the sets side by side."""
    from fuxictr_me.tables import FieldTables, abundance_of_fields, find_tables
    from fuxictr_me.training.callbacks import InformationAbundance

    model = build(machine, cell)
    callback, seconds = InformationAbundance(), []
    callback.on_fit_start(model)
    yield None
    for _ in range(4):
        start = machine.wait()
        callback.on_evaluation_end(model, {})
        seconds.append(time.perf_counter() - start)
    # the same by QR on the CPU, of the fields that are not too tall for that
    few = [field for field in find_tables(model) if field.num_ids < 60_000]
    mine = abundance_of_fields(few, by_gram=True)
    on_cpu = [FieldTables(f.layer, f.field, [x.cpu() for x in f.sets], f.exclude, f.initializer) for f in few]
    exact = abundance_of_fields(on_cpu, by_gram=False)
    error = max(
        abs(x - y) / y
        for a, b in zip(mine, exact, strict=True)
        for x, y in zip([*a[0], a[1]], [*b[0], b[1]], strict=True)
    )
    yield {"first_s": seconds[0], "next_s": min(seconds[1:]), "error": error, "right": error < 1e-4}
