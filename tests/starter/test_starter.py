"""``fuxictr-me init``: what it guesses, how it divides rows, what it refuses, and that what it writes runs."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from fuxictr_me.commands.main import main
from fuxictr_me.config import check_dataset
from fuxictr_me.config.lookup import find_dataset
from fuxictr_me.data.raw.parse_times import read_times
from fuxictr_me.errors import UsageError
from fuxictr_me.starter import write_starter
from fuxictr_me.starter.click_file import open_click_file
from fuxictr_me.starter.guess_columns import guess_columns
from fuxictr_me.study.study_file import read_study

ROWS = 600
FIRST_USER = 2**53 + 1


@pytest.fixture
def shop(own_folder):
    """A log in the style of a shop: ids above 2^53, unicode, lists, gaps, ISO times, few clicks."""
    random = np.random.default_rng(3)
    user, item = random.integers(0, 30, ROWS), random.integers(0, 20, ROWS)
    names = [f"товар-{i}é" for i in range(20)]
    seconds = np.sort(random.integers(0, 10 * 86400, ROWS))
    return pl.DataFrame(
        {
            "request": [f"r{row}" for row in range(ROWS)],
            "ts": [
                f"2024-05-{1 + s // 86400:02d}T{s // 3600 % 24:02d}:{s // 60 % 60:02d}:{s % 60:02d}Z" for s in seconds
            ],
            "user_id": FIRST_USER + user,
            "item": [names[i] for i in item],
            "price": [None if row % 9 == 0 else 0.5 + row for row in range(ROWS)],
            "device": [None if row % 7 == 0 else ("ios", "android")[row % 2] for row in range(ROWS)],
            "history": ["|".join(names[i] for i in random.integers(0, 20, 1 + row % 5)) for row in range(ROWS)],
            "type": ["ab"[row % 2] for row in range(ROWS)],
            "country": ["DE"] * ROWS,
            "comment": [f"a very good thing {'really ' * 8}number {row % 50}" for row in range(ROWS)],
            "click": [int(u == i or row % 11 == 0) for row, (u, i) in enumerate(zip(user, item, strict=True))],
        }
    )


def guesses_of(path, time="ts"):
    return {guess.name: guess for guess in guess_columns(open_click_file(path), "click", time)}


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_columns_are_guessed_alike_in_every_format(shop, ending):
    if ending == "parquet":
        shop.with_columns(
            pl.col("history").str.split("|"), pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
        ).write_parquet("c.parquet")
    else:
        text = shop.write_csv(separator="\t" if ending == "tsv" else ",")
        opened = gzip.open if ending.endswith("gz") else open
        with opened(f"c.{ending}", "wt") as file:
            file.write(text)
    guesses = guesses_of(f"c.{ending}")
    kinds = {name: guess.kind for name, guess in guesses.items()}
    assert kinds == {
        **dict.fromkeys(("request", "country", "comment"), "left out"),
        **dict.fromkeys(("user_id", "item", "device", "type"), "categorical"),
        **{"price": "numeric", "history": "sequence"},
    }
    assert "every row" in guesses["request"].reason and "same value" in guesses["country"].reason
    assert "long text" in guesses["comment"].reason
    assert guesses["history"].settings["share_embedding"] == "item" and guesses["history"].settings["max_len"] == 5
    assert guesses["device"].settings["preprocess"] == "missing_as_value"
    assert guesses["price"].settings["fill_na"] == shop["price"].median()
    assert guesses["price"].missing == pytest.approx(shop["price"].null_count() / ROWS)


def test_the_folder_trains_and_ids_above_2_to_the_53_stay_apart(shop, capsys):
    shop.write_csv("clicks.csv")
    assert main(["init", "clicks.csv", "--label", "click", "--time", "ts", "--out", "mine"]) == 0
    out = capsys.readouterr().out
    assert (
        "600 rows, 11 columns, separated by ','" in out
        and "request" in out
        and "fuxictr-me study mine/study.yaml" in out
    )
    config = Path("mine/model_config.yaml")
    assert "epochs: 20" in config.read_text()
    config.write_text(config.read_text().replace("epochs: 20", "epochs: 1"))
    assert main(["run_expid", "--config", "mine", "--expid", "ME_4x"]) == 0
    vocabulary = json.loads(Path("data/clicks/feature_vocab.json").read_text())
    train = pl.read_parquet("mine/splits/train.parquet")
    counts = train["user_id"].cast(pl.Int64).value_counts()
    frequent = {str(user) for user, count in counts.iter_rows() if count >= 2}
    assert frequent == set(vocabulary["user_id"]) - {"__PAD__", "__OOV__"} and len(frequent) > 20
    study = Path("mine/study.yaml")
    assert len(read_study("mine/study.yaml").seeds) == 5
    study.write_text(re.sub("^(seeds: 5|grid: ).*$", "", study.read_text(), flags=re.MULTILINE) + "seeds: 1\n")
    assert main(["study", "mine/study.yaml", "--dry-run"]) == 0


def test_a_split_by_time_keeps_the_future_out_of_training(shop):
    shop.sample(fraction=1.0, shuffle=True, seed=1).write_csv("clicks.csv")
    write_starter("clicks.csv", "click", "ts", "mine", 1)
    parts = [pl.read_parquet(f"mine/splits/{name}.parquet") for name in ("train", "valid", "test")]
    assert sum(map(len, parts)) == ROWS and 0.75 * ROWS < len(parts[0]) < 0.85 * ROWS
    assert parts[0]["ts"].max() < parts[1]["ts"].min() and parts[1]["ts"].max() < parts[2]["ts"].min()


def test_a_random_split_is_the_same_for_the_same_seed_and_loses_no_row(shop):
    shop.write_csv("clicks.csv")
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_starter("clicks.csv", "click", None, folder, seed)
    rows = {folder: pl.read_parquet(f"{folder}/splits/valid.parquet")["request"].to_list() for folder in "abc"}
    assert rows["a"] == rows["b"] != rows["c"] and len(rows["a"]) == ROWS // 10
    together = [
        r for name in ("train", "valid", "test") for r in pl.read_parquet(f"a/splits/{name}.parquet")["request"]
    ]
    assert sorted(together) == sorted(shop["request"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            ["2024-05-01", "2024-05-02T10:30", "2024-05-02 10:30:07.25"],
            ["2024-05-01 00:00:00", "2024-05-02 10:30:00", "2024-05-02 10:30:07.25"],
        ),
        (["2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00-0130"], ["2024-05-01 08:00:00", "2024-05-01 11:30:00"]),
        ([1714557600, 1714557601], ["2024-05-01 10:00:00", "2024-05-01 10:00:01"]),
        ([1714557600123], ["2024-05-01 10:00:00.123"]),
        ([1714557600.5], ["2024-05-01 10:00:00.5"]),
    ],
)
def test_times_of_every_form_are_read(own_folder, values, expected):
    for path, written in (("t.csv", pl.Series(values).cast(pl.String)), ("t.parquet", pl.Series(values))):
        frame = pl.DataFrame({"ts": written, "click": [0] * len(values)})
        frame.write_csv(path) if path.endswith("csv") else frame.write_parquet(path)
        moments = read_times(open_click_file(path).rows, "ts", "--time ts").to_list()
        assert [np.datetime64(moment) for moment in moments] == [np.datetime64(text) for text in expected]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"label": "clik"}, "unknown column of --label 'clik'; did you mean 'click'?"),
        ({}, {"time": "tss"}, "unknown column of --time 'tss'; did you mean 'ts'?"),
        ({}, {"time": "click"}, "--label and --time are both 'click'"),
        ({}, {"time": "item"}, "--time item: its values are no times"),
        ({"click": pl.Series([1, 2, 3] * (ROWS // 3))}, {}, "label 'click' must be 0 or 1, found also 2, 3"),
        ({"click": pl.Series([1] * ROWS)}, {}, "label 'click' is 1 in all 600 rows"),
        ({"click": pl.Series([None, 1, 0] * (ROWS // 3))}, {}, "label 'click' is empty in 200 of 600 rows"),
        ({"click": pl.Series([1] * 9 + [0] * (ROWS - 9))}, {}, "has 0 of"),
        ({"ts": pl.Series(["2024-05-01"] * ROWS)}, {}, "too few different times"),
        ({"ts": pl.Series(["2024-05-01"] * (ROWS - 1) + ["soon"])}, {}, "1 rows hold no time, such as 'soon'"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line_and_nothing_is_written(
    shop, change, arguments, message, tmp_path
):
    shop.with_columns(**change).write_csv("clicks.csv")
    with pytest.raises(UsageError) as error:
        write_starter("clicks.csv", **{"label": "click", "time": "ts", "out": "mine", "seed": 1, **arguments})
    assert message in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.csv"]


def test_parts_of_csv_are_joined_by_name_and_blank_lines_at_their_end_are_no_rows(shop):
    Path("parts").mkdir()
    Path("parts/a.csv").write_text(shop[:200].write_csv() + "\n\n")
    shop[200:].select(reversed(shop.columns)).write_csv("parts/b.csv")
    shop.write_csv("clicks.csv")
    assert open_click_file("parts").rows.collect().equals(open_click_file("clicks.csv").rows.collect())
    shop.drop("item").write_csv("parts/c.csv")
    with pytest.raises(UsageError, match=r"parts cannot be read: .*\bitem\b"):
        open_click_file("parts").rows.collect()
    shop.rename({"item": "thing"}).write_csv("parts/c.csv")
    with pytest.raises(UsageError, match=r"parts cannot be read: .*\bitem\b"):
        open_click_file("parts")


def test_an_uneven_row_a_folder_that_exists_and_a_file_without_separator_are_refused(shop, tmp_path):
    shop.write_csv("clicks.csv")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="mine exists already"):
        write_starter("clicks.csv", "click", "ts", "mine", 1)
    with open("clicks.csv", "a") as file:
        file.write("r1,2024\n")
    with pytest.raises(UsageError, match=r"clicks\.csv.*row"):
        write_starter("clicks.csv", "click", "ts", "other", 1)
    (tmp_path / "one.csv").write_text("click\n1\n0\n")
    with pytest.raises(UsageError, match="none of the separators"):
        write_starter("one.csv", "click", None, "other", 1)


def test_the_config_is_read_back_as_it_was_guessed(shop):
    shop.rename({"device": "a.b"}).write_csv("clicks.csv")
    write_starter("clicks.csv", "click", "ts", "mine", 1)
    entry, _ = find_dataset("clicks", "mine")
    columns = {column["name"]: column for column in entry["feature_cols"]}
    assert (
        columns["type_field"]["preprocess"] == "copy_from(type)"
        and columns["a_b_field"]["preprocess"] == "copy_from(a.b)"
    )
    assert columns["history"]["splitter"] == "|" and list(columns).index("history") > list(columns).index("item")
    for name in ("model_config", "study"):
        assert yaml.safe_load(Path(f"mine/{name}.yaml").read_text())


def test_a_table_is_shared_under_the_name_that_its_field_gets(shop):
    """PyTorch cannot give the name ``items`` to a layer, and ``items_field`` is taken by another column."""
    shop.rename({"item": "items", "device": "items_field"}).write_csv("clicks.csv")
    write_starter("clicks.csv", "click", "ts", "mine", 1)
    entry, _ = find_dataset("clicks", "mine")
    columns = {column["name"]: column for column in entry["feature_cols"]}
    assert columns["items_field_field"]["preprocess"] == "copy_from(items)"
    assert columns["history"]["share_embedding"] == "items_field_field"
    check_dataset({**entry, "dataset_id": "clicks"}, Path("mine"))


def test_names_with_line_breaks_cannot_add_lines_to_the_config(shop):
    shop.rename({"country": "x\nevil: 1", "comment": "a/b"}).write_csv("clicks.csv")
    write_starter("clicks.csv", "click", "ts", "mine", 1)
    text = Path("mine/dataset_config.yaml").read_text()
    assert (
        list(yaml.safe_load(text)) == ["clicks"] and "# left out: x evil: 1 (" in text and "# left out: a/b (" in text
    )
    shop.rename({"click": "cli\nck"}).write_csv("clicks.csv")
    with pytest.raises(UsageError, match="without '/'"):
        write_starter("clicks.csv", "cli\nck", "ts", "other", 1)
