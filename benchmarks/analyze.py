"""Time and extra memory of the numbers of a collapse report, on one table of many rows.

python benchmarks/analyze.py [--rows 4000000] [--dim 100] [--gpu -1]
"""

import argparse
import os
import threading
from functools import partial

import torch
from fuxictr.features import FeatureMap
from measure import now, tree_bytes

from fuxictr_me.reports.collapse.measure import measure_collapse


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=4_000_000, help="D (default: 4000000)")
    parser.add_argument("--dim", type=int, default=100, help="K (default: 100)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    arguments = parser.parse_args()
    device = "cpu" if arguments.gpu < 0 else f"cuda:{arguments.gpu}"
    analyse(1_000, arguments.dim, device)  # what is done once a process
    seconds, megabytes = analyse(arguments.rows, arguments.dim, device)
    table = arguments.rows * arguments.dim * 4 / 1e6
    print(f"{arguments.rows:,} x {arguments.dim} on {device}: {seconds:.1f} s with {torch.get_num_threads()} threads,")
    print(f"{megabytes:,.0f} MB beside the table's {table:,.0f} MB")


def analyse(rows, dim, device):
    """Seconds, and the most that the process held more than before, in MB."""

    feature_map = FeatureMap("one_table", "")
    feature_map.features["ids"] = {"source": "", "type": "categorical", "vocab_size": rows, "padding_idx": 0}
    table = torch.empty(rows, dim).normal_(std=1e-4)
    state_dict = {"embedding_layer.embedding_layer.embedding_layers.ids.weight": table}
    before = tree_bytes(os.getpid())
    most, ended = [before], threading.Event()

    def watch():
        while not ended.wait(0.02):
            most[0] = max(most[0], tree_bytes(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = now()
    measure_collapse(state_dict, feature_map, partial(torch.nn.init.normal_, std=1e-4), device=device)
    seconds = now() - start
    ended.set()
    watcher.join()
    return seconds, (most[0] - before) / 1e6


if __name__ == "__main__":
    main()
