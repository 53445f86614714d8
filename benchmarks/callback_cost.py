"""What InformationAbundance costs on a model of a million ids: its time at an evaluation over that of an epoch.

    python benchmarks/callback_cost.py [--gpu 0]

Criteo's shape: 39 fields, 1M ids spread as a power law, DCNv2 with the paper's network, batch 4,096. An epoch is
Criteo_x1's training split, 33,003,326 rows; its time is the median step, measured here on random ids of that
shape, times its 8,058 steps (feeding and evaluation not counted, so the share is rather over- than understated).
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time

import torch
from fuxictr.features import FeatureMap

from fuxictr_me import DCNv2_ME, InformationAbundance

NUM_FIELDS, NUM_IDS, BATCH, ROWS = 39, 1_000_000, 4096, 33_003_326


def feature_map_of(num_fields, num_ids):
    """Field sizes as a power law that sums to ``num_ids``."""
    shares = torch.arange(1, num_fields + 1, dtype=torch.float64) ** -2.0
    sizes = (shares / shares.sum() * num_ids).long().clamp(min=4)
    feature_map = FeatureMap("bench", "unused")
    feature_map.labels = ["label"]
    for i, size in enumerate(sizes.tolist()):
        feature_map.features[f"f{i}"] = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
    feature_map.num_fields = num_fields
    feature_map.set_column_index()
    return feature_map


def batch_of(feature_map):
    batch = {f: torch.randint(1, s["vocab_size"], (BATCH,)) for f, s in feature_map.features.items()}
    return batch | {"label": torch.randint(0, 2, (BATCH,)).double()}


def seconds(function, device, repeat):
    times = []
    for _ in range(repeat):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=-1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    feature_map = feature_map_of(NUM_FIELDS, NUM_IDS)
    machine = torch.cuda.get_device_name(arguments.gpu) if arguments.gpu >= 0 else f"{platform.machine()} CPU"
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {sys.version.split()[0]}")
    print("| model | step, ms | epoch, s (8,058 steps) | one evaluation of IA, s | share of an epoch |")
    print("|---|---|---|---|---|")
    for num_sets, dim in ((1, 10), (4, 10), (10, 10), (1, 100)):
        with tempfile.TemporaryDirectory() as folder:
            model = DCNv2_ME(
                feature_map,
                gpu=arguments.gpu,
                num_sets=num_sets,
                embedding_dim=dim,
                net_dropout=0.2,
                batch_norm=True,
                network_initializer="paper",
                embedding_regularizer=1e-5,
                model_root=folder,
                verbose=0,
            )
            model._max_gradient_norm, model._epoch_index, model._total_steps = 10.0, 0, 0
            batch = batch_of(feature_map)
            model.train()
            model.train_step(batch)
            step = seconds(lambda: model.train_step(batch).item(), model.device, 5)  # noqa: B023
            callback = InformationAbundance()
            callback.on_fit_start(model)
            callback.on_evaluation_end(model, {})  # the first also draws the random references
            cost = seconds(lambda: callback.on_evaluation_end(model, {}), model.device, 3)  # noqa: B023
        epoch = step * -(-ROWS // BATCH)
        name = f"{'SE' if num_sets == 1 else 'ME'} {num_sets}x{dim}"
        print(f"| {name} | {1e3 * step:.0f} | {epoch:,.0f} | {cost:.2f} | {cost / epoch:.3%} |", flush=True)


if __name__ == "__main__":
    main()
