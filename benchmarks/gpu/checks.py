"""Cells that check: the device against the CPU, replays against eager steps, precisions, loaders, and the way back.

Like all cells they are generators of results; none of the checks needs the device for itself.
"""

import contextlib
import copy
import logging
import sys
from collections.abc import Iterator

import torch
from machine import Machine, loader_of, made_loader
from models import COMMON, FAMILIES, SMALL_FAMILIES, class_of, prepare
from steps import is_recorded, train
from torch import nn

# relative differences of losses in 14 steps, and differences of a predicted probability
LOSS_TOLERANCE = {"cpu": 1e-4, "replay": 1e-4, "tf32": 1e-2, "bf16": 5e-2}
PROBABILITY_TOLERANCE = {"tf32": 5e-3, "bf16": 3e-2}
STEPS, SHORT_STEP, NEW_RATE_STEP = 14, 8, 10  # all, the number of the short batch, and of the first at another rate


def environment(machine: Machine, cell: dict) -> Iterator[dict | None]:
    """Name the machine; that it starts shows that CUDA can be used in such a process, and beside another one."""
    found = {"torch": torch.__version__, "python": sys.version.split()[0], "device": "CPU"}
    if machine.device.type == "cuda":
        torch.cuda.init()
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "memory": properties.total_memory, "cuda": torch.version.cuda}
        torch.ones(8, 8, device=machine.device).mm(torch.ones(8, 8, device=machine.device)).sum().item()
    yield None
    with contextlib.suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    yield found


def equality(machine: Machine, cell: dict) -> Iterator[dict]:
    """Losses of 14 steps of a small model in five ways, with a short batch, and another learning rate from step 10."""
    family, feature_map = cell["family"], machine.feature_map(cell["ids"])
    build = {**COMMON, **SMALL_FAMILIES[family], "num_sets": 3, "embedding_dim": 5, "embedding_regularizer": 1e-5}
    build |= {"model_root": machine.checkpoints, "gpu": machine.gpu}
    build["embedding_initializer"] = "partial(nn.init.normal_, std=0.1)"
    model_class = class_of(family)
    loader = made_loader(feature_map, STEPS * 256 + 57, 256, machine.device)
    ways = {
        "cpu": {"gpu": -1, "cuda_graph": False},
        "device": {"cuda_graph": False},
        "eager": {"cuda_graph": False},
        "replay": {},
        "tf32": {"precision": "tf32"},
        "bf16": {"precision": "bf16"},
    }
    weights, losses, figures, predictions = None, {}, {}, {}
    batch = next(iter(loader))
    for way, changes in ways.items():
        model = model_class(feature_map, **{**build, **changes})
        weights = weights or copy.deepcopy(model.state_dict())
        model.load_state_dict(weights)
        device = torch.device("cpu") if way == "cpu" else machine.device
        predictions[way] = _predictions(model, batch, device)
        prepare(machine, model)
        if way not in ("eager", "replay"):  # a CPU, and other layouts of tensors, get other random numbers
            _without_dropout(model)
        losses[way] = _losses(model, loader, device)
        if way == "replay":
            figures["recorded"] = is_recorded(model)
    figures |= {way: _distance(losses["device"], losses[way]) for way in ("cpu", "tf32", "bf16")}
    figures["replay"] = _distance(losses["eager"], losses["replay"])
    far = {way: float((predictions[way] - predictions["eager"]).abs().max()) for way in PROBABILITY_TOLERANCE}
    right = all(figures[way] <= tolerance for way, tolerance in LOSS_TOLERANCE.items()) and figures["recorded"]
    right = right and all(far[way] <= tolerance for way, tolerance in PROBABILITY_TOLERANCE.items())
    figures |= {f"probabilities_{way}": difference for way, difference in far.items()}
    yield {**figures, "right": right, "last_loss": losses["replay"][-1]}


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _predictions(model: nn.Module, batch: dict, device: torch.device) -> torch.Tensor:
    """Return the probabilities of a batch, in the model's precision, on the CPU."""
    from fuxictr_me.training.precision import matmul_precision

    model.eval()
    with torch.no_grad(), matmul_precision(model.precision):
        return model({name: x.to(device) for name, x in batch.items()})["y_pred"].float().cpu()


