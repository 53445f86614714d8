"""From csv to ids, 39 fields: rows per second and peak memory of our H5 build and of FuxiCTR's build_dataset.

    python benchmarks/build.py [--rows 1000000] [--growth 1 2 4]

Generated rows (``fuxictr-me data generate``) are written as csv with text ids; 90 % are the training split. Each build
is a process of its own. Ours is measured at several sizes, to see whether its memory grows with them.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

from measure import now, run_alone


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="FuxiCTR is measured at these (default: 1000000)")
    parser.add_argument("--growth", type=int, nargs="+", default=[1, 2, 4], help="times --rows (default: 1 2 4)")
    parser.add_argument("--one", nargs=2, metavar=("BUILDER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(*arguments.one)))
        return
    print("| rows | builder | seconds | rows/s | peak memory, MB |\n|---|---|---|---|---|")
    for times in arguments.growth:
        with tempfile.TemporaryDirectory() as folder:
            rows = times * arguments.rows
            write_csv(Path(folder), rows)
            for builder in ("fuxictr_me, H5", "FuxiCTR, parquet") if times == 1 else ("fuxictr_me, H5",):
                r = run_alone(__file__, "--one", builder, folder)
                print(
                    f"| {rows:,} | {builder} | {r['seconds']:.1f} | {rows / r['seconds']:,.0f} | {r['peak_mb']:,.0f} |"
                )


def write_csv(folder, rows):
    """train.csv, valid.csv and test.csv, as Criteo's are: ids as text."""
    import pandas as pd

    from fuxictr_me.data.synthetic_clicks import SyntheticClicks

    clicks = SyntheticClicks()
    for part, (split, share) in enumerate((("train", 0.9), ("valid", 0.05), ("test", 0.05))):
        for first, chunk in enumerate(clicks.chunks(int(rows * share), part=part)):
            frame = pd.DataFrame(chunk)
            for name in clicks.field_names:
                frame[name] = frame[name].map("{:08x}".format)
            frame.to_csv(folder / f"{split}.csv", mode="a", header=first == 0, index=False)


def one(builder, folder):
    """One build."""
    logging.disable(logging.WARNING)
    from fuxictr_me.data import build_h5
    from fuxictr_me.data.synthetic_clicks import SyntheticClicks

    column = {"name": SyntheticClicks().field_names, "active": True, "dtype": "str", "type": "categorical"}
    params = {"dataset_id": "made", "data_root": f"{folder}/{builder[:3]}", "min_categr_count": 2}
    params |= {"feature_cols": [column], "label_col": {"name": "label", "dtype": "float"}}
    params |= {f"{split}_data": f"{folder}/{split}.csv" for split in ("train", "valid", "test")}
    if builder.startswith("FuxiCTR"):
        from fuxictr.preprocess import FeatureProcessor, build_dataset

        start = now()
        build_dataset(FeatureProcessor(**params), **params, data_format="csv")
    else:
        start = now()
        build_h5({**params, "data_format": "h5"}, progress=False)
    return {"seconds": now() - start}


if __name__ == "__main__":
    main()
