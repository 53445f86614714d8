"""All six families, SE 1x, SE 4x and ME 4x, on goodbooks: test AUC over three seeds.

    python benchmarks/goodbooks.py --data goodbooks.parquet [--out goodbooks] [--jobs 2]

goodbooks.parquet holds the 979,478 ratings of goodbooks-10k (first release, CC BY-SA 4.0), in random order, with the
columns user_id, book_id, author, year, language, editions and the label like (a rating of 4 or 5). The splits are its
first 80 %, the next 10 % and the last 10 % of the rows.

A second table has controls of DCNv2's ME 4x: an ensemble of four single-embedding models, no non-linear projection, one
interaction module for all sets, a gate, and mixed interactions. A third has its ME 4x without the regulariser, under
the three kinds of ``embedding_updates``.

The embedding regulariser is chosen for each model and size by itself, out of one grid, by the validation AUC of the
first seed; all else is the same for all. Each run is a process of its own with one thread. What is finished is not
run again.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import yaml
from tqdm import tqdm

MLP = {"net_dropout": 0.2, "batch_norm": True}
STREAMS = {f"mlp{i}_{key}": value for i in (1, 2) for key, value in (("dropout", 0.2), ("batch_norm", True))}
HIDDEN = [64, 64]
FAMILIES = {
    "DNN": {"hidden_units": HIDDEN, **MLP},
    "PNN": {"hidden_units": HIDDEN, **MLP},
    "NFwFM": {"hidden_units": HIDDEN, **MLP},
    "xDeepFM": {"dnn_hidden_units": HIDDEN, **MLP},
    "DCNv2": {"stacked_dnn_hidden_units": HIDDEN, **MLP},
    "FinalMLP": {"mlp1_hidden_units": HIDDEN, "mlp2_hidden_units": HIDDEN, **STREAMS},
}
SIZES = {
    "SE 1x": {"num_sets": 1, "embedding_dim": 10},
    "SE 4x": {"num_sets": 1, "embedding_dim": 40},
    "ME 4x": {"num_sets": 4, "embedding_dim": 10},
}
CONTROLS = {  # of DCNv2, with the embedding parameters, and the regulariser, of its ME 4x
    "ensemble of 4": {"aggregation": "ensemble"},
    "linear projection": {"nonlinear_projection": False},
    "shared interaction": {"shared_interaction": True},
    "gated": {"aggregation": "gated"},
    "mixed": {
        "model": "Mixed_ME",
        "interactions": ["DCNv2", "DCNv2", "FinalMLP", "PNN"],
        "hidden_units": HIDDEN,
        "stream_hidden_units": HIDDEN,
        "stream_dropout": 0.2,
    },
}
UPDATES = {  # of DCNv2's ME 4x, which need that no regulariser moves every row
    "dense Adam": {"embedding_updates": "dense"},
    "catch_up": {"embedding_updates": "catch_up"},
    "lazy": {"embedding_updates": "lazy"},
}
GRID = (1e-4, 1e-3)
SEEDS = (2024, 2025, 2026)
BASE = {
    "model_root": "./checkpoints/",
    "dataset_id": "goodbooks",
    "verbose": 0,
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "task": "binary_classification",
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "learning_rate": 1e-3,
    "net_regularizer": 1e-6,
    "network_initializer": "paper",
    "embedding_initializer": "paper",
    "batch_size": 4096,
    "epochs": 30,
    "early_stop_patience": 1,
}
DATA = {
    "data_root": "./data/",
    "data_format": "csv",
    **{f"{split}_data": f"csv/{split}.csv" for split in ("train", "valid", "test")},
    "min_categr_count": 1,
    "feature_cols": [
        {
            "name": ["user_id", "book_id", "author", "year", "language", "editions"],
            "active": True,
            "dtype": "str",
            "type": "categorical",
        }
    ],
    "label_col": {"name": "like", "dtype": "float"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="goodbooks.parquet")
    parser.add_argument("--out", default="goodbooks", help="folder to work in (default: goodbooks)")
    parser.add_argument("--split-to", metavar="FOLDER", help="only write the csv splits there, for goodbooks_study/")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    arguments = parser.parse_args()
    data = Path(arguments.data).resolve(strict=True)
    if arguments.split_to:
        split(data, Path(arguments.split_to))
        return
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.out)
    prepare(data)
    cells = [(family, size) for family in FAMILIES for size in SIZES]
    run_all([(*cell, weight, SEEDS[0]) for cell in cells for weight in GRID], arguments.jobs, "choosing")
    chosen = {cell: max(GRID, key=lambda weight: result(*cell, weight, SEEDS[0])["valid"]["AUC"]) for cell in cells}
    run_all([(*cell, chosen[cell], seed) for cell in cells for seed in SEEDS], arguments.jobs, "three seeds")
    weight = chosen["DCNv2", "ME 4x"]
    run_all([("DCNv2", control, weight, seed) for control in CONTROLS for seed in SEEDS], arguments.jobs, "controls")
    run_all([("DCNv2", update, 0, seed) for update in UPDATES for seed in SEEDS], arguments.jobs, "updates")
    tables = [chosen, {("DCNv2", name): weight for name in ("SE 4x", "ME 4x", *CONTROLS)}]
    tables.append({("DCNv2", name): 0 for name in UPDATES})
    table = "\n".join(report(rows) for rows in tables)
    Path("goodbooks.md").write_text(table)
    print(table)


def split(data, folder):
    """Write the csv splits, unless they are there."""
    if not (folder / "test.csv").exists():
        rows = pd.read_parquet(data)
        rows["language"] = rows["language"].replace("", "unknown")
        bounds = [int(len(rows) * share) for share in (0, 0.8, 0.9, 1)]
        folder.mkdir(parents=True, exist_ok=True)
        for name, start, stop in zip(("train", "valid", "test"), bounds, bounds[1:], strict=False):
            rows.iloc[start:stop].to_csv(folder / f"{name}.csv", index=False)


def prepare(data):
    """csv splits and the config folder, unless they are there."""
    split(data, Path("csv"))
    experiments = {"Base": BASE}
    cells = {(family, size): options | SIZES[size] for family, options in FAMILIES.items() for size in SIZES}
    for control, options in (CONTROLS | UPDATES).items():
        kept = {} if "model" in options else FAMILIES["DCNv2"]
        cells["DCNv2", control] = {**MLP, **kept, **SIZES["ME 4x"], **options}
    for (family, size), options in cells.items():
        for weight in (0,) if size in UPDATES else GRID:
            for seed in SEEDS:
                own = {"model": f"{family}_ME", "embedding_regularizer": weight, "seed": seed, **options}
                experiments[expid(family, size, weight, seed)] = own
    Path("config").mkdir(exist_ok=True)
    Path("config/model_config.yaml").write_text(yaml.safe_dump(experiments))
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump({"goodbooks": DATA}))


def expid(family, size, weight, seed):
    """A run's name, e.g. DNN_ME_4x_0.001_2024."""
    return f"{family}_{size.replace(' ', '_')}_{weight:g}_{seed}"


