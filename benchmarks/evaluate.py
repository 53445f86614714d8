"""Seconds to evaluate predictions that lie there batch by batch: ours against FuxiCTR's lists and scikit-learn.

    python benchmarks/evaluate.py [--rows 10000000] [--gpu -1]

FuxiCTR's path is that of ``BaseModel.evaluate``: each batch's float32 predictions and labels extend Python lists,
which end as float64 arrays in ``evaluate_metrics``. Ours joins the tensors. Forward passes are not counted. Both run in
this process, one after the other, three times; medians are shown.
"""

import argparse
import statistics

import numpy as np
import torch
from fuxictr import metrics as fuxictr_metrics
from measure import now

from fuxictr_me.training import metrics

BATCH, REPEATS = 10_000, 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="predictions (default: 10000000)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device that holds them, -1 for the CPU (default: -1)")
    arguments = parser.parse_args()
    batches = list(predictions(arguments.rows, "cpu" if arguments.gpu < 0 else f"cuda:{arguments.gpu}"))
    runs = [(ours(batches), theirs(batches)) for _ in range(REPEATS)]
    for (_, values), (_, expected) in runs:
        if any(abs(values[metric] - expected[metric]) > 1e-12 for metric in expected):
            raise SystemExit(f"ours, {values}, are not FuxiCTR's, {expected}")
    print(f"{arguments.rows:,} rows, batches of {BATCH:,}, {torch.get_num_threads()} threads\n")
    print("| step | ours, s | FuxiCTR, s | FuxiCTR / ours |")
    print("|---|---|---|---|")
    for step in ("collect", "AUC", "logloss", "all"):
        mine, other = (statistics.median(run[side][0][step] for run in runs) for side in (0, 1))
        print(f"| {step} | {mine:.3f} | {other:.3f} | {other / mine:.1f}x |")


def predictions(rows, device):
    """Batches of (y_true, y_pred), (b, 1), float32: about a third positive, AUC about 0.74."""
    random = torch.Generator().manual_seed(0)
    for start in range(0, rows, BATCH):
        p = torch.randn(min(BATCH, rows - start), 1, generator=random).sub_(1).sigmoid_()
        yield torch.bernoulli(p, generator=random).to(device), p.to(device)


def ours(batches):
    start = now()
    y_true = torch.cat([y for y, _ in batches]).flatten()
    y_pred = torch.cat([p for _, p in batches]).flatten()
    return timed(metrics.evaluate_metrics, y_true, y_pred, start)


def theirs(batches):
    start = now()
    y_pred, y_true = [], []
    for y, p in batches:
        y_pred.extend(p.data.cpu().numpy().reshape(-1))
        y_true.extend(y.data.cpu().numpy().reshape(-1))
    arrays = np.array(y_true, np.float64), np.array(y_pred, np.float64)
    return timed(fuxictr_metrics.evaluate_metrics, *arrays, start)


def timed(evaluate, y_true, y_pred, start):
    """Seconds of each step since ``start``, and the metrics."""
    seconds, values = {"collect": now() - start}, {}
    for metric in ("AUC", "logloss"):
        before = now()
        values.update(evaluate(y_true, y_pred, [metric]))
        seconds[metric] = now() - before
    return {**seconds, "all": now() - start}, values


if __name__ == "__main__":
    main()
