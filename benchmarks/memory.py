"""Peak memory of training as ``fuxictr-me plan`` predicts it, and as it is measured.

    python benchmarks/memory.py [--gpu -1] [--batch 4096] [--steps 3] [--updates dense]

DCNv2 (4 cross layers, hidden layers of 400, batch norm, dropout) with one set of K = 10, 40 and 100, and 4 and 10 sets
of 10, on Criteo's shape (39 fields, 1 M ids) and on Avazu's (24 fields, 3.8 M ids). Each cell is a process of its own.

On a GPU measured is ``torch.cuda.max_memory_allocated``. On the CPU it is by how much the resident memory of the
process rises, as Linux counts it: once with glibc's allocator as it is, which keeps freed blocks of up to 32 MB, and
once told to give blocks of 64 KB and more back at once (``MALLOC_MMAP_THRESHOLD_``). A small model is trained first,
so that what libraries load and keep does not count.
"""

import argparse
import gc
import json
import logging
import os
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from measure import run_alone

from fuxictr_me import DCNv2_ME
from fuxictr_me.estimates import simulate
from fuxictr_me.training import step

SHAPES = {"Criteo": (39, 1_000_000), "Avazu": (24, 3_800_000)}  # fields, ids
SIZES = {"SE 1x": (1, 10), "SE 4x": (1, 40), "ME 4x": (4, 10), "SE 10x": (1, 100), "ME 10x": (10, 10)}  # sets, K
DCNV2 = {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0}
DCNV2 |= {"stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, "batch_norm": True, "net_dropout": 0.2}
DCNV2 |= {"model_root": "unused"}
BACK_AT_ONCE = "65536"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    parser.add_argument("--batch", type=int, default=4096, help="rows (default: 4096)")
    parser.add_argument("--steps", type=int, default=3, help="of training in a cell (default: 3)")
    parser.add_argument("--updates", default="dense", help="embedding_updates (default: dense)")
    parser.add_argument("--cell", nargs=2, metavar=("SHAPE", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(cell(*arguments.cell, arguments)))
        return
    columns = ["GPU"] if arguments.gpu >= 0 else ["blocks given back", "glibc as it is"]
    print(f"| data | model | parameters | predicted, MB | {' | | '.join(f'{name}, MB' for name in columns)} | |")
    print("|---|---|---|---|" + "---|---|" * len(columns))
    for shape in SHAPES:
        for size in SIZES:
            print(row(shape, size, columns, arguments), flush=True)


def row(shape, size, columns, arguments):
    """A line of the table: measured, and predicted over measured."""
    options = ("--gpu", arguments.gpu, "--batch", arguments.batch, "--steps", arguments.steps)
    options += ("--updates", arguments.updates)
    text = ""
    for column in columns:
        os.environ.pop("MALLOC_MMAP_THRESHOLD_", None)
        if column == "blocks given back":
            os.environ["MALLOC_MMAP_THRESHOLD_"] = BACK_AT_ONCE
        r = run_alone(__file__, *options, "--cell", shape, size)
        text += f" {r['measured'] / 1e6:,.0f} | {r['predicted'] / r['measured']:.3f} |"
    return f"| {shape} | {size} | {r['parameters']:,} | {r['predicted'] / 1e6:,.0f} |{text}"


def cell(shape, size, arguments):
    """Train one model for a few steps: what was predicted, what it took."""
    logging.disable()
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        step.keep_freed_memory = lambda: None  # which would keep them
    fields, ids = SHAPES[shape]
    sets, dim = SIZES[size]
    settings = {**DCNV2, "batch_size": arguments.batch, "embedding_updates": arguments.updates}
    train(fields, 10 * fields, {**settings, "num_sets": 2, "embedding_dim": 2, "batch_size": 8}, arguments)
    gc.collect()
    settings |= {"num_sets": sets, "embedding_dim": dim}
    measured = train(fields, ids, settings, arguments)
    found = simulate(DCNv2_ME, feature_map_of(fields, ids), settings, on_gpu=arguments.gpu >= 0)
    return {"parameters": found.parameters, "predicted": found.memory.peak, "measured": measured}


def train(fields, ids, settings, arguments):
    """Build a model and train it on random rows -> bytes at the peak, over what was there before."""
    feature_map = feature_map_of(fields, ids)
    random = np.random.default_rng(0)
    device = "cpu" if arguments.gpu < 0 else f"cuda:{arguments.gpu}"
    before = begin(arguments.gpu)
    rows = settings["batch_size"]
    batch = {f: random.integers(1, spec["vocab_size"], rows) for f, spec in feature_map.features.items()}
    batch["label"] = random.integers(0, 2, rows).astype(np.float32)
    batch = {name: torch.from_numpy(column).to(device) for name, column in batch.items()}
    model = DCNv2_ME(feature_map, gpu=arguments.gpu, **settings).train()
    model._max_gradient_norm = 10.0
    for _ in range(arguments.steps):
        model.train_step(batch)
    return peak(arguments.gpu) - before


def feature_map_of(fields, ids):
    """Categorical fields: one of four has all ids but a few, as in click data, the others ten each."""
    large = -(-fields // 4)
    size = (ids - 10 * (fields - large)) // large
    feature_map = FeatureMap("made", "unused")
    for f in range(fields):
        spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size if f < large else 10}
        feature_map.features[f"f{f}"] = spec
    feature_map.labels, feature_map.num_fields = ["label"], fields
    feature_map.set_column_index()
    return feature_map


def begin(gpu):
    """Forget the peak so far -> bytes held now."""
    if gpu >= 0:
        torch.cuda.reset_peak_memory_stats(gpu)
        return torch.cuda.memory_allocated(gpu)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak(gpu):
    """Bytes held at most since ``begin``."""
    return torch.cuda.max_memory_allocated(gpu) if gpu >= 0 else status("VmHWM")


def status(key):
    """A line of Linux' /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    main()
