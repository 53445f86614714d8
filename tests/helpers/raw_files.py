"""Small raw csv files of every column type."""

import numpy as np
import pandas as pd

COLUMNS = [
    {"name": ["user", "item"], "active": True, "dtype": "str", "type": "categorical"},
    {"name": "age", "active": True, "dtype": "int", "type": "categorical", "min_categr_count": 3},
    {"name": "price", "active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"},
    {"name": "clicks", "active": True, "dtype": "str", "type": "sequence", "splitter": "^", "max_len": 4},
    {"name": "last", "active": True, "dtype": "str", "type": "categorical", "share_embedding": "item"},
    {"name": "unused", "active": False, "dtype": "str", "type": "categorical"},
]


def write_raw(folder, rows=300):
    random = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        items = [f"i{i}" for i in random.integers(0, 15, rows)]
        frame = pd.DataFrame(
            {
                "user": [f"u{i}" for i in random.integers(0, 40, rows)],
                "item": items,
                "age": random.integers(10, 90, rows),
                "price": random.normal(size=rows).round(3),
                "clicks": ["^".join(items[i : i + random.integers(1, 6)]) for i in range(rows)],
                "last": [f"i{i}" for i in random.integers(0, 20, rows)],
                "unused": "x",
                "label": random.integers(0, 2, rows),
            }
        )
        frame.loc[::17, "user"] = None
        frame.to_csv(folder / f"{split}.csv", index=False)
    paths = {f"{split}_data": str(folder / f"{split}.csv") for split in ("train", "valid", "test")}
    return {
        "dataset_id": "made",
        "data_format": "csv",
        "feature_cols": COLUMNS,
        "label_col": {"name": "label", "dtype": "float"},
        "data_root": str(folder / "ours"),
        **paths,
    }
