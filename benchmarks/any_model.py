"""A step of wrapped FuxiCTR models, and of our own: python benchmarks/any_model.py (FUXICTR_SRC names a checkout).

For models that are there in both ways: FuxiCTR's class with one set, the same with M sets in turn and at once
(torch.func.vmap), and this package's hand-written model of M sets. Every way in a process-wide round of its own, the
rounds interleaved, medians; times are ratios to the wrapped model in turn.
"""

import argparse
import importlib
import os
import statistics
import sys
import time

import torch
from fuxictr.features import FeatureMap

import fuxictr_me
from fuxictr_me import MultiEmbeddingOf

HIDDEN = [400, 400, 400]
MODELS = {
    "DNN": {"hidden_units": HIDDEN},
    "DCNv2": {"parallel_dnn_hidden_units": HIDDEN, "num_cross_layers": 4},
    "AutoInt": {"dnn_hidden_units": HIDDEN, "attention_dim": 40, "num_heads": 2},
}


def feature_map(fields, ids):
    """``fields`` categorical fields of ``ids`` ids each."""
    made = FeatureMap("made", "unused")
    spec = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": ids}
    made.features.update({f"C{i}": spec for i in range(fields)})
    made.labels, made.num_fields, made.default_emb_dim = ["label"], fields, 10
    made.set_column_index()
    return made


def batch_of(made, rows):
    """Random ids and labels."""
    batch = {name: torch.randint(1, spec["vocab_size"], (rows,)) for name, spec in made.features.items()}
    return {**batch, "label": torch.randint(0, 2, (rows,)).double()}


def build(name, way, made, num_sets, gpu):
    """A model in one of the ways, ready for FuxiCTR's ``train_step``."""
    settings = {"embedding_dim": 10, "metrics": ["AUC"], "model_root": "unused", "verbose": 0, "gpu": gpu}
    settings |= {"optimizer": "adam", "loss": "binary_crossentropy", "embedding_regularizer": 1e-5, **MODELS[name]}
    if way == "ours":
        model = getattr(fuxictr_me, f"{name}_ME")(made, num_sets=num_sets, **settings)
    else:
        backbone = getattr(importlib.import_module("model_zoo"), name)
        sets = 1 if way == "single" else num_sets
        model = MultiEmbeddingOf(backbone)(made, num_sets=sets, batched=way == "at once", **settings)
    model._max_gradient_norm, model._batch_index = 10.0, 0
    return model.train()


def seconds(model, batch, steps):
    """Of each step, after two that do not count."""
    taken = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        model.train_step(batch)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return taken[2:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--num-sets", nargs="+", type=int, default=[4, 10])
    parser.add_argument("--ids", type=int, default=10_000, help="of each of 26 fields")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3, help="of a way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu", type=int, default=-1)
    arguments = parser.parse_args()
    if "FUXICTR_SRC" not in os.environ:
        sys.exit("FUXICTR_SRC must name a checkout of reczoo/FuxiCTR")
    sys.path.insert(0, os.environ["FUXICTR_SRC"])
    made = feature_map(26, arguments.ids)
    batch = batch_of(made, arguments.rows)
    print("| model | M | in turn, s | at once | ours | one set |\n|---|---|---|---|---|---|")
    for name in arguments.models:
        for num_sets in arguments.num_sets:
            ways = ["in turn", "at once", "single"] + (["ours"] if hasattr(fuxictr_me, f"{name}_ME") else [])
            taken = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way in ways:
                    torch.manual_seed(0)
                    taken[way] += seconds(build(name, way, made, num_sets, arguments.gpu), batch, arguments.steps)
            median = {way: statistics.median(of_way) for way, of_way in taken.items()}
            ratios = [
                f"{median[way] / median['in turn']:.2f}" if way in median else ""
                for way in ("at once", "ours", "single")
            ]
            print(f"| {name} | {num_sets} | {median['in turn']:.2f} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
