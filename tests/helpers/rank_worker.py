"""Tasks of the ranks in tests of several processes, which run in separate processes, and of one process."""

import csv
import logging
import os
import socket
import time

import torch
import torch.distributed as dist

from fuxictr_me import models
from fuxictr_me.data import RankShares
from fuxictr_me.distributed import distribute, distribute_by_engine, join_process_group, leave_process_group
from fuxictr_me.distributed import sharded_abundance as abundance
from fuxictr_me.distributed.engines import Engine
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.sharded_table import Shard, find_sharded_tables
from fuxictr_me.distributed.weights_by_set import join_sets, select_shared, slice_set
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.tables import FieldTables
from helpers.batches import make_batch
from helpers.families import FAMILIES
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.forked_processes import server

COMMON = {**MODEL, "embedding_dim": 4, "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}
STEPS = 16
REGULARISED = {"embedding_regularizer": 0.01, "net_regularizer": 0.001}
PLAIN = {"batch_norm": False}  # else gradients of biases are only rounding, which L1 and a large step amplify
RUN = {"num_sets": 4, "early_stop_patience": 9, "embedding_regularizer": 0.01, "learning_rate": 0.01}


def feature_map():
    """Return a feature map with fields that go into the fused table, and others."""
    features = {
        "user": categorical(40),
        "place": categorical(5, padding_idx=None),  # after a field with a padding row
        "item": categorical(7),
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(9, 2),
        "price": {"source": "", "type": "numeric"},
    }
    return make_feature_map(features)


def batches(count, rows=16, last=9):
    """Return batches with padding ids; the last has another number of rows."""
    made = [make_batch(feature_map(), rows=last if i == count - 1 else rows, seed=i) for i in range(count)]
    for batch in made:
        batch["user"][:3] = 0
    return made


def settings_of(name, dropout=0.2, batch_norm=True, **settings):
    """Return settings of a small model, with dropout and batch norm wherever they are possible."""
    prefixes = ("mlp1_", "mlp2_") if name == "FinalMLP_ME" else ("",)
    layers = {f"{prefix}batch_norm": batch_norm for prefix in prefixes}
    layers |= {f"{prefix}dropout" if prefix else "net_dropout": dropout for prefix in prefixes}
    return {**COMMON, "model_root": "runs", **FAMILIES.get(getattr(models, name), {}), **layers, **settings}


def make(name, settings, ranks=None, engine="set-parallel", groups=None):
    """Build a model in float64, on one process or on ranks."""
    model_class = getattr(models, name)
    if ranks is not None:
        model_class = distribute(model_class, ranks, engine, groups)
    return model_class(feature_map(), **settings_of(name, **settings)).double()


def train(model, max_norm, last=9):
    """Return losses, weights and metrics of ``STEPS`` steps with a fixed seed, the last on a batch of another size."""
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


class ShareLoader:
    """Yields the rows of one member, as ``H5DataLoader`` does."""

    def __init__(self, data, member, members, shuffle, batch_size=12):
        columns = {name: torch.cat([batch[name] for batch in data]) for name in data[0]}
        self.rank_shares = RankShares(len(columns["user"]), batch_size, member, members, shuffle)
        self.columns = {
            name: x[self.rank_shares.rows.start : self.rank_shares.rows.stop] for name, x in columns.items()
        }
        self.epoch = 0

    def __len__(self):
        return len(self.rank_shares)

    def __iter__(self):
        order, self.epoch = self.rank_shares.order(3, self.epoch, "cpu"), self.epoch + 1
        at = 0
        for i in range(len(self)):
            _, start, stop = self.rank_shares.part(i)
            at, rows = at + stop - start, slice(at, at + stop - start)
            yield {name: x[rows] if order is None else x[order[rows]] for name, x in self.columns.items()}


def fit(model, epochs, pause=0, share=None, **kwargs):
    """Train, and return the loss of every step and the results. With ``share``, the rows of one member are read."""
    losses, train_step = [], model.train_step
    if share is None:
        data, validation = Loader(batches(6), pause), batches(5)
    else:
        data, validation = (ShareLoader(batches(n), *share, shuffle) for n, shuffle in ((6, True), (5, False)))

    def record_loss(batch):
        loss = train_step(batch)
        losses.append(loss.item())
        return loss

    model.train_step = record_loss
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
    divided = sum(table.weight.numel() for table in find_sharded_tables(model).values())
    counts = {
        "moved": moved,
        "exchanged": moved_to_others,
        "parameters": [own, whole],
        "divided": divided,
        "held": held,
    }
    return {**result, **counts, "own_sets": list(model.own_sets)}


def start_task(ranks, name, settings, engine="set-parallel", groups=None):
    """Save a new model. Return a random number drawn after it, its sets and its weights."""
    model = make(name, settings, ranks, engine, groups)
    model.save_weights(model.checkpoint)
    return {"drawn": torch.rand(1).item(), "own_sets": list(model.own_sets), "weights": model.state_dict()}


def optimizers_task(ranks, names, weights, engine):
    """Return the losses of a few steps of each optimizer."""
    losses = {}
    for name in names:
        model = make("DNN_ME", {"num_sets": 2, "optimizer": name, "dropout": 0, **PLAIN}, ranks, engine)
        model.load_weights(weights)
        model.train()
        model._max_gradient_norm = 0.5
        losses[name] = [model.train_step(batch).item() for batch in batches(6)]
    return losses


def auto_task(ranks, settings):
    """Return the engine that each rank uses."""
    params = {**settings_of("DNN_ME", **settings), "gpu": -1}
    model = distribute_by_engine(models.DNN_ME, feature_map(), params, ranks, "auto")(feature_map(), **params)
    return {"engine": str(model.engine)}


def fit_task(
    ranks, name, settings, epochs, checkpoint=None, engine="set-parallel", groups=None, in_shares=False, **kwargs
):
    model = make(name, settings, ranks, engine, groups)
    if checkpoint:
        model.load_weights(checkpoint)
    model.optimizer.state.clear()
    torch.manual_seed(5)
    return fit(model, epochs, share=(model.share or (0, 1)) if in_shares else None, **kwargs)


def apart_task(ranks, what, engine):
    """Let ranks differ in something that should be the same."""
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
    """Return the factor of [E¹ ... Eᴹ], computed in chunks of a few rows. A rank has its own sets and rows."""
    abundance.CHUNK_ROWS = 1
    engine = Engine("set-parallel", groups, ranks.size // groups)
    grid, shard = Grid(ranks, engine), Shard(5, len(tables[0]), engine.members) if engine.members > 1 else None
    own, rows = range(grid.group, len(tables), groups), shard.ids(grid.member) if shard else slice(None)
    field = FieldTables("layer", "field", [tables[m][rows] for m in own], exclude, None)
    factor = abundance.compute_factor(field, len(tables), grid, shard)
    return {"blocks": factor.sets, "num_ids": factor.num_ids, "dims": factor.dims}


# --- processes -------------------------------------------------------------------------------------


def of_rank(rank, size, port, folder, task, arguments):
    """Run ``task`` in a separate process, and save its result, or its error in one line, in ``folder``."""
    torch.set_num_threads(1)
    torch.Tensor.float = torch.Tensor.double
    logging.getLogger().setLevel(logging.ERROR)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), **address}
    ranks, _ = join_process_group()
    try:
        result = globals()[task](ranks, **arguments) or {}
    except (UsageError, RunError) as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    torch.save(result, folder / f"rank-{rank}.pt")
    if "error" not in result:
        leave_process_group()


