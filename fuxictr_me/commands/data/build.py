"""``fuxictr-me data build``: build raw files into an H5 data set."""

import argparse
from pathlib import Path

HELP = "build csv or parquet files into H5"
DESCRIPTION = """\
Build a data set as H5, with the ids that FuxiCTR's FeatureProcessor assigns,
in bounded memory. A data set that is up to date is not built again.

Reads the entry DATASET_ID of dataset_config.yaml and the csv or parquet files
that it names. Writes <out>/<DATASET_ID>/."""
EXAMPLE = "fuxictr-me data build criteo_x4_001 --raw Downloads/Criteo_x4 --out data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data build``."""
    parser.add_argument("dataset_id", metavar="DATASET_ID", help="an entry of the config, e.g. criteo_x4_001")
    parser.add_argument(
        "--config", metavar="PATH", help="dataset_config.yaml or its folder (default: the bundled entry)"
    )
    parser.add_argument(
        "--raw", metavar="DIR", help="folder of the csv or parquet files (default: the paths of the config)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder to build in (default: data_root of the config)")


def run(arguments: argparse.Namespace) -> str:
    """Build the data set, and return its description."""
    from fuxictr_me.config import check_dataset, find_dataset
    from fuxictr_me.config.columns import check_columns, get_column_names
    from fuxictr_me.config.splits import DATA_KEYS
    from fuxictr_me.data.building.build_h5 import build_h5
    from fuxictr_me.data.describe_set import describe_set

    entry, folder = find_dataset(arguments.dataset_id, arguments.config)
    out = entry.get("data_root", "./data/") if arguments.out is None else arguments.out
    params = {**entry, "dataset_id": arguments.dataset_id, "data_root": out, "data_format": "h5"}
    columns = check_columns(entry.get("feature_cols"), entry.get("label_col"))
    if arguments.raw is not None:
        params |= {key: str(Path(arguments.raw) / Path(str(entry[key])).name) for key in DATA_KEYS if entry.get(key)}
    group = [name for column in columns if column["type"] == "meta" for name in get_column_names(column)]
    params["group_id"] = entry.get("group_id") or (group[0] if group else None)
    check_dataset(params, folder)
    build_h5(params)
    return describe_set(Path(out) / arguments.dataset_id)
