"""The rows of ``results.csv``, in the form in which FuxiCTR's run_expid.py writes them."""

import re
from dataclasses import dataclass

from fuxictr.utils import print_to_list

ROW = re.compile(
    r"(?:seed=(?P<seed>\d+),)? ?(?P<stamp>\d{8}-\d{6}),\[command\] (?P<command>.*?),\[exp_id\] (?P<expid>[^,]+),"
    r"\[dataset_id\] (?P<dataset_id>[^,]+),\[train\] .*?,\[val\] (?P<valid>.*?),\[test\] (?P<test>.*)"
)
METRIC = re.compile(r"([^\s:]+): (-?\d+\.\d+|nan)")


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        expid, dataset_id, command (str)
        stamp (str): when it ended, as ``20260930-101500``.
        valid, test (dict): metric -> value.
        seed (int or None): None where the row does not name it.
    """

    expid: str
    dataset_id: str
    command: str
    stamp: str
    valid: dict
    test: dict
    seed: int | None = None

    def __str__(self):
        """FuxiCTR's line, which begins with a space."""
        return (
            f" {self.stamp},[command] {self.command},[exp_id] {self.expid},"
            f"[dataset_id] {self.dataset_id},[train] N.A.,[val] {print_to_list(self.valid)},"
            f"[test] {print_to_list(self.test)}"
        )


def lines(rows):
    """The text of ``results.csv``; as in BARS' entries, each line begins with its seed where there are several."""
    return "".join(f"seed={row.seed},{row}\n" if len(rows) > 1 else f"{row}\n" for row in rows)


def parse_row(line):
    """The ``Row`` of a line, with or without the seed; None where it is no result row."""
    found = ROW.fullmatch(line.rstrip())
    if not found:
        return None
    values = found.groupdict()
    values |= {split: parse_metrics(values[split]) for split in ("valid", "test")}
    values["seed"] = int(values["seed"]) if values["seed"] else None
    return Row(**values) if values["test"] else None


def parse_metrics(text):
    """``"AUC: 0.81 - logloss: 0.43"`` -> metric -> value."""
    return {name: float(value) for name, value in METRIC.findall(text)}
