"""New embeddings in each epoch (the callback ``ReinitialiseEmbeddings``, MEDA) against ordinary training.

    python benchmarks/reinitialise.py [--fraction 0.2] [--seeds 3] [--epochs 5]

DCNv2 with the quickstart's settings and small networks is trained on a part of its flights (days in order of time),
with and without the callback, from the same weights and with a constant learning rate. The tables show validation AUC
after each epoch, and test AUC of the best weights.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path

import yaml

from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.quickstart.flights import write_csv
from fuxictr_me.quickstart.run import get_dataset_id, write_config
from fuxictr_me.runs.experiment import run_expid

MODELS = {"SE_1x": "SE 1x (1 set of 10)", "ME_4x": "ME 4x (4 sets of 10)"}
TRAININGS = {"ordinary": [], "new embeddings": ["ReinitialiseEmbeddings"]}


def train(expid, name, seed, epochs):
    """Train once. Return validation AUC after each epoch, and test AUC of the best weights."""
    folder = Path(f"config_{name.replace(' ', '_')}_{expid}_{seed}")
    write_config(folder, fast=True, seed=seed)
    path = folder / "model_config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["Base"] |= {
        "epochs": epochs,
        "early_stop_patience": epochs + 1,
        "reduce_lr_on_plateau": False,
        "verbose": 0,
    }
    settings["Base"]["callbacks"] = [*TRAININGS[name], {"Log": {"to": "csv"}}]
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
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
        write_csv(Path("csv", get_dataset_id(fast=True)), arguments.fraction)
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
