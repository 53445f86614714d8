"""Builds of small raw files."""

import json

import pytest

from fuxictr_me.data import H5DataLoader, InMemoryLoader, build_dataset, build_h5, feature_maps

USER = {"name": "user", "active": True, "dtype": "str", "type": "categorical"}
PRICE = {"name": "price", "active": True, "dtype": "float", "type": "numeric"}
LABEL = {"name": "click", "dtype": "float"}
SPLITS = ("train", "valid", "test")


def build(folder, raw, columns=(USER,), form="h5", label=LABEL, **settings):
    """Build raw rows (csv text or a frame for parquet) as all three splits; return the ids of test, field -> list."""
    kind = "csv" if isinstance(raw, str | bytes) else "parquet"
    if kind == "csv":
        (folder / "raw.csv").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    else:
        raw.write_parquet(folder / "raw.parquet")
    params = {"dataset_id": f"made_{form}", "data_root": str(folder), "task": "binary_classification"}
    params |= {"feature_cols": list(columns), "label_col": label, "min_categr_count": 1, **settings}
    params |= {f"{split}_data": params.get(f"{split}_data", str(folder / f"raw.{kind}")) for split in SPLITS}
    ids = (build_h5 if form == "h5" else build_dataset)({**params, "data_format": "h5" if form == "h5" else kind})
    feature_map = feature_maps.load(folder / params["dataset_id"])
    loader = H5DataLoader if form == "h5" else InMemoryLoader
    batch = next(iter(loader(feature_map, ids["test_data"], "test", batch_size=10**6, task=None)))
    return {name: values.tolist() for name, values in batch.items()}


def vocabulary(folder, form="h5"):
    return json.loads((folder / f"made_{form}" / "feature_vocab.json").read_text())


def tokens(folder, ids, field, form="h5"):
    """Return the tokens for which the ids of a field stand."""
    names = {identity: token for token, identity in vocabulary(folder, form)[field].items()}
    return [[names[i] for i in row] if isinstance(row, list) else names[row] for row in ids[field]]


FORMS = pytest.mark.parametrize("form", ["h5", "ids"])
