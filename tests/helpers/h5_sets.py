"""Small H5 data sets with random columns of every kind."""

import h5py
import numpy as np
import torch

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_writer import H5Writer
from helpers.feature_maps import categorical, sequence

SPLITS = ("train", "valid", "test")
FEATURES = {
    "tiny": categorical(40),
    "small": categorical(3000),
    "large": categorical(200_000),
    "clicks": sequence(3000, 4),
    "price": {"source": "", "type": "numeric"},
    "group": {"type": "meta"},
}


def random_columns(feature_map, rows, seed=0):
    random, columns = np.random.default_rng(seed), {}
    for name, spec in feature_map.features.items():
        shape = (rows, spec["max_len"]) if spec["type"] == "sequence" else rows
        if spec["type"] == "numeric":
            columns[name] = random.normal(size=rows)
        else:
            columns[name] = random.integers(0, spec.get("vocab_size", 2**40), shape)
    columns["label"] = random.integers(0, 2, rows)
    return columns


def write_split(feature_map, path, rows, seed=0):
    layout, columns = Layout.from_feature_map(feature_map), random_columns(feature_map, rows, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = H5Writer(path, layout, rows)
    for start in range(0, rows, 70):
        part = {name: values[start : start + 70] for name, values in columns.items()}
        writer.write(layout.gather(part, len(part["label"])))
    writer.close()
    return columns


def rewrite_as_format_1_file(path):
    """Turn a file into one of format 1, without checksums; HDF5 drops the bytes after its own end."""
    with h5py.File(path, "r+") as file:
        file.attrs.modify("fuxictr_me", 1)


def read_epoch(loader):
    """Return the rows of all batches of an epoch, one batch after another, and check the sizes of the batches."""
    batches = list(loader)
    label = loader.rows.feature_map.labels[0]
    assert [len(batch[label]) for batch in batches[:-1]] == [loader.batch_size] * (len(batches) - 1)
    assert len(batches) == len(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
