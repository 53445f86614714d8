"""An epoch of training and its evaluation: ours from H5, multi-embedding on FuxiCTR's layers from FuxiCTR's loaders.

    python benchmarks/epoch.py [--rows 200000] [--gpu 0] [--batch 4096]

DCNv2 with 4 sets of 10 and single embeddings of 40 and 10, Criteo's 39 fields, a million ids. Rows are of training;
the validation split has a tenth as many. A process a contestant; reading the data counts, importing does not. The goal
on an H100-class GPU is 33 million rows in 30 seconds: --gpu 0 --rows 33000000.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

from measure import now, run_alone
from step import DIM, FAMILIES, REGULARISER, settled

# name -> model, sets, dimension, data format, settings
CONTESTANTS = {
    "FuxiCTR's layers, ME 4x10, npz": ("plain", 4, DIM, "npz", {}),
    "ours, ME 4x10, H5": ("ours", 4, DIM, "h5", {}),
    "FuxiCTR, SE 40, npz": ("plain", 1, 4 * DIM, "npz", {}),
    "FuxiCTR, SE 10, npz": ("plain", 1, DIM, "npz", {}),
}
ON_GPU = {
    "ours, ME 4x10, H5, compile": ("ours", 4, DIM, "h5", {"compile": True}),
    "ours, ME 4x10, H5, compile, tf32": ("ours", 4, DIM, "h5", {"compile": True, "precision": "tf32"}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000, help="of training (default: 200000)")
    parser.add_argument("--batch", type=int, default=4096, help="rows of a step (default: 4096)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    parser.add_argument("--only", help="contestants whose name holds this")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one, arguments.batch, arguments.gpu)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.rows)
        print("| contestant | training, s | rows/s | first / this | evaluation, s | first / this | peak memory, MB |")
        print("|---|---|---|---|---|---|---|", flush=True)
        first = None
        for name in {**CONTESTANTS, **(ON_GPU if arguments.gpu >= 0 else {})}:
            if arguments.only and arguments.only not in name:
                continue
            r = run_alone(__file__, "--gpu", arguments.gpu, "--batch", arguments.batch, "--one", name, folder)
            first = first or r
            training = f"{r['train']:.1f} | {arguments.rows / r['train']:,.0f} | {first['train'] / r['train']:.2f}"
            evaluation = f"{r['evaluate']:.2f} | {first['evaluate'] / r['evaluate']:.2f}"
            print(f"| {name} | {training} | {evaluation} | {r['gpu_mb'] or r['peak_mb']:,.0f} |", flush=True)


def write(folder, rows):
    """The same rows as our H5 and as FuxiCTR's npz."""
    import numpy as np

    from fuxictr_me.data.building.convert_ids import write_set
    from fuxictr_me.data.synthetic_clicks import SyntheticClicks

    clicks, splits = SyntheticClicks(), {"train": rows, "valid": max(1, rows // 10)}
    write_set(folder / "set", clicks.feature_map("set"), splits, lambda split: clicks.chunks(splits[split]), {})
    for split, count in splits.items():
        columns = list(clicks.chunks(count))
        whole = {name: np.concatenate([chunk[name] for chunk in columns]) for name in columns[0]}
        np.savez(folder / "set" / f"{split}.npz", **whole)


def one(name, folder, batch, gpu):
    """Seconds of an epoch, and of an evaluation."""
    logging.disable(logging.WARNING)
    import plain
    import torch
    from fuxictr.pytorch.dataloaders import RankDataLoader

    from fuxictr_me import DCNv2_ME
    from fuxictr_me.data import H5DataLoader, feature_maps

    kind, num_sets, dim, file_format, settings = {**CONTESTANTS, **ON_GPU}[name]
    place = Path(folder) / "set"
    feature_map = feature_maps.load(place)
    model = {"ours": DCNv2_ME, "plain": plain.PlainDCNv2ME}[kind](
        feature_map,
        gpu=gpu,
        num_sets=num_sets,
        embedding_dim=dim,
        embedding_regularizer=REGULARISER,
        **{"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0},
        **{"metrics": ["AUC", "logloss"], "model_root": folder, **FAMILIES["DCNv2"], **settings},
    )
    model._max_gradient_norm, model._eval_steps, model._total_steps, model._stop_training = 10.0, 1 << 60, 0, False
    start = now()
    if file_format == "h5":
        common = {"batch_size": batch, "gpu": gpu}
        train = H5DataLoader(feature_map, place / "train.h5", split="train", shuffle=True, **common)
        valid = H5DataLoader(feature_map, place / "valid.h5", split="valid", **common)
    else:
        files = {"train_data": str(place / "train.npz"), "valid_data": str(place / "valid.npz")}
        common = {"batch_size": batch, "shuffle": True, "num_workers": 1, "data_format": "npz"}
        loaders = RankDataLoader(feature_map, stage="train", **files, **common)
        train, valid = loaders.make_iterator() if hasattr(loaders, "make_iterator") else loaders
    model.train_epoch(train)
    trained = settled(model.device)
    model.evaluate(valid)
    ended = settled(model.device)
    peak = torch.cuda.max_memory_allocated(model.device) / 1e6 if gpu >= 0 else None
    return {"train": trained - start, "evaluate": ended - trained, "gpu_mb": peak}


if __name__ == "__main__":
    main()
