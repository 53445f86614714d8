"""What ranks do in the tests of several processes, in processes of their own, and one process beside them."""

import csv
import logging
import os
import socket
import time

import torch
import torch.distributed as dist

from fuxictr_me import models
from fuxictr_me.data import Lanes
from fuxictr_me.distributed import distribute, distribute_as_asked, start, stop
from fuxictr_me.distributed import sharded_abundance as abundance
from fuxictr_me.distributed.engines import Engine
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.sharded_table import Shard, sharded_tables
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.tables import FieldTables
from helpers.batches import make_batch
from helpers.families import FAMILIES
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.forked_processes import server

COMMON = {**MODEL, "embedding_dim": 4, "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}
STEPS = 16
REGULARISED = {"embedding_regularizer": 0.01, "net_regularizer": 0.001}
PLAIN = {"batch_norm": False}  # before it biases have no gradient but rounding, of which L1 and a large step make more
RUN = {"num_sets": 4, "early_stop_patience": 9, "embedding_regularizer": 0.01, "learning_rate": 0.01}


def feature_map():
    """Fields that lie in the fused table, and such that do not."""
    features = {
        "user": categorical(40),
        "place": categorical(5, padding_idx=None),  # behind a field with a row of padding
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


def train(model, max_norm, last=9):
    """Losses, weights and metrics after ``STEPS`` steps with equal seeds, the last on a batch of another size."""
    model._max_gradient_norm = max_norm
    torch.manual_seed(5)
    model.train()
    losses = [model.train_step(batch).item() for batch in batches(STEPS, last=last)]
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


class InLanes:
    """Rows of the batches above as ``H5DataLoader`` feeds those of a member."""

    def __init__(self, data, member, members, shuffle, batch_size=12):
        columns = {name: torch.cat([batch[name] for batch in data]) for name in data[0]}
        self.lanes = Lanes(len(columns["user"]), batch_size, member, members, shuffle)
        self.columns = {name: x[self.lanes.rows.start : self.lanes.rows.stop] for name, x in columns.items()}
        self.epoch = 0

    def __len__(self):
        return len(self.lanes)

    def __iter__(self):
        order, self.epoch = self.lanes.order(3, self.epoch, "cpu"), self.epoch + 1
        at = 0
        for i in range(len(self)):
            _, start, stop = self.lanes.part(i)
            at, rows = at + stop - start, slice(at, at + stop - start)
            yield {name: x[rows] if order is None else x[order[rows]] for name, x in self.columns.items()}


def fit(model, epochs, pause=0, share=None, **kwargs):
    """The losses of every step of a run, and what it came to; ``share``: rows are fed in lanes."""
    losses, train_step = [], model.train_step
    if share is None:
        data, validation = Loader(batches(6), pause), batches(5)
    else:
        data, validation = (InLanes(batches(n), *share, shuffle) for n, shuffle in ((6, True), (5, False)))

    def noted(batch):
        loss = train_step(batch)
        losses.append(loss.item())
        return loss

    model.train_step = noted
    model.fit(data, epochs=epochs, validation_data=validation, max_gradient_norm=0.5, **kwargs)
    metrics, lr = dict(model.evaluate(validation, ["AUC", "logloss"])), model.optimizer.param_groups[0]["lr"]
    predictions = torch.from_numpy(model.predict(validation))
    return {"losses": losses, "metrics": metrics, "lr": lr, "predictions": predictions}


# --- tasks of a rank -------------------------------------------------------------------------------


def train_task(ranks, name, settings, weights, max_norm, last=9, engine="set-parallel", groups=None):
    model, moved = make(name, settings, ranks, engine, groups), []
    model.load_weights(weights)
    all_reduce, all_to_all, moved_to_others = dist.all_reduce, dist.all_to_all_single, []

    def counted(tensor, *args, **kwargs):
        moved.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *args, **kwargs)

    def exchanged(incoming, outgoing, got, sent, group=None):
        to_others = len(outgoing) - sent[dist.get_rank(group)]
        moved_to_others.append(to_others * outgoing[:1].numel() * outgoing.element_size())
        return all_to_all(incoming, outgoing, got, sent, group=group)

    dist.all_reduce, dist.all_to_all_single = counted, exchanged
    try:
        result = train(model, max_norm, last)
    finally:
        dist.all_reduce, dist.all_to_all_single = all_reduce, all_to_all
    state = [x for of in model.optimizer.state.values() for x in of.values()]
    held = sum(x.numel() for x in [*model.parameters(), *state])
    own = sum(p.numel() for p in model.parameters())
    whole = model.num_parameters()
    model.save_weights(f"{engine}.model")
    divided = sum(table.weight.numel() for table in sharded_tables(model).values())
    counts = {
        "moved": moved,
        "exchanged": moved_to_others,
        "parameters": [own, whole],
        "divided": divided,
        "held": held,
    }
    return {**result, **counts, "own": list(model.own)}


def start_task(ranks, name, settings, engine="set-parallel", groups=None):
    """A model as it is drawn; torch's generator behind it; its checkpoint."""
    model = make(name, settings, ranks, engine, groups)
    model.save_weights(model.checkpoint)
    return {"drawn": torch.rand(1).item(), "own": list(model.own), "weights": model.state_dict()}


def optimizers_task(ranks, names, weights, engine):
    """Losses of a few steps of each optimizer."""
    losses = {}
    for name in names:
        model = make("DNN_ME", {"num_sets": 2, "optimizer": name, "dropout": 0, **PLAIN}, ranks, engine)
        model.load_weights(weights)
        model.train()
        model._max_gradient_norm = 0.5
        losses[name] = [model.train_step(batch).item() for batch in batches(6)]
    return losses


def auto_task(ranks, settings):
    """The engine that every rank takes."""
    params = {**settings_of("DNN_ME", **settings), "gpu": -1}
    model = distribute_as_asked(models.DNN_ME, feature_map(), params, ranks, "auto")(feature_map(), **params)
    return {"engine": str(model.engine)}


def fit_task(
    ranks, name, settings, epochs, checkpoint=None, engine="set-parallel", groups=None, in_lanes=False, **kwargs
):
    model = make(name, settings, ranks, engine, groups)
    if checkpoint:
        model.load_weights(checkpoint)
    model.optimizer.state.clear()
    torch.manual_seed(5)
    return fit(model, epochs, share=(model.share or (0, 1)) if in_lanes else None, **kwargs)


def apart_task(ranks, what, engine):
    """Ranks that differ in what should be the same."""
    model = make("DNN_ME", {"num_sets": 2}, ranks, engine)
    if what == "head" and ranks.rank == 1:
        next(model.head.parameters()).data.view(-1)[0] += 1e-12
    if what == "head":
        model.evaluate(batches(3))
    shift = ranks.rank if what == "batches" else 0
    model.fit(batches(3 + shift)[shift:], validation_data=batches(3))


def load_task(ranks, checkpoint, settings):
    make("DNN_ME", settings, ranks).load_weights(checkpoint)


def abundance_task(ranks, tables, exclude, groups):
    """The factor of [E¹ ... Eᴹ], in chunks of a few rows, of which a rank has its own sets, and rows."""
    abundance.CHUNK_ROWS = 1
    engine = Engine("set-parallel", groups, ranks.size // groups)
    grid, shard = Grid(ranks, engine), Shard(5, len(tables[0]), engine.members) if engine.members > 1 else None
    own, rows = range(grid.group, len(tables), groups), shard.ids(grid.member) if shard else slice(None)
    field = FieldTables("layer", "field", [tables[m][rows] for m in own], exclude, None)
    factor = abundance.factor_of_all_sets(field, len(tables), grid, shard)
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
    processes = [
        server().Process(target=of_rank, args=(rank, size, port, folder, task, arguments)) for rank in range(size)
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


# --- what is compared ------------------------------------------------------------------------------


def assert_close(mine, theirs, tolerance=1e-9):
    """Two state dicts are equal."""
    assert mine.keys() == theirs.keys()
    worst = max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)
    assert worst < tolerance


def assert_same_abundance(model_id, other_id):
    """Two runs left the same IA; returns the number of lines."""
    files = []
    for name in (model_id, other_id):
        with open(f"runs/made/{name}.ia.csv") as file:
            files.append(list(csv.DictReader(file)))
    for row, other in zip(*files, strict=True):
        for column, value in row.items():
            if column in ("ia", "ia_ratio", "ia_random"):
                assert abs(float(other[column]) - float(value)) < 1e-6
            else:
                assert other[column] == value
    return len(files[0])
