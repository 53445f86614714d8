"""Training steps of ours, of multi-embedding on FuxiCTR's layers (plain.py), and of FuxiCTR's own single embedding.

    python benchmarks/step.py [--gpu 0] [--full] [--out folder]

A cell is a family, M sets of dimension 10, a batch size and a number of ids, with Criteo's 39 fields. In each cell
every contestant trains the same batches in a process of its own; the table shows medians over the steps, and ratios to
plain within the cell. ``--out`` also writes step.json and step.png. Without a GPU fewer cells are measured, unless
``--full``. ``catch_up`` goes by rows from step 2 on rather than 200, to be measured at once: a step costs the same.
"""

import argparse
import itertools
import json
import logging
import statistics
import tempfile
from pathlib import Path

from measure import now, run_alone

FIELDS, DIM, WARM_UP = 39, 10, 4
FAMILIES = {
    "DCNv2": {"stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, "net_dropout": 0.2, "batch_norm": True},
    "DNN": {"hidden_units": [400, 400], "net_dropout": 0.2, "batch_norm": True},
}
ON_CPU = [("DCNv2", 1, 4096, 1_000_000), ("DCNv2", 4, 4096, 1_000_000), ("DCNv2", 4, 4096, 5_000_000)]
ON_CPU += [("DCNv2", 10, 4096, 1_000_000), ("DCNv2", 4, 2048, 1_000_000), ("DCNv2", 4, 10_000, 1_000_000)]
ON_CPU += [("DNN", 4, 4096, 1_000_000), ("DNN", 4, 4096, 5_000_000)]
FULL = list(itertools.product(FAMILIES, (1, 2, 4, 10), (2048, 4096, 10_000), (1_000_000, 5_000_000)))
PLAIN, REGULARISER = "plain", 1e-5
# name -> embedding regulariser, which model, its settings; the first of each regulariser is what the others are held to
CONTESTANTS = {
    "plain ME": (REGULARISER, PLAIN, {}),
    "ours": (REGULARISER, "ours", {}),
    "plain SE, same size": (REGULARISER, PLAIN, {"single": True}),
    "plain SE, dimension 10": (REGULARISER, PLAIN, {"single": True, "small": True}),
    "plain ME, no L2": (None, PLAIN, {}),
    "ours, no L2": (None, "ours", {}),
    "ours, no L2, catch_up": (None, "ours", {"embedding_updates": "catch_up"}),
}
ON_GPU = {
    "ours, compile": (REGULARISER, "ours", {"compile": True}),
    "ours, compile, tf32": (REGULARISER, "ours", {"compile": True, "precision": "tf32"}),
    "ours, compile, bf16": (REGULARISER, "ours", {"compile": True, "precision": "bf16"}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    parser.add_argument("--full", action="store_true", help="every cell: hours on a CPU")
    parser.add_argument("--steps", type=int, default=10, help="measured, after a few that are not (default: 10)")
    parser.add_argument("--out", help="folder for step.json and step.png")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one, arguments.gpu, arguments.steps)))
        return
    cells = FULL if arguments.full or arguments.gpu >= 0 else ON_CPU
    contestants = {**CONTESTANTS, **(ON_GPU if arguments.gpu >= 0 else {})}
    print("| model | M | batch | ids | contestant | ms a step | plain / this | peak memory, MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells:
            results += measure(cell, contestants, arguments, folder)
    if arguments.out:
        Path(arguments.out).mkdir(parents=True, exist_ok=True)
        (Path(arguments.out) / "step.json").write_text(json.dumps(results, indent=1) + "\n")
        draw(results, Path(arguments.out) / "step.png")


def measure(cell, contestants, arguments, folder):
    """All contestants of a cell, one after the other; prints their rows."""
    family, num_sets, batch, ids = cell
    rows, base = [], {}
    for name, (regularizer, *_) in contestants.items():
        options = ("--gpu", arguments.gpu, "--steps", arguments.steps)
        r = run_alone(__file__, *options, "--one", name, family, num_sets, batch, ids, folder)
        base.setdefault(regularizer, r["ms"])
        peak = r["gpu_mb"] or r["peak_mb"]
        ratio = base[regularizer] / r["ms"]
        rows.append({"family": family, "M": num_sets, "batch": batch, "ids": ids, "contestant": name})
        rows[-1] |= {"ms": r["ms"], "ratio": ratio, "peak_mb": peak, "loss": r["loss"]}
        print(
            f"| {family} | {num_sets} | {batch:,} | {ids:,} | {name} | {r['ms']:,.1f} | {ratio:.2f} | {peak:,.0f} |",
            flush=True,
        )
    return rows


def one(name, family, num_sets, batch, ids, folder, gpu, steps):
    """Median time of a step of one contestant."""
    logging.disable(logging.WARNING)
    import plain
    import torch

    import fuxictr_me
    from fuxictr_me.training import catch_up

    catch_up.FIRST_STEPS = 2
    num_sets, batch, ids = int(num_sets), int(batch), int(ids)
    feature_map, batches = data(Path(folder), ids, batch, WARM_UP + steps)
    regularizer, kind, settings = {**CONTESTANTS, **ON_GPU}[name]
    settings = dict(settings)
    sets, dim = num_sets, DIM
    if settings.pop("single", False):
        sets, dim = 1, DIM if settings.pop("small", False) else DIM * num_sets
    torch.manual_seed(0)
    models = fuxictr_me if kind == "ours" else plain
    model_class = getattr(models, f"{family}_ME" if kind == "ours" else f"Plain{family}ME")
    model = model_class(
        feature_map,
        gpu=gpu,
        num_sets=sets,
        embedding_dim=dim,
        embedding_regularizer=regularizer,
        **{"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0},
        **{"metrics": ["AUC"], "model_root": folder, **FAMILIES[family], **settings},
    )
    model.train()
    model._max_gradient_norm = 10.0
    times, losses = [], []
    for columns in batches:
        columns = {field: x.to(model.device) for field, x in columns.items()}
        start = settled(model.device)
        loss = model.train_step(columns)
        if kind == PLAIN:
            loss.item()  # as FuxiCTR's train_epoch does
        times.append(settled(model.device) - start)
        losses.append(loss.item())
    peak = torch.cuda.max_memory_allocated(model.device) / 1e6 if gpu >= 0 else None
    return {"ms": 1e3 * statistics.median(times[WARM_UP:]), "loss": losses[-1], "gpu_mb": peak}


def data(folder, ids, batch, steps):
    """Feature map and batches, ids by a power law."""
    import torch

    from fuxictr_me.data import feature_maps
    from fuxictr_me.data.synthetic_clicks import SyntheticClicks

    clicks = SyntheticClicks(num_fields=FIELDS, num_ids=ids)
    place = folder / f"ids_{ids}"
    place.mkdir(exist_ok=True)
    (place / "feature_map.json").write_text(json.dumps(clicks.feature_map(place.name)))
    batches = []
    for chunk in clicks.chunks(steps * batch):
        columns = {name: torch.as_tensor(values) for name, values in chunk.items()}
        batches += zip(*(x.split(batch) for x in columns.values()), strict=True)
    names = list(columns)
    return feature_maps.load(place), [dict(zip(names, parts, strict=True)) for parts in batches][:steps]


def settled(device):
    """The time, when the device has nothing left to do."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return now()


def draw(results, path):
    """How many times faster than plain, a panel a regulariser, a group of bars a cell."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {"with L2 1e-5": [], "without L2": []}
    for row in results:
        if row["contestant"].startswith("ours"):
            panels["without L2" if "no L2" in row["contestant"] else "with L2 1e-5"].append(row)
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 7), layout="constrained")
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        cells = list(dict.fromkeys((r["family"], r["M"], r["batch"], r["ids"]) for r in rows))
        names = list(dict.fromkeys(r["contestant"] for r in rows))
        for i, (name, colour) in enumerate(zip(names, colours, strict=False)):
            ratios = {(r["family"], r["M"], r["batch"], r["ids"]): r["ratio"] for r in rows if r["contestant"] == name}
            places = [c + (i - (len(names) - 1) / 2) * 0.8 / len(names) for c in range(len(cells))]
            bars = axis.bar(places, [ratios[c] for c in cells], 0.8 / len(names), color=colour, label=name)
            axis.bar_label(bars, fmt="%.1f", fontsize=8)
        labels = [f"{f}\nM = {m}\nB = {b:,}\n{i / 1e6:g}M ids" for f, m, b, i in cells]
        axis.set_xticks(range(len(cells)), labels, fontsize=8)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(ylabel="times as fast as plain", title=title)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