def _losses(model: nn.Module, loader: object, device: torch.device) -> list[float]:
    losses, loader.epoch = [], 0
    batches = list(loader)
    batches.insert(SHORT_STEP, batches.pop())
    for number, batch in enumerate(batches[:STEPS]):
        torch.manual_seed(number)
        if number == NEW_RATE_STEP:
            model.lr_decay(0.3)
        losses.append(float(model.train_step({name: x.to(device) for name, x in batch.items()})))
    return losses


def _distance(expected: list[float], found: list[float]) -> float:
    return max(abs(x - y) / abs(x) for x, y in zip(expected, found, strict=True))


def loaders(machine: Machine, cell: dict) -> Iterator[dict]:
    """Batches that the device selects, and AUC and logloss that it computes, against those of the CPU."""
    from fuxictr_me.training.metrics import evaluate_metrics

    feature_map = machine.feature_map(cell["ids"])
    loader = made_loader(feature_map, cell["rows"], 1000, machine.device)
    held = {name: x.cpu() for name, x in loader._held.items()}
    on_cpu = loader_of(held, loader.rows.layout, 1000, torch.device("cpu"))
    equal, seen = True, []
    for epoch in range(2):
        loader.epoch = epoch
        numbers = list(loader.row_batches())
        loader.epoch = epoch
        for rows, batch in zip(numbers, loader, strict=True):
            expected = on_cpu.select(rows.cpu())
            equal = equal and all(torch.equal(x, batch[name].cpu()) for name, x in expected.items())
        seen.append(torch.cat(numbers).sort().values.tolist() == list(range(cell["rows"])))
    p = torch.rand(cell["rows"], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = (torch.rand(cell["rows"], generator=torch.Generator().manual_seed(2)) < p).double()
    names = ["AUC", "logloss"]
    expected = evaluate_metrics(y, p, names)
    found = evaluate_metrics(y.to(machine.device), p.to(machine.device), names)
    error = max(abs(expected[name] - found[name]) for name in names)
    figures = {"batches_equal": equal, "each_row_once": all(seen), "error_of_metrics": error}
    yield {**figures, "right": equal and all(seen) and error < 1e-9}


def fallback(machine: Machine, cell: dict) -> Iterator[dict]:
    """A step that waits, and a recording that fails, are named in one line each, and training goes on eagerly."""
    if machine.device.type == "cpu":
        yield {"skipped": "needs a GPU", "right": True}
        return
    feature_map = machine.feature_map(cell["ids"])
    settings = {**COMMON, **FAMILIES["DCNv2"], "num_sets": 2, "gpu": machine.gpu}
    settings["model_root"] = machine.checkpoints
    loader = made_loader(feature_map, 20 * 512, 512, machine.device)
    found = {}
    for name, failing in (("waits", _waits), ("fails", _fails)):
        model = prepare(machine, class_of("DCNv2")(feature_map, **settings))
        forward = model.forward
        model.forward = lambda inputs, forward=forward, failing=failing: failing(forward(inputs))
        with _log_lines() as lines:
            losses = [float(train(model, loader, 4)) for _ in range(3)]
        said = [line for line in lines if "cuda_graph" in line]
        is_named = len(said) == 1 and not is_recorded(model) and losses[-1] < losses[0]
        found |= {f"{name}_named": is_named, f"{name}_line": said[0][:160] if said else ""}
    yield {**found, "right": found["waits_named"] and found["fails_named"]}


def _waits(result: dict) -> dict:
    result["y_pred"].sum().item()
    return result


def _fails(result: dict) -> dict:
    if torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize()
    return result


@contextlib.contextmanager
def _log_lines() -> Iterator[list[str]]:
    lines, handler, logger = [], logging.Handler(logging.INFO), logging.getLogger()
    handler.emit = lambda record: lines.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
