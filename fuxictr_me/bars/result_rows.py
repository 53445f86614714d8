"""The rows of ``results.csv``, as FuxiCTR's run_expid.py writes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fuxictr.utils import print_to_list

ROW = re.compile(
    r"(?:seed=(?P<seed>\d+),)? ?(?P<stamp>\d{8}-\d{6}),\[command\] (?P<command>.*?),\[exp_id\] (?P<expid>[^,]+),"
    r"\[dataset_id\] (?P<dataset_id>[^,]+),\[train\] .*?,\[val\] (?P<valid>.*?),\[test\] (?P<test>.*)"
)
METRIC = re.compile(r"([^\s:]+): (-?\d+\.\d+|nan)")


@dataclass(frozen=True)
class ResultRow:
    """One run.

    Attributes:
        expid, dataset_id, command: as in the row.
        stamp: when the run ended, e.g. ``20260930-101500``.
        valid, test: metric -> value.
        seed: None if the row does not name it.
    """

    expid: str
    dataset_id: str
    command: str
    stamp: str
    valid: dict[str, float]
    test: dict[str, float]
    seed: int | None = None

    def __str__(self) -> str:
        """FuxiCTR's line, which begins with a space."""
        return (
            f" {self.stamp},[command] {self.command},[exp_id] {self.expid},"
            f"[dataset_id] {self.dataset_id},[train] N.A.,[val] {print_to_list(self.valid)},"
            f"[test] {print_to_list(self.test)}"
        )


def write_rows(rows: Sequence[ResultRow]) -> str:
    """Return the text of ``results.csv``. As in BARS' entries, each of several lines begins with its seed."""
    return "".join(f"seed={row.seed},{row}\n" if len(rows) > 1 else f"{row}\n" for row in rows)


def parse_row(line: str) -> ResultRow | None:
    """Parse a line, with or without the seed; None if it is not a result row."""
    match = ROW.fullmatch(line.rstrip())
    if not match:
        return None
    values: dict[str, Any] = match.groupdict()
    values |= {split: parse_metrics(values[split]) for split in ("valid", "test")}
    values["seed"] = int(values["seed"]) if values["seed"] else None
    return ResultRow(**values) if values["test"] else None


def parse_metrics(text: str) -> dict[str, float]:
    """Parse ``"AUC: 0.81 - logloss: 0.43"`` to metric -> value."""
    return {name: float(value) for name, value in METRIC.findall(text)}
