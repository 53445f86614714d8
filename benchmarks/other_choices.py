"""Compare two cells of a study at regularisers of your choice: do its conclusions hang on what one seed chose?

    python benchmarks/other_choices.py RUNS.csv "DNN_ME ME 10x 0.03" "DNN_ME base 0.01"

RUNS.csv has a row for each finished run of a study, also of values that were not chosen; that of the book ratings is
benchmarks/goodbooks_study/tuning_runs.csv. Prints both means of validation and test AUC, and the difference in test
AUC of the same seed, with its interval and the p of the paired t test, not corrected.
"""

import argparse
import csv
import difflib
from pathlib import Path

from fuxictr_me.formatting import pluralize
from fuxictr_me.reports.study.statistics import compare_pairs, mean_and_sd


def read_runs(path: Path, choice: str) -> dict[int, tuple[float, float]]:
    """Return seed -> validation and test AUC of a choice: model, cell and regulariser, e.g. ``DNN_ME ME 10x 0.03``."""
    cell, _, value = choice.rpartition(" ")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {
        int(row["seed"]): (float(row["valid_AUC"]), float(row["test_AUC"]))
        for row in rows
        if f"{row['model']} {row['title']}" == cell and float(row["embedding_regularizer"]) == float(value)
    }
    if not found:
        choices = sorted({f"{row['model']} {row['title']} {row['embedding_regularizer']}" for row in rows})
        nearest = difflib.get_close_matches(choice, choices, cutoff=0) or choices[:3]
        raise SystemExit(f"no run of {choice!r} in {path}; the nearest of {len(choices)} are {', '.join(nearest)}")
    return found


def describe(first: str, second: str, runs: dict[str, dict[int, tuple[float, float]]]) -> list[str]:
    """Return a line for each choice and one for their difference."""
    lines = []
    for choice in (first, second):
        valid, _ = mean_and_sd([valid for valid, _ in runs[choice].values()])
        test, sd = mean_and_sd([test for _, test in runs[choice].values()])
        spread = "" if sd is None else f" ± {sd:.5f}"
        seeds = pluralize(len(runs[choice]), "seed")
        lines.append(f"{choice}: {seeds}, validation AUC {valid:.5f}, test AUC {test:.5f}{spread}")
    shared = [seed for seed in runs[first] if seed in runs[second]]
    test = compare_pairs([runs[first][seed][1] for seed in shared], [runs[second][seed][1] for seed in shared])
    line = f"difference of {pluralize(test.n, 'seed')}: " + ("none" if test.mean is None else f"{test.mean:+.5f}")
    if test.low is not None and test.p is not None:
        line += f" ({test.low:+.5f} to {test.high:+.5f}), p {test.p:.2g}"
    return [*lines, line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="csv of all finished runs of a study")
    parser.add_argument("first", help='model, cell and regulariser, e.g. "DNN_ME ME 10x 0.03"')
    parser.add_argument("second", help="the same of the cell that is subtracted")
    arguments = parser.parse_args()
    runs = {choice: read_runs(arguments.runs, choice) for choice in (arguments.first, arguments.second)}
    print("\n".join(describe(arguments.first, arguments.second, runs)))


if __name__ == "__main__":
    main()
