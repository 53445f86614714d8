"""Damageable H5 data sets and ways to damage them."""

import contextlib
import json
import os
import shutil
import signal

import h5py
import numpy as np
import torch

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader, feature_maps
from fuxictr_me.data.building.convert_ids import write_set
from fuxictr_me.errors import RunError
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.h5_sets import random_columns

FEATURES = {
    "tiny": categorical(200),
    "small": categorical(3000),
    "large": categorical(200_000),
    "clicks": sequence(3000, 4),
    "price": {"source": "", "type": "numeric"},
}
ROWS = {"train": 2500, "valid": 2500, "test": 300}
WAYS = [{"data_placement": "memory"}, {"data_placement": "stream", "window_rows": 700}, {"data_placement": "stream"}]


def write_damageable_set(folder, seed=0, block_rows=0):
    """Write a set of three splits with the feature map, vocabularies and manifest of a build."""
    feature_map = make_feature_map(FEATURES)
    content = {
        "dataset_id": folder.name,
        "num_fields": len(FEATURES),
        "total_features": 206_200,
        "input_length": 8,
        "labels": ["label"],
        "features": [{name: dict(spec)} for name, spec in FEATURES.items()],
    }
    vocabulary = folder.parent / "feature_vocab.json"
    vocabulary.write_text(json.dumps({"tiny": {str(i): i for i in range(200)}}))
    columns = {split: random_columns(feature_map, rows, seed + i) for i, (split, rows) in enumerate(ROWS.items())}
    made_from = {"converted": {"from": "x"}}
    write_set(folder, content, ROWS, lambda split: [columns[split]], made_from, [vocabulary], block_rows)
    return columns


@contextlib.contextmanager
def time_limit(seconds):
    """Fail if the body takes longer."""

    def late(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def any_file(rng, folder):
    return rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))


def rows_file(rng, folder):
    return rng.choice(sorted(folder.rglob("*.h5")))


def zero_a_block(rng, folder):
    path = any_file(rng, folder)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        at = rng.randrange(size) // 512 * 512
        file.seek(at)
        file.write(bytes(min(4096, size - at)))


def truncate(rng, folder):
    path = any_file(rng, folder)
    os.truncate(path, rng.randrange(path.stat().st_size))


def change_an_attribute(rng, folder):
    with h5py.File(rows_file(rng, folder), "r+") as file:
        name = rng.choice(["fuxictr_me", "layout", "rows"])
        value = rng.choice([0, 1, 99, -1, 2**40, "", "{", "[]", '{"tiny": ["int16", 0]}', [1, 2], 0.5])
        if rng.random() < 0.3:
            del file.attrs[name]
        else:
            file.attrs[name] = value


def delete_or_change_a_dataset(rng, folder):
    with h5py.File(rows_file(rng, folder), "r+") as file:
        name = rng.choice(list(file))
        how, values = rng.randrange(5), file[name][:]
        if how == 0:
            values[rng.randrange(len(values)), 0] += 1
            file[name][...] = values
            return
        del file[name]
        if how == 1:
            file[name] = values[: len(values) // 2]
        elif how == 2:
            file[name] = values.astype(np.float64)
        elif how == 3:
            file[name] = h5py.SoftLink("/label")


def swap_files(rng, folder):
    a, b = rng.sample(sorted(folder.rglob("*.h5")), 2)
    between = folder / "between"
    a.rename(between)
    b.rename(a)
    between.rename(b)


def delete_a_file(rng, folder):
    any_file(rng, folder).unlink()


def batches(folder, way, in_blocks=False):
    """Return all rows of all splits as a loader yields them, in the order of the files."""
    feature_map = feature_maps.load(folder)
    fed = {}
    for split in ROWS:
        path = folder / (split if in_blocks else f"{split}.h5")
        parts = list(H5DataLoader(feature_map, path, split=split, batch_size=997, **way))
        fed[split] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return fed


def are_equal(a, b):
    return all(list(a[s]) == list(b[s]) and all(torch.equal(a[s][n], b[s][n]) for n in b[s]) for s in b)


def read_or_explain(folder, way, right, in_blocks=False):
    """Return ``right`` for the correct batches, or the one-line error; fail for anything else."""
    try:
        with time_limit(20):
            fed = batches(folder, way, in_blocks)
    except (UsageError, RunError) as error:
        assert "\n" not in str(error) and str(folder) in str(error), str(error)
        return str(error)
    assert are_equal(fed, right)
    return "right"


def copy_and_damage(folder, work, rng, damage):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder, work)
    damage(rng, work)