def result(*run):
    """What ``fuxictr-me run_expid`` left of a run, None before it."""
    path = Path(f"checkpoints/goodbooks/{expid(*run)}.json")
    return json.loads(path.read_text()) if path.exists() else None


def run_all(runs, jobs, title):
    """Run what is not finished, ``jobs`` at a time; the first alone, for it builds the data."""
    missing = [run for run in runs if result(*run) is None]
    with tqdm(total=len(missing), desc=title, unit="run") as bar, ThreadPoolExecutor(jobs) as pool:
        for batch in (missing[:1], missing[1:]):
            for _ in pool.map(run_one, batch):
                bar.update()


def run_one(run):
    """One process; its output goes to the log that FuxiCTR keeps."""
    command = [sys.executable, "-m", "fuxictr_me", "run_expid", "--config", "config", "--expid", expid(*run)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{expid(*run)} failed: {done.stderr.strip().splitlines()[-1]}")


def report(chosen):
    """The table, mean ± sd over the seeds."""
    lines = [
        "| model | sets | test AUC | test logloss | embedding_regularizer | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for (family, size), weight in chosen.items():
        results = [result(family, size, weight, seed) for seed in SEEDS]
        auc, logloss = ([r["test"][metric] for r in results] for metric in ("AUC", "logloss"))
        spread = (f"{fmean(values):.4f} ± {stdev(values):.4f}" for values in (auc, logloss))
        lines.append(f"| {family} | {size} | {' | '.join(spread)} | {weight:g} | {results[0]['parameters']:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
