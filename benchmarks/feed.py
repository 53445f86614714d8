"""Rows per second over a whole shuffled epoch of 39 fields: our H5 loader, and FuxiCTR's parquet and npz loaders.

    python benchmarks/feed.py [--rows 1000000] [--gpu -1]

Each loader runs in a process of its own; its construction and its shuffle count, importing does not. FuxiCTR's run at
several worker counts, of which the best is shown. ``--gpu 0`` adds ours from the GPU's memory. ``--checks N`` compares
only ours with and without checksums, N times each.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from measure import now, run_alone

COUNTS = {"ours, memory": [0], "ours, stream": [0], "FuxiCTR npz": [0, 1, 2], "FuxiCTR parquet": [1, 2]}
BATCHES = (4096, 10_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of an epoch (default: 1000000)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device to feed, -1 for the CPU (default: -1)")
    parser.add_argument("--checks", type=int, default=0, metavar="N", help="measure what checksums cost, N times")
    parser.add_argument("--one", nargs=4, metavar=("LOADER", "BATCH", "WORKERS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        loader, *more = arguments.one
        result = checks(*more) if loader == "checks" else one(loader, *more, arguments.gpu)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.rows)
        if arguments.checks:
            report_checks(folder, arguments.checks)
        else:
            report(folder, arguments)


def report(folder, arguments):
    """Measure and print the tables."""
    counts = {"ours, device": [0], **COUNTS} if arguments.gpu >= 0 else COUNTS
    print("| batch | loader | workers | rows/s | against the parquet | first batch, s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for batch in BATCHES:
        results = {}
        for loader, workers in counts.items():
            runs = {}
            for count in workers:
                options = ("--gpu", arguments.gpu, "--one", loader, batch, count, folder)
                runs[count] = run_alone(__file__, *options)
            best = min(runs, key=lambda count: runs[count]["seconds"])
            results[loader] = {**runs[best], "workers": best}
        slowest = results["FuxiCTR parquet"]["seconds"]
        for loader, r in results.items():
            speed = f"{arguments.rows / r['seconds']:,.0f} | {slowest / r['seconds']:.1f}x"
            print(f"| {batch:,} | {loader} | {r['workers']} | {speed} | {r['first']:.2f} | {r['peak_mb']:,.0f} |")
    flat(folder)


def report_checks(folder, times):
    """Print what checksums cost in the first epoch, in which they are compared."""
    print("| placement | wall time, checked / unchecked | CPU time, checked / unchecked |")
    print("|---|---|---|")
    for placement, ratios in run_alone(__file__, "--one", "checks", 4096, times, folder)["ratios"].items():
        print(f"| {placement} | {ratios['wall']:.3f} | {ratios['cpu']:.3f} |")


def checks(batch, times, folder):
    """Ratios of the medians of first epochs, construction included; checked and unchecked ones take turns."""
    logging.disable(logging.WARNING)
    from fuxictr_me.data import H5DataLoader, feature_maps
    from fuxictr_me.data.h5.block_checksums import VerifiedBlocks

    check, folder = VerifiedBlocks.check, Path(folder) / "set"
    feature_map, ratios = feature_maps.load(folder), {}
    for placement in ("memory", "stream"):
        seconds = {True: [], False: []}
        for turn in range(2 * int(times) + 1):
            is_checked = turn % 2 == 1
            VerifiedBlocks.check = check if is_checked else lambda *_: None
            start = now(), time.process_time()
            options = {"batch_size": int(batch), "shuffle": True, "data_placement": placement}
            for _ in H5DataLoader(feature_map, folder / "train.h5", **options):
                pass
            if turn:  # the first reads the file into the page cache
                seconds[is_checked].append((now() - start[0], time.process_time() - start[1]))
        medians = {key: [median(part) for part in zip(*found, strict=True)] for key, found in seconds.items()}
        wall, cpu = (a / b for a, b in zip(medians[True], medians[False], strict=True))
        ratios[placement] = {"wall": wall, "cpu": cpu}
    VerifiedBlocks.check = check
    return {"ratios": ratios}


def flat(folder):
    """Memory while a set of ten windows is streamed twice."""
    r = run_alone(__file__, "--one", "windows", 4096, 0, folder)
    held = ", ".join(f"{mb:,.0f}" for mb in r["held_mb"])
    print(
        f"\nStreaming in ten windows: resident memory after each tenth of the first epoch {held} MB; "
        f"after a second epoch {r['after_mb']:,.0f} MB. Mixing of the order (1: uniform): {r['mixing']:.2f}."
    )


def write(folder, rows):
    """The same rows as our H5, FuxiCTR's npz and FuxiCTR's parquet."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fuxictr_me.data.building.convert_ids import write_set
    from fuxictr_me.data.synthetic_clicks import SyntheticClicks

    clicks = SyntheticClicks()
    write_set(folder / "set", clicks.feature_map("set"), {"train": rows}, lambda _: clicks.chunks(rows), {})
    columns = list(clicks.chunks(rows))
    whole = {name: np.concatenate([chunk[name] for chunk in columns]) for name in columns[0]}
    np.savez(folder / "set" / "train.npz", **whole)
    pq.write_table(pa.table(whole), folder / "set" / "train.parquet")


def one(loader, batch, workers, folder, gpu):
    """An epoch of one loader."""
    logging.disable(logging.WARNING)
    from fuxictr.pytorch.dataloaders import RankDataLoader

    from fuxictr_me.data import H5DataLoader, feature_maps

    batch, folder = int(batch), Path(folder) / "set"
    feature_map = feature_maps.load(folder)
    if loader == "windows":
        return windows(feature_map, folder, batch)
    start = now()
    if loader.startswith("ours"):
        placement = loader.split(", ")[1]
        ours = {"batch_size": batch, "shuffle": True, "data_placement": placement, "gpu": gpu}
        data = H5DataLoader(feature_map, folder / "train.h5", **ours)
    else:
        kind = loader.split()[1]
        path = str(folder / f"train.{kind}")
        common = {"batch_size": batch, "shuffle": True, "num_workers": int(workers), "data_format": kind}
        data = RankDataLoader(feature_map, stage="train", train_data=path, **common)
        data = (data.make_iterator() if hasattr(data, "make_iterator") else data)[0]
    first, rows = None, 0
    for columns in data:
        first = first or now() - start
        rows += len(columns["label"])
    return {"seconds": now() - start, "first": first, "rows": rows}


def windows(feature_map, folder, batch):
    """What a process holds while it streams ten windows."""
    from fuxictr_me.data import H5DataLoader
    from fuxictr_me.data.loaders.window_shuffle import mixing

    rows = H5DataLoader(feature_map, folder / "train.h5", data_placement="stream").num_samples
    data = H5DataLoader(
        feature_map,
        folder / "train.h5",
        batch_size=batch,
        shuffle=True,
        data_placement="stream",
        window_rows=rows // 10,
    )
    held = []
    for step, _ in enumerate(data, start=1):
        if step % (len(data) // 10) == 0:
            held.append(resident_mb())
    for _ in data:
        pass
    return {"held_mb": held[:10], "after_mb": resident_mb(), "mixing": mixing(data.order.rows(0, 0), batch)}


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
