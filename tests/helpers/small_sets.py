"""A data set of three columns that builds fast."""

import numpy as np
import pandas as pd

from fuxictr_me.data import build_dataset, build_h5

SPLITS = ("train", "valid", "test")
COLUMNS = [
    {"name": "item", "active": True, "dtype": "str", "type": "categorical"},
    {"name": "price", "active": True, "dtype": "float", "type": "numeric"},
]


def write_small(folder, rows=40, **more):
    """Write raw csv files into ``folder/raw``; return the settings of a data set ``made`` in ``folder/data``."""
    random = np.random.default_rng(0)
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        frame = {"item": random.choice(["a", "b", "c"], rows), "price": random.random(rows).round(3)}
        pd.DataFrame({**frame, "label": random.integers(0, 2, rows)}).to_csv(folder / f"raw/{split}.csv", index=False)
    paths = {f"{split}_data": str(folder / f"raw/{split}.csv") for split in SPLITS}
    settings = {"dataset_id": "made", "data_root": str(folder / "data"), "data_format": "csv", "feature_cols": COLUMNS}
    return {**settings, "label_col": {"name": "label", "dtype": "float"}, **paths, **more}


def build(params):
    return build_h5(params, progress=False) if params["data_format"] == "h5" else build_dataset(params)


def ids_of(params):
    """Build as parquet and return split -> {column: ids}."""
    built = build({**params, "data_format": "csv"})
    return {split: pd.read_parquet(built[f"{split}_data"]).to_dict("list") for split in SPLITS}
