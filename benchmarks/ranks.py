"""Training on several CPU processes, by each engine: what the fullest holds and sends, and the time of a step.

    python benchmarks/ranks.py [--ranks 2 4] [--ids 2000000] [--batch 4096] [--fields 20] [--rounds 2] [--steps 5]

DCNv2 (4 cross layers, hidden layers of 400, batch norm, dropout) with 4 sets of 16 and Adam, its ids by a power law of
exponent 1. Every engine is torchrun's, on gloo, with one thread a process; a round runs all of them in turn. Figures of
memory and bytes are those of the process that has most of each.

- held: weights and optimizer state, by the sizes of their tensors; gradients are not counted.
- peaks: by how much the resident memory of a process rises, as Linux counts it, while the model is built and while it
  is trained. A small model is trained first, so that what libraries load and keep does not count.
- sent: what goes into collectives, an all-reduce or all-gather by a ring, of an all-to-all what is for others; and that
  over what ``fuxictr_me.estimates.collectives`` has for it, which ``--engine auto`` goes by.
- step: the median, from barrier to barrier. Processes on fewer cores than there are of them take turns, and their links
  are memory: the times say what the exchanges and uneven parts cost here, not what several machines would gain.
"""

import argparse
import datetime
import gc
import json
import logging
import os
import platform
import statistics
import unittest.mock

import numpy as np
import torch
import torch.distributed as dist
from measure import now, run_alone
from memory import DCNV2, begin, feature_map_of, peak

from fuxictr_me import DCNv2_ME
from fuxictr_me.distributed import distribute, start, stop
from fuxictr_me.distributed.auto_engine import estimates
from fuxictr_me.distributed.engines import ALONE
from fuxictr_me.estimates.collectives import ALL_GATHER, ALL_REDUCE, sent
from fuxictr_me.training import step

SETTINGS = {**DCNV2, "num_sets": 4, "embedding_dim": 16}
WARM_UP, ON_CPU = 2, -1
COLUMNS = ("processes", "engine", "held, GB", "of one", "peak while built, GB", "peak while trained, GB")
COLUMNS += ("sent a step, MB", "of the formula's", "step, s", "of one")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], help="processes (default: 2 4)")
    parser.add_argument("--ids", type=int, default=2_000_000, help="in all fields together (default: 2000000)")
    parser.add_argument("--batch", type=int, default=4096, help="rows, of all processes together (default: 4096)")
    parser.add_argument("--fields", type=int, default=20, help="all categorical (default: 20)")
    parser.add_argument("--rounds", type=int, default=2, help="of all engines (default: 2)")
    parser.add_argument("--steps", type=int, default=5, help=f"measured in a round, after {WARM_UP} (default: 5)")
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "GROUPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        if figures := one(arguments.one[0], int(arguments.one[1]), arguments):
            print(json.dumps(figures))
        return
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    contestants = [(1, ALONE, 0)]
    feature_map, settings = feature_map_of(arguments.fields, arguments.ids), {**SETTINGS, "batch_size": arguments.batch}
    for num_ranks in arguments.ranks:
        found, _ = estimates(DCNv2_ME, feature_map, settings, num_ranks, None, num_ranks)
        contestants += [(num_ranks, estimate.engine, estimate.sent) for estimate in found]
    rounds = [[run(*of[:2], arguments) for of in contestants] for _ in range(arguments.rounds)]
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    base = None
    for contestant, runs in zip(contestants, zip(*rounds, strict=True), strict=True):
        found = {key: max(run[key] for run in runs) for key in ("held", "built", "trained", "sent")}
        found["seconds"] = statistics.median(seconds for run in runs for seconds in run["seconds"])
        base = base or found
        print(row(*contestant, found, base, cores))
    machine = f"{platform.system()} {platform.machine()}, {cores} cores, load {load:.1f} at the start"
    print(f"\n{datetime.date.today()}, torch {torch.__version__}, {machine}.")
    data = f"{arguments.ids:,} ids, {arguments.fields} fields, batch {arguments.batch:,}"
    print(f"{data}; {arguments.rounds} rounds of {arguments.steps} steps.")


def row(num_ranks, engine, formula, found, base, cores):
    """A line of the table."""
    cells = [f"{num_ranks} on {cores} cores" if num_ranks > cores else num_ranks]
    cells += [engine if num_ranks > 1 else "none", f"{found['held'] / 1e9:.3f}", f"{found['held'] / base['held']:.3f}"]
    cells += [f"{found['built'] / 1e9:.2f}", f"{found['trained'] / 1e9:.2f}", f"{found['sent'] / 1e6:,.2f}"]
    cells += [f"{found['sent'] / formula:.3f}" if formula else ""]
    cells += [f"{found['seconds']:.2f}", f"{found['seconds'] / base['seconds']:.2f}"]
    return f"| {' | '.join(map(str, cells))} |"


