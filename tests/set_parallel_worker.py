"""What ranks do in tests/test_set_parallel.py, in processes of their own, and one process beside them."""

import logging
import multiprocessing
import os
import socket
import sys
import time

import torch
import torch.distributed as dist
from conftest import MODEL, categorical, make_batch, make_feature_map, sequence
from families import FAMILIES

from fuxictr_me import models
from fuxictr_me.collapse import FieldTables
from fuxictr_me.distributed import abundance, distribute, start, stop
from fuxictr_me.distributed.engines import Engine
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.errors import RunError, UsageError

COMMON = {**MODEL, "embedding_dim": 4, "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}
STEPS = 50


def feature_map():
    """Fields that lie in the fused table, and such that do not."""
    features = {
        "user": categorical(40),
        "place": categorical(5),
        "item": categorical(7),
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(9, 2),
        "price": {"source": "", "type": "numeric"},
    }
    return make_feature_map(features)


def batches(count, rows=16, last=9):
    """The last of them uneven; with padding ids."""
    made = [make_batch(feature_map(), rows=last if i == count - 1 else rows, seed=i) for i in range(count)]
    for batch in made:
        batch["user"][:3] = 0
    return made


def settings_of(name, dropout=0.2, batch_norm=True, **settings):
    """Of a small model with dropout and batch norm wherever it can have them."""
    prefixes = ("mlp1_", "mlp2_") if name == "FinalMLP_ME" else ("",)
    layers = {f"{prefix}batch_norm": batch_norm for prefix in prefixes}
    layers |= {f"{prefix}dropout" if prefix else "net_dropout": dropout for prefix in prefixes}
    return {**COMMON, "model_root": "runs", **FAMILIES.get(getattr(models, name), {}), **layers, **settings}


def make(name, settings, ranks=None, engine="set-parallel", groups=None):
    """A model in float64, on one process or on ranks."""
    model_class = getattr(models, name)
    if ranks is not None:
        model_class = distribute(model_class, ranks, engine, groups)
    return model_class(feature_map(), **settings_of(name, **settings)).double()


def train(model, max_norm):
    """Losses, weights and metrics after ``STEPS`` steps with equal seeds, the last on an uneven batch."""
    model._max_gradient_norm = max_norm
    torch.manual_seed(5)
    model.train()
    losses = [model.train_step(batch).item() for batch in batches(STEPS)]
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    return {"losses": losses, "weights": weights, "metrics": dict(model.evaluate(batches(5), ["AUC", "logloss"]))}


class Loader:
    """Batches in an order that differs from epoch to epoch."""

    def __init__(self, data, pause=0):
        self.data, self.pause, self.generator = data, pause, torch.Generator().manual_seed(3)

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        for i in torch.randperm(len(self.data), generator=self.generator).tolist():
            time.sleep(self.pause)
            yield self.data[i]


def fit(model, epochs, pause=0, **kwargs):
    """The losses of every step of a run, and what it came to."""
    losses, train_step = [], model.train_step

    def noted(batch):
        loss = train_step(batch)
        losses.append(loss.item())
        return loss

    model.train_step = noted
    model.fit(Loader(batches(6), pause), epochs=epochs, validation_data=batches(5), max_gradient_norm=0.5, **kwargs)
    metrics, lr = dict(model.evaluate(batches(5), ["AUC", "logloss"])), model.optimizer.param_groups[0]["lr"]
    return {"losses": losses, "metrics": metrics, "lr": lr}


# --- tasks of a rank -------------------------------------------------------------------------------


def train_task(ranks, name, settings, weights, max_norm, engine="set-parallel", groups=None):
    model, moved = make(name, settings, ranks, engine, groups), []
    model.load_weights(weights)
    all_reduce = dist.all_reduce

    def counted(tensor, *args, **kwargs):
        moved.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *args, **kwargs)

    dist.all_reduce = counted
    try:
        result = train(model, max_norm)
    finally:
        dist.all_reduce = all_reduce
    own = sum(p.numel() for p in model.parameters())
    model.save_weights(f"{engine}.model")
    return {**result, "own": list(model.own), "moved": moved, "parameters": [own, model.num_parameters()]}


def start_task(ranks, name, settings):
    """A model as it is drawn; torch's generator behind it; its checkpoint."""
    model = make(name, settings, ranks)
    model.save_weights(model.checkpoint)
    return {"drawn": torch.rand(1).item(), "own": list(model.own), "weights": model.state_dict()}


def fit_task(ranks, name, settings, epochs, checkpoint=None, pause=0, **kwargs):
    model = make(name, settings, ranks)
    if checkpoint:
        model.load_weights(checkpoint)
    model.optimizer.state.clear()
    torch.manual_seed(5)
    return fit(model, epochs, pause, **kwargs)


def apart_task(ranks, what):
    """Ranks that differ in what should be the same."""
    model = make("DNN_ME", {"num_sets": 2}, ranks)
    if what == "head" and ranks.rank == 1:
        next(model.head.parameters()).data.view(-1)[0] += 1e-12
    if what == "head":
        model.evaluate(batches(3))
    shift = ranks.rank if what == "batches" else 0
    model.fit(batches(3 + shift)[shift:], validation_data=batches(3))


def load_task(ranks, checkpoint, settings):
    make("DNN_ME", settings, ranks).load_weights(checkpoint)


def abundance_task(ranks, tables, exclude):
    """The factor of [E¹ ... Eᴹ], in chunks of a few rows, of which a rank has its own sets."""
    abundance.CHUNK_ROWS = 1
    own = range(ranks.rank, len(tables), ranks.size)
    field = FieldTables("layer", "field", [tables[m] for m in own], exclude, None)
    factor = abundance.factor_of_all_sets(field, len(tables), Grid(ranks, Engine("set-parallel", ranks.size, 1)))
    return {"blocks": factor.sets, "num_ids": factor.num_ids, "dims": factor.dims}


# --- processes -------------------------------------------------------------------------------------


def of_rank(rank, size, port, folder, task, arguments):
    """In a process of its own: do ``task``, and leave what it gives, or its error in one line, in ``folder``."""
    torch.set_num_threads(1)
    torch.Tensor.float = torch.Tensor.double
    logging.getLogger().setLevel(logging.ERROR)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), **address}
    ranks, _ = start()
    try:
        result = globals()[task](ranks, **arguments) or {}
    except (UsageError, RunError) as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    torch.save(result, folder / f"rank-{rank}.pt")
    if "error" not in result:
        stop()


def begin(size, folder, task, **arguments):
    """Start ``size`` ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    context = multiprocessing.get_context("forkserver")  # which imports once what all ranks need
    context.set_forkserver_preload(["set_parallel_worker"])
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    processes = [
        context.Process(target=of_rank, args=(rank, size, port, folder, task, arguments)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def run(size, folder, task, **arguments):
    """What each of ``size`` ranks gives for ``task``."""
    processes = begin(size, folder, task, **arguments)
    for process in processes:
        process.join(60)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, "ranks hang"
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(size)]
