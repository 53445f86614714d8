"""From csv to ids: build_dataset here and in FuxiCTR, on the quickstart's flights, in one run.

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
import yaml
from fuxictr.preprocess import FeatureProcessor
from fuxictr.preprocess import build_dataset as fuxictr_build

from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.data import build_dataset
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.quickstart.flights import write_csv


def main():
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_csv(Path("csv"))
        params = yaml.safe_load(
            (find_bundled_folder("dataset_configs") / "nycflights13" / "dataset_config.yaml").read_text()
        )
        params = {**params["nycflights13"], "dataset_id": "nycflights13"}
        start = time.perf_counter()
        ours = build_dataset({**params, "data_root": "ours"})
        seconds = {"fuxictr_me": time.perf_counter() - start}
        theirs = {**params, "data_root": "theirs"}
        start = time.perf_counter()
        fuxictr_build(FeatureProcessor(**theirs), **theirs)
        seconds[f"FuxiCTR ({detect_flavour()})"] = time.perf_counter() - start
        for split in ("train", "valid", "test"):
            a, b = pd.read_parquet(ours[f"{split}_data"]), pd.read_parquet(f"theirs/nycflights13/{split}.parquet")
            assert a.equals(b[a.columns].astype(a.dtypes)), split
    print("| build_dataset of 327,346 flights, 17 fields | seconds |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()
