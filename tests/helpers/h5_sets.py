"""Small H5 sets of random columns of every kind."""

import h5py
import numpy as np
import pytest
import torch

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_file import H5Writer
from helpers.feature_maps import categorical, make_feature_map, sequence

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
    layout, columns = Layout.of(feature_map), random_columns(feature_map, rows, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = H5Writer(path, layout, rows)
    for start in range(0, rows, 70):
        part = {name: values[start : start + 70] for name, values in columns.items()}
        writer.write(layout.gather(part, len(part["label"])))
    writer.close()
    return columns


def as_format_1(path):
    """Turn a file into one of the versions that kept no checksums in it: HDF5 drops what follows its own end."""
    with h5py.File(path, "r+") as file:
        file.attrs.modify("fuxictr_me", 1)


@pytest.fixture
def feature_map():
    return make_feature_map(FEATURES)


@pytest.fixture
def columns(feature_map, tmp_path):
    return write_split(feature_map, tmp_path / "train.h5", 1000)


def whole(loader):
    """All batches of an epoch, one after the other."""
    batches = list(loader)
    label = loader.rows.feature_map.labels[0]
    assert [len(batch[label]) for batch in batches[:-1]] == [loader.batch_size] * (len(batches) - 1)
    assert len(batches) == len(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
