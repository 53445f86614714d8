"""Cells that train: steps, parts of an epoch, evaluations, and the kernels of a step.

A cell is a generator. It yields None when it is prepared and wants the device for itself, and then results.
"""

import itertools
import statistics
import time
from collections.abc import Iterator

import torch
from machine import Machine, bytes_of, made_loader
from models import PLAIN, build, class_of, settings_of

WARM_UP = 12  # steps: three are eager, one is checked; twice, where updates by rows begin after dense ones
ROUNDS = 3
STEPS = {"ours": 40, "plain": 5, "tiny": 2}  # of a round
LOADER_BATCHES = 48
EVALUATION_BATCH = 10_000


def train(model: object, loader: object, count: int) -> object:
    """Train so many batches of full size, epoch after epoch; returns the last loss, which is on the device."""
    is_ours = hasattr(model, "_training_batches")
    epochs = (model._training_batches(loader) if is_ours else loader for _ in itertools.count())
    batches = (b for b in itertools.chain.from_iterable(epochs) if num_rows(b) == loader.batch_size)
    for batch in itertools.islice(batches, count):
        loss = model.train_step(batch)
        if not is_ours:
            loss.item()  # as FuxiCTR's train_epoch does
    return loss


def num_rows(batch: object) -> int:
    """Return the rows of a batch, which is a dict of columns or ``SelectedRows``."""
    return len(batch.rows) if hasattr(batch, "rows") else len(next(iter(batch.values())))


def is_recorded(model: object) -> bool:
    """Return whether steps are replays, and the first one was equal to an eager step."""
    steps = getattr(model, "_steps", None)
    return bool(steps and steps.is_on and steps.is_checked)


def predict(machine: Machine, cell: dict) -> dict:
    """Return what ``fuxictr-me plan`` says of a cell: the floor of a step in ms, and its peak of memory in MB."""
    from fuxictr_me.estimates import GPUS, plan

    name = "" if machine.is_tiny else torch.cuda.get_device_name()
    gpu = next((gpu for gpu in GPUS if gpu in name.upper().replace("-", " ").split()), "H200")
    settings = {**settings_of(cell), "batch_size": cell["batch"]}
    found = plan(class_of(cell["family"]), machine.feature_map(cell["ids"]), settings, gpu)
    figures = {"floor_ms": 1e3 * found.floor_seconds, "predicted_mb": found.memory.peak / 1e6}
    if getattr(found, "expected_seconds", None):
        figures["expected_ms"] = 1e3 * found.expected_seconds
    return figures


def try_to_predict(machine: Machine, cell: dict) -> dict:
    """Return what ``predict`` does; if it fails, the error, for a step can be measured all the same."""
    try:
        return predict(machine, cell)
    except Exception as error:  # noqa: BLE001 see above
        return {"plan_failed": f"{type(error).__name__}: {error}"[:300]}


def step(machine: Machine, cell: dict) -> Iterator[dict | None]:
    """Measure ms of a step, pipelined: the median of rounds of steps with one wait for the device at their end."""
    from fuxictr_me.training import catch_up

    is_plain = cell["contestant"] in PLAIN
    figures = {} if is_plain else try_to_predict(machine, cell)
    catch_up.FIRST_STEPS = 2  # rather than 200, to measure the later ones at once
    feature_map = machine.feature_map(cell["ids"])
    loader = made_loader(feature_map, LOADER_BATCHES * cell["batch"], cell["batch"], machine.device)
    start = machine.wait()
    model = build(machine, cell)
    machine.clean()
    train(model, loader, 3 if is_plain else WARM_UP)
    prepared = machine.wait() - start
    yield None
    count = STEPS["tiny" if machine.is_tiny else "plain" if is_plain else "ours"]
    times, cpu_times = [], []
    for _ in range(ROUNDS):
        start = machine.wait()
        loss = train(model, loader, count)
        issued = time.perf_counter()
        times.append(1e3 * (machine.wait() - start) / count)
        cpu_times.append(1e3 * (issued - start) / count)
    mb = max(0, machine.peak_bytes() - bytes_of(loader)) / 1e6
    figures |= {"ms": statistics.median(times), "cpu_ms": statistics.median(cpu_times), "mb": mb}
    if not is_plain:
        figures |= {"recorded": is_recorded(model), "rows": type(model._step.rows[0]).__name__}
    if "floor_ms" in figures:
        figures["share_of_floor"] = figures["floor_ms"] / figures["ms"]
    yield {**figures, "first_steps_s": prepared, "loss": float(loss.detach())}
    if cell.get("profile"):
        yield kernels(machine, model, loader)


def epoch(machine: Machine, cell: dict) -> Iterator[dict | None]:
    """Measure an epoch of training, feeding included, and two evaluations."""
    feature_map, rows = machine.feature_map(cell["ids"]), cell["rows"]
    loader = made_loader(feature_map, rows, cell["batch"], machine.device)
    evaluated = made_loader(feature_map, cell["evaluated"], EVALUATION_BATCH, machine.device, seed=2, shuffle=False)
    model = build(machine, cell)
    train(model, loader, WARM_UP)
    machine.wait()
    yield None
    start = machine.wait()
    model.train_epoch(loader)
    seconds = machine.wait() - start
    steps = -(-rows // cell["batch"])
    yield {"s": seconds, "ms_a_step": 1e3 * seconds / steps, "steps": steps, "recorded": is_recorded(model)}
    for turn in ("first", "next"):
        start = machine.wait()
        logs = model.evaluate(evaluated)
        yield {"evaluation": turn, "evaluation_s": machine.wait() - start, "AUC": logs["AUC"]}


def kernels(machine: Machine, model: object, loader: object) -> dict:
    """Return the kernels that take most of a step: ms and launches a step."""
    from torch.profiler import ProfilerActivity, profile

    on_device = machine.device.type == "cuda"
    count = 10 if on_device else 2
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_device
    with profile(activities=activities) as seen:
        train(model, loader, count)
        machine.wait()
    found = []
    for event in seen.key_averages():
        total = event.self_device_time_total if on_device else event.self_cpu_time_total
        if total and (not on_device or event.device_type != torch.autograd.DeviceType.CPU):
            found.append((total / 1e3 / count, event.count / count, event.key[:110]))
    found.sort(reverse=True)
    return {"kernels_ms": sum(ms for ms, *_ in found), "kernels": found[:28]}