def free_port():
    """Return the number of a port of this machine that nobody uses, as text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def begin(size, folder, task, **arguments):
    """Start ``size`` ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = [
        server().Process(target=of_rank, args=(rank, size, port, folder, task, arguments)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def run(size, folder, task, **arguments):
    """Run ``task`` on ``size`` ranks, and return the result of each."""
    processes = begin(size, folder, task, **arguments)
    for process in processes:
        process.join(60)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, "ranks hang"
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(size)]


# --- weights of ranks -------------------------------------------------------------------------------


def slice_rank(state_dict, own_sets, num_sets):
    """Return the state dict of the rank that owns some sets, out of the whole."""
    return join_sets([slice_set(state_dict, m, num_sets) for m in own_sets], select_shared(state_dict))


def join_ranks(parts):
    """Return the state dict of one machine from (own sets, state dict) of each rank; the head is that of the first."""
    sets = {m: slice_set(part, i, len(own_sets)) for own_sets, part in parts for i, m in enumerate(own_sets)}
    return join_sets([sets[m] for m in range(len(sets))], select_shared(parts[0][1]))


# --- what is compared ------------------------------------------------------------------------------


def assert_close(mine, theirs, tolerance=1e-9):
    """Assert that two state dicts are equal within the tolerance."""
    assert mine.keys() == theirs.keys()
    worst = max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)
    assert worst < tolerance


def assert_same_abundance(model_id, other_id):
    """Assert that two runs have recorded the same IA, and return the number of rows."""
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