def run(num_ranks, engine, arguments):
    """One engine, on processes of its own: figures of the fullest, and seconds."""
    options = [x for name in ("ids", "batch", "fields", "steps") for x in (f"--{name}", getattr(arguments, name))]
    command = [__file__, *options, "--one", engine.name, engine.groups]
    if num_ranks > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", num_ranks, *command]
    return run_alone(*command)


def one(engine, groups, arguments):
    """Train in this process, alone or as one of torchrun's; figures on the first, elsewhere None."""
    logging.disable()
    torch.set_num_threads(1)
    ranks, model_class = None, DCNv2_ME
    if "RANK" in os.environ:
        ranks, _ = start()
        model_class = distribute(DCNv2_ME, ranks, engine, groups)
    collectives = count_sent() if ranks else []
    small = {**SETTINGS, "embedding_dim": 2, "batch_size": 8}
    with unittest.mock.patch.object(step, "keep_freed_memory"):  # which a run calls when the model is built
        train(model_class, feature_map_of(arguments.fields, 10 * arguments.fields), small, 1)
    gc.collect()
    feature_map, settings = feature_map_of(arguments.fields, arguments.ids), {**SETTINGS, "batch_size": arguments.batch}
    found, seconds = train(model_class, feature_map, settings, arguments.steps, collectives)
    if ranks:
        of_all = ranks.gather(torch.tensor(list(found.values()), dtype=torch.float64))
        found = dict(zip(found, torch.stack(of_all).amax(dim=0).tolist(), strict=True))
        stop()
        if not ranks.is_first:
            return None
    return {**found, "seconds": seconds}


def train(model_class, feature_map, settings, steps, collectives=()):
    """Build a model and train it on one batch -> (bytes held, at the peaks, and sent in a step; seconds of steps)."""
    batch, seconds = batch_of(feature_map, settings["batch_size"]), []
    before = begin(ON_CPU)
    model = model_class(feature_map, gpu=ON_CPU, **settings).train()
    model._max_gradient_norm = 10.0
    built = peak(ON_CPU) - before
    begin(ON_CPU)
    for _ in range(WARM_UP):
        model.train_step(batch)
    counted = len(collectives)
    for _ in range(steps):
        together()
        begun = now()
        model.train_step(batch)
        together()
        seconds.append(now() - begun)
    trained = peak(ON_CPU) - before
    state = [x for of in model.optimizer.state.values() for x in of.values() if isinstance(x, torch.Tensor)]
    held = sum(x.nbytes for x in [*model.parameters(), *state])
    return {"held": held, "built": built, "trained": trained, "sent": sum(collectives[counted:]) / steps}, seconds


def batch_of(feature_map, rows):
    """Id k from 1 to D - 1 with a probability of about 1/k, and labels: the same in all processes."""
    random = np.random.default_rng(0)
    columns = {f: (spec["vocab_size"] - 1) ** random.random(rows) for f, spec in feature_map.features.items()}
    batch = {f: torch.from_numpy(column.astype(np.int64)) for f, column in columns.items()}
    return {**batch, "label": torch.from_numpy(random.integers(0, 2, rows).astype(np.float32))}


def together():
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def count_sent():
    """From now on note what this process sends to others -> list of bytes, to which every collective adds its own."""
    found, all_reduce, all_gather, all_to_all = [], dist.all_reduce, dist.all_gather, dist.all_to_all_single

    def counted_all_reduce(tensor, *args, group=None, **kwargs):
        found.append(sent(ALL_REDUCE, tensor.nbytes, dist.get_world_size(group)))
        return all_reduce(tensor, *args, group=group, **kwargs)

    def counted_all_gather(parts, tensor, group=None):
        found.append(sent(ALL_GATHER, len(parts) * tensor.nbytes, len(parts)))
        return all_gather(parts, tensor, group=group)

    def counted_all_to_all(incoming, outgoing, got, given, group=None):
        others = len(outgoing) - given[dist.get_rank(group)]
        found.append(others * outgoing[:1].nbytes)
        return all_to_all(incoming, outgoing, got, given, group=group)

    dist.all_reduce, dist.all_gather = counted_all_reduce, counted_all_gather
    dist.all_to_all_single = counted_all_to_all
    return found


if __name__ == "__main__":
    main()
