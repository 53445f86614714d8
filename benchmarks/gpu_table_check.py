"""Updates of one fused table on a GPU: right, how fast, and in how much memory; also what InformationAbundance costs.

    python benchmarks/gpu_table_check.py [--tiny] [--out DIR] [--only PART ...]

Each part prints as it goes and writes a line of JSON to DIR/gpu_table.jsonl (DIR: $OUT if it is set); one that fails
does not stop the others. ``--tiny`` runs every line on a CPU, in Triton's interpreter, where the times mean nothing.
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

if "--tiny" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch

from fuxictr_me.table import FusedTable
from fuxictr_me.training import catch_up, rows, table_kernels
from fuxictr_me.training.catch_up import CaughtUpRows
from fuxictr_me.training.one_pass import OnePassRows
from fuxictr_me.training.rows import DenseRows
from fuxictr_me.training.touched_rows import LazyRows

FIELDS = 39
PARTS = ("equal", "large_offsets", "copy", "blocks", "times", "static", "abundance")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", default=os.environ.get("OUT", tempfile.gettempdir()))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    at = SimpleNamespace(
        tiny=args.tiny,
        device=torch.device("cpu" if args.tiny else "cuda"),
        batch=8 if args.tiny else 4096,
        repeats=2 if args.tiny else 20,
        log=Path(args.out) / "gpu_table.jsonl",
    )
    name = "CPU" if args.tiny else torch.cuda.get_device_name()
    tell(at, "machine", device=name, torch=torch.__version__, triton=table_kernels.triton.__version__)
    failed = 0
    for part in args.only:
        started = time.perf_counter()
        try:
            globals()[f"check_{part}"](at)
        except Exception as error:  # noqa: BLE001 - the other parts go on
            traceback.print_exc()
            tell(at, part, failed=f"{type(error).__name__}: {error}")
            failed += 1
        free(at)
        print(f"-- {part}: {time.perf_counter() - started:.1f} s", flush=True)
    return failed


def tell(at, part, **found):
    line = {"part": part, **{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}}
    print("  ".join(f"{k}={v}" for k, v in line.items()), flush=True)
    with at.log.open("a") as log:
        log.write(json.dumps(line) + "\n")


def free(at):
    gc.collect()
    if at.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def make_table(at, ids, dim, dtype=torch.float32):
    """A table of 39 fields: half are small, the others share the ids by a power law."""
    small = [3 + 7 * f for f in range(FIELDS // 2)]
    shares = [1 / (f + 1) for f in range(FIELDS - len(small))]
    large = [max(4, int((ids - sum(small)) * share / sum(shares))) for share in shares]
    with at.device:
        table = FusedTable([f"f{f}" for f in range(FIELDS)], small + large, [dim]).to(dtype)
        table.weight.detach().normal_(std=0.1)
    table.padding_ids.zero_()
    return table


def make_batch(at, table, seed):
    """Rows (B, F) of a batch, small ids more frequent; whether they are padding; the gradient of the embeddings."""
    generator = torch.Generator(at.device).manual_seed(seed)
    u = torch.rand(at.batch, FIELDS, generator=generator, device=at.device)
    ids = (u.pow(3) * table.sizes).long().clamp_(max=table.sizes - 1)
    weights = torch.randn(at.batch, FIELDS, table.weight.shape[1], generator=generator, device=at.device)
    return ids + table.first_rows, ids == 0, weights.to(table.weight.dtype)


def step(by, batch, clip=True):
    """A step in which nothing but the table is trained; the gradient of the embeddings is given. Returns ‖G‖²."""
    ids, padded, weights = batch
    by.prepare()
    by.optimizer.zero_grad()
    by.begin()
    by.read(ids, padded).backward(weights)
    square, _ = by.collect()
    if clip:
        by.scale((10.0 / (square.sqrt() + 1e-6)).clamp(max=1.0))
    by.optimizer.step()
    by.finish()
    by.count()
    return square


KINDS = {
    "dense": lambda table, optimizer, l2: DenseRows(table, optimizer, 0.0, l2),
    "one pass": lambda table, optimizer, l2: OnePassRows(table, optimizer, 0.0, l2, table_kernels),
    "catch_up": lambda table, optimizer, l2: by_rows(CaughtUpRows, table, optimizer),
    "lazy": lambda table, optimizer, l2: by_rows(LazyRows, table, optimizer),
}


def by_rows(cls, table, optimizer):
    made = cls(table, optimizer, on_cpu=False)
    made.kernels = table_kernels  # in the interpreter, too
    return made


def updates(kind, table, l2=0.0, **adam):
    return KINDS[kind](table, torch.optim.Adam([table.weight], lr=1e-3, fused=True, **adam), l2)


def check_equal(at):
    """The kernel and ``DenseRows`` in float32, against ``DenseRows`` in float64; by rows against it without L2."""
    ids, failed = (150, []) if at.tiny else (200_000, [])
    if not at.tiny:
        free_triton = rows.find_kernels(torch.empty(1, 100, device="cuda"))
        tell(at, "equal", kernels_chosen_by_default=free_triton is table_kernels)
    for dim, l2, adam, kinds in (
        (100, 1e-3, {}, ("dense", "one pass")),
        (40, 0.0, {"weight_decay": 1e-3}, ("dense", "one pass")),
        (7, 1e-3, {}, ("dense", "one pass")),
        (390, 0.0, {}, ("dense", "one pass", "catch_up")),
    ):
        tables = {kind: make_table(at, ids, dim) for kind in kinds}
        exact = make_table(at, ids, dim, torch.float64)
        for table in tables.values():
            table.weight.detach().copy_(exact.weight.detach())
        exact.weight.detach().copy_(tables["dense"].weight.detach())
        catch_up.FIRST_STEPS = 3
        reference = updates("dense", exact, l2, **adam)
        tested = {kind: updates(kind, table, l2, **adam) for kind, table in tables.items()}
        norms = dict.fromkeys(kinds, 0.0)
        for number in range(8):
            batch = make_batch(at, exact, number)
            square = step(reference, batch)
            for kind, by in tested.items():
                mine = step(by, (batch[0], batch[1], batch[2].float()))
                norms[kind] = max(norms[kind], abs(float(mine / square) - 1))
        for kind, table in tables.items():
            tested[kind].settle()
            off = (table.weight.detach().double() - exact.weight.detach()).abs()
            error, mean = float(off.max()), float(off.mean())
            tell(at, "equal", kind=kind, K=dim, l2=l2, **adam, max_error=error, mean_error=mean, norm_error=norms[kind])
            # 8 steps move a weight by up to 8e-3; float32 keeps 1e-8 of 0.1. Early updates are like a sign: where a
            # gradient is near 0 its rounding shows, in the eager way as much as in the kernel's.
            if mean > 1e-7 or norms[kind] > 1e-4:
                failed.append((kind, dim))
        del tables, exact, reference, tested
        free(at)
    catch_up.FIRST_STEPS = 200
    if failed:
        raise AssertionError(f"not equal: {failed}")


def check_large_offsets(at):
    """Entries past 2³¹: the last rows of a table of 2.3e9 entries move as those of a small one do."""
    ids, dim = (50, 100) if at.tiny else (23_000_000, 100)
    w = torch.zeros(ids, dim, device=at.device)
    state = {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}
    slots = torch.full((ids,), -1, dtype=torch.int32, device=at.device)
    slots[-3], slots[1] = 0, 1
    gradient = torch.ones(2, dim, device=at.device)
    gradient[1] = -2.0
    group = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    one, lr = torch.ones((), device=at.device), torch.full((), 1e-3, device=at.device)
    corrected = tuple(torch.full((), 1 - beta, dtype=torch.float64, device=at.device) for beta in group["betas"])
    sums = table_kernels.sweep(w, state, slots, gradient, one, lr, corrected, group, l2=1e-3)
    moved = w.abs().amax(1).nonzero().flatten().tolist()
    assert moved == [1, ids - 3], moved
    assert abs(float(w[-3, 5]) + 1e-3) < 1e-8 and abs(float(w[1, 7]) - 1e-3) < 1e-8
    assert abs(float(sums.double().sum()) / (2 * dim * 1e-6) - 1) < 1e-4
    tell(at, "large_offsets", entries=w.numel(), rows_moved=moved, right=True)


def timed(at, function):
    """Milliseconds, median and least, of calls each between two events."""
    for _ in range(3):
        function()
    if at.device.type != "cuda":
        return 0.0, 0.0
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(at.repeats)]
    torch.cuda.synchronize()
    for start, stop in events:
        start.record()
        function()
        stop.record()
    torch.cuda.synchronize()
    ms = [start.elapsed_time(stop) for start, stop in events]
    return statistics.median(ms), min(ms)


def check_copy(at):
    """What the memory does at best: a copy, bytes read and written."""
    x = torch.randn(1000 if at.tiny else 500_000_000, device=at.device)
    y = torch.empty_like(x)
    ms, _ = timed(at, lambda: y.copy_(x))
    tell(at, "copy", ms=ms, terabytes_a_second=8 * x.numel() / max(ms, 1e-9) / 1e9)


def check_blocks(at):
    """The kernel alone at several shapes of a program."""
    table = make_table(at, 300 if at.tiny else 1_000_000, 100)
    by, batch = updates("one pass", table, 1e-5), make_batch(at, table, 0)
    step(by, batch)
    by.prepare()
    by.begin()
    by.read(batch[0], batch[1]).backward(batch[2])
    by.collect()
    w, state = table.weight.detach(), by.optimizer.state[table.weight]
    group, one, lr = by.optimizer.param_groups[0], by.no_clipping, torch.full((), 1e-3, device=at.device)
    corrected = tuple(torch.full((), c, dtype=torch.float64, device=at.device) for c in (0.5, 0.01))
    # the batch's gradients by row: in their own memory, and in a buffer as without kernels
    g, e = by.gradient.clone(), torch.randn_like(by.gradient)
    rows_of_batch = batch[0].flatten()
    ms, least = timed(at, lambda: table_kernels.sum_by_row(g, e, by.place, 0.0, 1e-5))
    tell(at, "sum_by_row", ms=ms, least=least, rows=len(g), different=int(by._is_first(by.place).sum()))
    ms, least = timed(at, lambda: torch.zeros_like(g).index_add_(0, by.place.clamp(min=0), g))
    tell(at, "index_add", ms=ms, least=least)
    ms, least = timed(at, lambda: by._number(rows_of_batch, batch[1].flatten()))
    tell(at, "number", ms=ms, least=least)
    shapes = [(512, 4), (1024, 4), (1024, 8), (2048, 4)]
    for block, warps in shapes[: 1 if at.tiny else None]:
        operands = w, state, by.slots, by.gradient, one, lr, corrected, group, 0.0, 1e-5, block, warps
        ms, least = timed(at, lambda operands=operands: table_kernels.sweep(*operands))
        tb = 24 * w.numel() / max(ms, 1e-9) / 1e9
        tell(at, "blocks", block=block, warps=warps, ms=ms, least=least, terabytes_a_second=tb)


def check_times(at):
    """A step of the table, look-up and gradients included, eager; and the most memory it takes."""
    catch_up.FIRST_STEPS = 2
    for ids, dim in ((1_000_000, 40), (1_000_000, 100), (5_000_000, 100)):
        for kind in KINDS:
            free(at)
            try:
                time_updates(at, kind, 300 if at.tiny else ids, dim)
            except Exception as error:  # noqa: BLE001 - the other kinds go on
                traceback.print_exc()
                tell(at, "times", kind=kind, ids=ids, K=dim, failed=f"{type(error).__name__}: {error}")
    catch_up.FIRST_STEPS = 200


def time_updates(at, kind, ids, dim):
    """Time the steps of a table of one size by one kind of updates."""
    table = make_table(at, ids, dim)
    by = updates(kind, table, 1e-5 if kind in ("dense", "one pass") else 0.0)
    batches = [make_batch(at, table, seed) for seed in range(4)]
    for number in range(6):
        step(by, batches[number % 4])
    turn = itertools.count()
    ms, least = timed(at, lambda: step(by, batches[next(turn) % 4]))
    peak = 0 if at.tiny else torch.cuda.max_memory_allocated() / 1e6
    tb = 24 * table.weight.numel() / max(ms, 1e-9) / 1e9
    tell(at, "times", kind=kind, ids=ids, K=dim, ms=ms, least=least, swept_terabytes_a_second=tb, peak_MB=peak)
    tell(at, "times", kind=kind, ids=ids, K=dim, as_graph_ms=replayed(at, by, batches[0]))


def replayed(at, by, batch):
    """Milliseconds of a step that is replayed as a CUDA graph; the learning rate is a tensor there."""
    group = by.optimizer.param_groups[0]
    before = group["lr"]
    group["lr"], group["capturable"] = torch.full((), before, device=at.device), at.device.type == "cuda"
    ids, padded, weights = batch

    def inside():
        by.optimizer.zero_grad()
        by.begin()
        by.read(ids, padded).backward(weights)
        square, _ = by.collect()
        by.scale((10.0 / (square.sqrt() + 1e-6)).clamp(max=1.0))
        by.optimizer.step()
        by.finish()

    try:
        if at.device.type != "cuda":
            inside()
            return 0.0
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                inside()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            inside()
        return timed(at, graph.replay)[0]
    finally:
        group["lr"], group["capturable"] = before, False


def check_static(at):
    """Nothing waits for the device: PyTorch raises where something does."""
    if at.device.type != "cuda":
        return
    catch_up.FIRST_STEPS = 2
    for kind in KINDS:
        table = make_table(at, 20_000, 100)
        by, batch = updates(kind, table), make_batch(at, table, 0)
        for _ in range(5):
            step(by, batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(by, batch)
            found = "none"
        except RuntimeError as error:
            found = str(error)[:200]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        tell(at, "static", kind=kind, waits=found)
    catch_up.FIRST_STEPS = 200


def check_abundance(at):
    """InformationAbundance at one evaluation: ME 10 x 10, 1M ids; every field, every set, sets side by side."""
    from functools import partial

    from fuxictr_me.callbacks import InformationAbundance
    from fuxictr_me.collapse import FieldTables, abundance_of_fields

    table = make_table(at, 3_000 if at.tiny else 1_000_000, 100)
    table.weight.detach()[: table.rows[20].stop] *= torch.linspace(1, 0.01, 100, device=at.device)
    initializer = partial(torch.nn.init.normal_, std=1e-4)
    found = [
        FieldTables("layer", field, list(table.weight.detach()[own].split(10, dim=1)), (0,), initializer)
        for field, own in zip(table.fields, table.rows, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        callback = InformationAbundance()
        callback._tables = lambda model: found
        model = SimpleNamespace(model_dir=folder, model_id="made", _epoch_index=0, _total_steps=1)
        callback.on_fit_start(model)
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            callback.on_evaluation_end(model, {})
            seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    by_gram = abundance_of_fields(found, by_gram=True)
    measured = time.perf_counter() - started
    # the same by QR on the CPU, of the fields that are not too tall for that
    few = [(f, b) for f, b in zip(found, by_gram, strict=True) if f.num_ids < 60_000]
    on_cpu = [FieldTables(f.layer, f.field, [x.cpu() for x in f.sets], f.exclude, f.initializer) for f, _ in few]
    exact = abundance_of_fields(on_cpu, by_gram=False)
    pairs = [([*b[0], b[1]], [*e[0], e[1]]) for (_, b), e in zip(few, exact, strict=True)]
    off = max(abs(x - y) for mine, theirs in pairs for x, y in zip(mine, theirs, strict=True))
    assert off < 1e-5, off
    tell(at, "abundance", first_s=seconds[0], next_s=min(seconds[1:]), without_files_s=measured, fields=len(found),
         error_against_qr=off, fields_compared=len(few))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
