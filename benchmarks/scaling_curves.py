"""The scaling curves of a study that has been reported, from the runs.csv of its report.

    python benchmarks/scaling_curves.py docs/flights_study/runs.csv [--figure scaling_curves.png] [--csv scaling.csv]

Prints one sentence per model and metric. A report that ``fuxictr-me study report`` writes now has them already.
"""

import argparse
import csv
from pathlib import Path

from fuxictr_me.reports.report_folder import write_csv
from fuxictr_me.reports.study.curve_findings import curve_rows, describe_curves, list_metrics_with_curves
from fuxictr_me.reports.study.metric_values import list_test_metrics
from fuxictr_me.reports.study.scaling_figure import draw_scaling_curves
from fuxictr_me.study.results import CellResult, RunResult, StudyResults


def read_runs(path: Path) -> StudyResults:
    """Return the results of a study from the runs.csv of its report, without information abundance."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells: dict[tuple, list[dict]] = {}
    for row in rows:
        cells.setdefault((row["model"], row["kind"], int(row["scale"])), []).append(row)
    made = tuple(
        CellResult(*name, int(of[0]["num_sets"]), int(of[0]["embedding_dim"]), {}, tuple(map(read_run, of)))
        for name, of in cells.items()
    )
    seeds = tuple(dict.fromkeys(int(row["seed"]) for row in rows))
    return StudyResults(path.parent.name, rows[0]["dataset_id"], seeds, "AUC", "max", {}, {}, {}, made)


def read_run(row: dict[str, str]) -> RunResult:
    """Return the run of a row."""
    valid, test = (
        {key.split("_", 1)[1]: float(value) for key, value in row.items() if key.startswith(f"{split}_")}
        for split in ("valid", "test")
    )
    return RunResult(
        expid=row["expid"],
        seed=int(row["seed"]),
        valid=valid,
        test=test,
        parameters=int(row["parameters"]),
        embedding_parameters=int(row["embedding_parameters"]),
        seconds=float(row["seconds"]),
        steps=int(row["steps"]),
        peak_memory=None,
        abundance=[],
    )


def main() -> None:
    """Print the sentences; write the figure and the csv file if asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    results = read_runs(arguments.runs)
    for metric in list_test_metrics(results):
        print("\n".join(describe_curves(results, metric)))
    if arguments.csv:
        write_csv(arguments.csv, curve_rows(results))
    metric = next(iter(list_metrics_with_curves(results)), None)
    if arguments.figure and metric:
        draw_scaling_curves(results, metric).savefig(arguments.figure, dpi=150)


if __name__ == "__main__":
    main()
