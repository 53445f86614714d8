"""Record the quickstart: its three models with several seeds, on one and on two threads.

    python benchmarks/quickstart.py [--seeds 1 2 3 2024] [--threads 1 2] [--out quickstart_runs]

Each quickstart is a process, and as many run at a time as the cores allow. The values go to
``fuxictr_me/quickstart/recorded.json``, from which ``fuxictr-me quickstart`` takes what it shows beside the user's run.
The tables of docs/quickstart.md are printed. What is finished is not run again.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from statistics import fmean

import torch
import yaml

from fuxictr_me.quickstart.run import RUNS, format_spread
from fuxictr_me.training.callbacks.information_abundance import ALL

RECORDED = Path(__file__).parents[1] / "fuxictr_me" / "quickstart" / "recorded.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 2024])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", default="quickstart_runs")
    arguments = parser.parse_args()
    runs = [(seed, threads) for threads in arguments.threads for seed in arguments.seeds]
    folders = []
    for threads in arguments.threads:
        with ThreadPoolExecutor(max(1, os.cpu_count() // threads)) as pool:
            out = [Path(arguments.out) / f"seed_{seed}_threads_{threads}" for seed in arguments.seeds]
            folders += pool.map(run_quickstart, out, arguments.seeds, [threads] * len(out))
    record = {
        "command": "python benchmarks/quickstart.py",
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, torch {torch.__version__}",
        "seeds and threads": runs,
        "settings": yaml.safe_load((RECORDED.parent / "model_config.yaml").read_text()),
        "runs": {expid: read_runs(folders, expid) for expid in RUNS},
    }
    RECORDED.write_text(json.dumps(record, indent=1) + "\n")
    print(format_tables(record["runs"]))


def run_quickstart(folder, seed, threads):
    """Run the quickstart in its folder, if that has not been done; return the folder."""
    if not (folder / "quickstart.png").exists():
        print(f"seed {seed}, {threads} threads ...", file=sys.stderr)
        command = [sys.executable, "-m", "fuxictr_me", "quickstart", "--seed", str(seed), "--out", str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return folder


def read_runs(folders, expid):
    """Return column -> the value of each run; columns of single fields have the field's name."""
    columns = {}
    for folder in folders:
        path = folder / "checkpoints" / "nycflights13" / f"{expid}.json"
        result = json.loads(path.read_text())
        with path.with_suffix(".ia.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["event"] == "best" and row["set"] == ALL]
        values = {
            "test AUC": result["test"]["AUC"],
            "test logloss": result["test"]["logloss"],
            "IA / min(K, D)": fmean(float(row["ia_ratio"]) for row in rows),
            "steps": result["steps"],
            "seconds": round(result["seconds"]),
            **{f"IA of {row['field']}": float(row["ia"]) for row in rows},
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return columns


def format_tables(runs):
    """Return the tables of docs/quickstart.md: accuracy, then the information abundance of each field."""
    digits = {"test AUC": 4, "test logloss": 4, "IA / min(K, D)": 3}
    lines = ["| DNN | " + " | ".join(digits) + " |", "|---" * (len(digits) + 1) + "|"]
    for expid, columns in runs.items():
        cells = [format_spread(columns[name], places) for name, places in digits.items()]
        lines.append(f"| {RUNS[expid]} | {' | '.join(cells)} |")
    lines += ["", "| field | " + " | ".join(expid.replace("_", " ") for expid in runs) + " |", "|---" * 4 + "|"]
    for name in next(iter(runs.values())):
        if name.startswith("IA of "):
            lines.append(f"| {name[6:]} | {' | '.join(format_spread(columns[name], 1) for columns in runs.values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
