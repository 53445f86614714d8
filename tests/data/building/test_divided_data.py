"""``valid_size``, ``test_size`` and ``split_type``: a data set whose splits are parts of the rows of ``train_data``."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from helpers.command_line import fails

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.config import check_dataset
from fuxictr_me.data import H5DataLoader, InMemoryLoader, build_dataset, build_h5, feature_maps
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.data.raw.divide_rows import assign_at_random, keep_rows
from fuxictr_me.serving.check_vocabulary import read_raw_rows
from fuxictr_me.serving.data_origin import DataOrigin
from fuxictr_me.study.plan_file import read_plan
from fuxictr_me.study.study_data import prepare_data
from fuxictr_me.study.study_file import read_study
from fuxictr_me.study.study_layout import lay_out_study

ROWS = 250
COLUMNS = [  # no ``active``: True is the default
    {"name": ["user", "item"], "dtype": "str", "type": "categorical"},
    {"name": "price", "dtype": "float", "type": "numeric"},
]
LABEL = {"name": "click", "dtype": "float"}


@pytest.fixture(scope="module")
def clicks():
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in random.integers(0, 40, ROWS)],
            "item": [f"i{i}" for i in random.integers(0, 25, ROWS)],
            "price": np.arange(ROWS) + 0.5,  # tells the rows apart
            "ts": pd.Timestamp("2024-05-01") + pd.to_timedelta(random.permutation(ROWS) // 2, unit="h"),  # ties of two
            "click": random.integers(0, 2, ROWS),
        }
    )


def settings_of(folder, **changes):
    return {
        "dataset_id": "made",
        "data_root": str(folder / "data"),
        "data_format": "h5",
        "train_data": str(folder / "clicks.csv"),
        "feature_cols": COLUMNS,
        "label_col": LABEL,
        "min_categr_count": 2,
        **changes,
    }


def rows_of(params, paths):
    """Return split -> its built rows, and the vocabularies."""
    folder = Path(params["data_root"]) / params["dataset_id"]
    feature_map = feature_maps.load(folder)
    loader = H5DataLoader if params["data_format"] == "h5" else InMemoryLoader
    splits = {key: path for key, path in paths.items() if path}
    rows = {
        key: next(iter(loader(feature_map, path, key.removesuffix("_data"), batch_size=ROWS)))
        for key, path in splits.items()
    }
    return {key: {name: v.tolist() for name, v in batch.items()} for key, batch in rows.items()}, json.loads(
        (folder / "feature_vocab.json").read_text()
    )


def plain_parts(clicks, kind):
    """Cut 20 % and 30 rows off, as one would with pandas."""
    if kind == "sequential":
        return clicks[:170], clicks[170:220], clicks[220:]
    if kind == "random":
        drawn = np.random.default_rng(7).permutation(ROWS)
        return tuple(clicks.iloc[np.sort(part)] for part in np.split(drawn, [170, 220]))
    first, second = np.sort(clicks["ts"])[[170, 220]]
    return (
        clicks[clicks["ts"] < first],
        clicks[(clicks["ts"] >= first) & (clicks["ts"] < second)],
        clicks[clicks["ts"] >= second],
    )


@pytest.mark.parametrize("form", ["h5", "csv", "parquet"])
@pytest.mark.parametrize("kind", ["sequential", "random", "time"])
def test_a_divided_file_gives_the_ids_of_three_files_cut_by_hand(tmp_path, clicks, form, kind):
    ending = "parquet" if form == "parquet" else "csv"
    for number, part in enumerate(np.array_split(np.arange(ROWS), 2)):  # files of a folder are one file after another
        path = tmp_path / "whole" / f"{number}.{ending}"
        path.parent.mkdir(exist_ok=True)
        write = clicks.iloc[part].to_parquet if ending == "parquet" else clicks.iloc[part].to_csv
        write(path, index=False)
        if ending == "csv":
            path.write_text(path.read_text() + "\n\n")  # blank lines at the end are not rows
    by = {"random": {"split_seed": 7}, "time": {"split_by": "ts"}}.get(kind, {})
    params = settings_of(
        tmp_path,
        data_format=form,
        train_data=str(tmp_path / "whole"),
        **{"valid_size": 0.2, "test_size": 30, "split_type": kind, **by},
    )
    check_dataset(dict(params))
    build = build_h5 if form == "h5" else build_dataset
    built = rows_of(params, build(params))
    hand = settings_of(tmp_path, data_format=form, data_root=str(tmp_path / "by_hand"))
    for split, part in zip(("train", "valid", "test"), plain_parts(clicks, kind), strict=True):
        hand[f"{split}_data"] = str(tmp_path / f"{split}.{ending}")
        (part.to_parquet if ending == "parquet" else part.to_csv)(hand[f"{split}_data"], index=False)
    assert built == rows_of(hand, build(hand))
    manifest = read_manifest(tmp_path / "data/made")
    recorded = manifest["made_from"]["settings"]
    assert recorded["valid_size"] == 0.2 and recorded.get("split_seed") == by.get("split_seed")
    if form == "h5":
        counts = [len(part) for part in plain_parts(clicks, kind)]
        assert [manifest["splits"][s]["rows"] for s in ("train", "valid", "test")] == counts


def test_the_seed_is_recorded_and_another_one_or_another_size_builds_again(tmp_path, clicks):
    clicks.to_csv(tmp_path / "clicks.csv", index=False)
    params = settings_of(tmp_path, valid_size=0.1, split_type="random")
    first, _ = rows_of(params, build_h5(params))
    assert (
        "test_data" not in first
        and read_manifest(tmp_path / "data/made")["made_from"]["settings"]["split_seed"] == 2024
    )
    built = (tmp_path / "data/made/train.h5").stat().st_mtime_ns
    again, _ = rows_of(params, build_h5({**params, "seed": 1}))  # the run's seed does not change the data
    assert again == first and (tmp_path / "data/made/train.h5").stat().st_mtime_ns == built
    for change in ({"split_seed": 3}, {"valid_size": 0.2}, {"test_size": 20}):
        other, _ = rows_of(params, build_h5({**params, **change}))
        assert other["train_data"]["price"] != first["train_data"]["price"], change


def test_kept_rows_keep_their_order_over_many_chunks():
    chosen = assign_at_random([400_000, 100_000, 0], seed=1) == 1
    rows = pl.DataFrame({"row": np.arange(500_000)}).lazy().with_columns(twice=pl.col("row") * 2)
    kept = keep_rows(rows, chosen).collect(engine="streaming")
    assert np.array_equal(kept["row"].to_numpy(), np.flatnonzero(chosen)) and kept.columns == ["row", "twice"]
    assert keep_rows(rows, np.arange(500_000) >= 499_998).collect()["row"].to_list() == [499_998, 499_999]


@pytest.mark.parametrize("kind", ["sequential", "random", "time"])
def test_the_raw_rows_of_a_built_split_are_found_again(tmp_path, clicks, kind):
    clicks[:90].to_csv(tmp_path / "clicks.csv", index=False)
    clicks[90:].to_csv(tmp_path / "more.csv", index=False)
    files = {"train": [tmp_path / "clicks.csv", tmp_path / "more.csv"]}
    settings = settings_of(tmp_path, valid_size=50, test_size=30, split_type=kind, split_seed=7, split_by="ts")
    origin = DataOrigin("made", tmp_path / "data/made", settings, files, True)
    train = plain_parts(clicks, kind)[0]
    assert [row["user"] for row in read_raw_rows(origin, "train")] == train["user"].to_list()
    assert origin.preprocess("train").collect()["price"].to_list() == train["price"].to_list()


def test_a_run_and_a_study_train_on_a_divided_file(own_folder, clicks, capsys):
    clicks.to_csv("clicks.csv", index=False)
    Path("config").mkdir()
    dataset = {key: value for key, value in settings_of(Path()).items() if key != "dataset_id"}
    dataset |= {"valid_size": 0.2, "test_size": 0.2}
    model = {"model": "DNN_ME", "dataset_id": "made", "num_sets": 2, "embedding_dim": 2, "epochs": 1, "batch_size": 64}
    model |= {"hidden_units": [4], "metrics": ["AUC"], "monitor": "AUC", "learning_rate": 0.01, "seed": 1}
    model |= {"model_root": "checkpoints", "loss": "binary_crossentropy", "task": "binary_classification"}
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump({"made": dataset}))
    Path("config/model_config.yaml").write_text(yaml.safe_dump({"a": model}))
    assert main(["run_expid", "--config", "config", "--expid", "a"]) == 0
    result = json.loads(Path("checkpoints/made/a.json").read_text())
    assert result["test"]["AUC"] and result["steps"] == 3  # 150 rows
    assert main(["data", "info", "data/made"]) == 0
    assert "sequential: valid_size 0.2, test_size 0.2" in capsys.readouterr().out
    Path("study.yaml").write_text(
        yaml.safe_dump({"config": "config", "dataset_id": "made", "models": ["DNN_ME"], "scales": [1], "seeds": 1})
    )
    Path("data/made").rename("data/elsewhere")  # so that the study has to build it
    plan = prepare_data(lay_out_study(read_study("study.yaml"), Path("s1")), Path("s1"))
    assert plan.data["rows"] == {"train": 150, "valid": 50, "test": 50}
    assert read_plan(Path("s1")).dataset["test_size"] == 0.2
    Path("data/elsewhere").rename("data/made")
    assert main(["study", "run", "study.yaml", "--out", "s2", "--dry-run"]) == 0
    capsys.readouterr()
    dataset["valid_size"] = 0.9
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump({"made": dataset}))
    assert "leave no rows for training" in fails(capsys, "run_expid", "--config", "config", "--expid", "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"valid_size": 0.1, "test_data": "clicks.csv"},
            "valid_size of data set 'made' takes rows of train_data, but test",
        ),
        ({"test_size": 0.1, "valid_data": "clicks.csv"}, "takes rows of train_data, but valid_data is given too"),
        ({"test_size": 0.1}, "test_size of data set 'made' is set, but neither valid_size nor valid_data"),
        ({"valid_size": 0.5, "test_size": 0.5}, "leave no rows for training: 0.5 + 0.5"),
        ({"valid_size": 1.5}, "valid_size must be a share of the rows below 1, or a whole number of rows, got 1.5"),
        ({"valid_size": 5, "split_type": "time"}, "needs split_by, the column of times"),
        ({"valid_size": 5, "split_by": "ts"}, "split_by of data set 'made' is read only with split_type: time"),
        ({"valid_data": "clicks.csv", "split_by": "ts"}, "split_by of data set 'made' is not read: set valid_size"),
        ({"valid_size": 5, "rebuild_dataset": False}, "valid_size of data set 'made' divides raw rows, but"),
        ({"valid_size": 200, "test_size": 50}, "take 200 + 50 of 250 rows: none is left to train"),
        ({"valid_size": 0.001}, "valid_size: 0.001 of 250 rows is less than one row"),
        ({"valid_size": 5, "split_type": "time", "split_by": "tss"}, "unknown column (of split_by, in "),
        ({"valid_size": 5, "split_type": "time", "split_by": "item"}, "split_by item: its values are no times"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(own_folder, clicks, change, message):
    clicks.to_csv("clicks.csv", index=False)
    params = settings_of(Path(), **change)
    with pytest.raises(UsageError) as error:
        check_dataset(params)
        build_h5(params)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not [path for path in Path("data").rglob("*") if path.suffix in (".h5", ".json")]
