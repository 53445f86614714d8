"""Ensembles of models that were trained apart, from the base runs of a finished study.

    python benchmarks/independent_ensembles.py STUDY_FOLDER [--sizes 1 2 4 10] [--against docs/flights_study/runs.csv]

The kind ``ensemble`` of a study trains M single models by one loss of their mean logit. Here each model was trained by
its own loss, with its own seed, and only the logits of the test split are averaged. The base runs are divided in their
order into groups of M models, so that groups share no model and their results are independent of each other. With
``--against``, the test AUC of each kind of another study at the same size is compared with that of the groups by
Welch's t test, corrected by Holm's method for all kinds and sizes of a model.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score
from tqdm import tqdm

from fuxictr_me.reports.study.statistics import adjust_by_holm, mean_and_sd
from fuxictr_me.runs.finished_run import find_run, load_trained
from fuxictr_me.study.plan_file import read_plan
from fuxictr_me.study.results import BASE


def predict_test_split(expid: str, config: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and the logits of the test split, in the order of its rows."""
    model, batches = load_trained(expid, config), find_run(expid, config).batches("test")
    labels = np.concatenate([model.get_labels(batch).numpy().ravel() for batch in batches])
    p = np.clip(model.predict(batches).astype(np.float64), 1e-7, 1 - 1e-7)
    return labels, np.log(p / (1 - p))


def measure_groups(labels: np.ndarray, logits: np.ndarray, size: int) -> tuple[list[float], list[float]]:
    """Return test AUC and logloss of the mean logit of each group of ``size`` models.

    Args:
        labels: (rows,).
        logits: (models, rows).
        size: M.
    """
    groups = [logits[first : first + size].mean(0) for first in range(0, len(logits) - size + 1, size)]
    aucs = [float(roc_auc_score(labels, logit)) for logit in groups]
    return aucs, [float(log_loss(labels, 1 / (1 + np.exp(-logit)))) for logit in groups]


def read_kinds(path: Path, model: str, sizes: list[int]) -> dict[tuple[str, int], list[float]]:
    """Return (kind, size) -> test AUC of each seed, from the runs.csv of a study's report."""
    kinds: dict[tuple[str, int], list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"] == model and int(row["scale"]) in sizes and int(row["scale"]) > 1:
                kinds.setdefault((row["kind"], int(row["scale"])), []).append(float(row["test_AUC"]))
    return kinds


def compare(kinds: dict[tuple[str, int], list[float]], groups: dict[int, list[float]]) -> list[str]:
    """Return the lines of a table that compares kinds with the groups of their size."""
    sides = [(name, aucs, groups[name[1]]) for name, aucs in kinds.items() if len(groups.get(name[1], [])) > 1]
    tests = [stats.ttest_ind(aucs, of_groups, equal_var=False) for _, aucs, of_groups in sides]
    lines = [
        "| kind | seeds | groups | kind − groups, test AUC | 95 % interval | p | p (Holm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, aucs, of_groups), test, p in zip(sides, tests, adjust_by_holm([t.pvalue for t in tests]), strict=True):
        interval = test.confidence_interval()
        lines.append(
            f"| {name[0]} {name[1]}x | {len(aucs)} | {len(of_groups)} | {np.mean(aucs) - np.mean(of_groups):+.5f} | "
            f"{interval.low:+.5f} to {interval.high:+.5f} | {test.pvalue:.2g} | {p:.2g} |"
        )
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the study; its checkpoints must be there")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1, 2, 4, 10], help="models a group (default: 1 2 4 10)"
    )
    parser.add_argument("--against", type=Path, help="runs.csv of the report of another study")
    arguments = parser.parse_args()
    against = arguments.against and arguments.against.resolve()
    os.chdir(arguments.folder)
    plan = read_plan(Path())
    checkpoints = Path("checkpoints") / Path(plan.data_folder).name
    for model in dict.fromkeys(cell.model for cell in plan.cells.values()):
        bases = {name for name, cell in plan.cells.items() if (cell.model, cell.kind) == (model, BASE)}
        runs = [run for run in plan.runs if run.cell in bases and (checkpoints / f"{run.expid}.json").is_file()]
        if not runs:
            parser.error(f"{arguments.folder} has no finished base run of {model}")
        predicted = [predict_test_split(run.expid, run.config) for run in tqdm(runs, desc=model, unit="model")]
        labels, logits = predicted[0][0], np.stack([logit for _, logit in predicted])
        groups = {}
        print("| model | models averaged | groups | test AUC | test logloss |\n|---|---|---|---|---|")
        for size in arguments.sizes:
            groups[size], losses = measure_groups(labels, logits, size)
            print(f"| {model} | {size} | {len(losses)} | {_spread(groups[size])} | {_spread(losses)} |")
        if against:
            print("\n".join(["", *compare(read_kinds(against, model, arguments.sizes), groups)]))


def _spread(values: list[float]) -> str:
    mean, sd = mean_and_sd(values)
    return "–" if mean is None else f"{mean:.5f}" + ("" if sd is None else f" ± {sd:.5f}")


if __name__ == "__main__":
    main()
