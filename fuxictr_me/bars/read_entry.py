"""Read the files of an entry."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from fuxictr_me.bars.environment import parse_environment
from fuxictr_me.bars.result_rows import ResultRow, parse_metrics, parse_row
from fuxictr_me.bars.tuner_names import HASHED
from fuxictr_me.config import read_entries
from fuxictr_me.errors import UsageError

CONFIG_FOLDER = r"[^/]*tuner_config[^/]*/(?:[^/]+/)*"  # some published entries have the folder twice
METRICS = r"(?<!\])\[Metrics\] (.+)"  # of all tasks together; multi-task models also log [Task: label][Metrics]
MAX_BYTES = 200_000_000
FILES = {
    "README.md": r"README\.md",
    "environments.txt": r"environments\.txt",
    "results.csv": r"results\.csv",
    "<expid>.log": r"[^/]+_\d{3,}_[0-9a-f]{8}\.log",
    "model_config.yaml": rf"{CONFIG_FOLDER}model_config\.yaml",
    "dataset_config.yaml": rf"{CONFIG_FOLDER}dataset_config\.yaml",
    "run_expid.py or the tuner's yaml": r"run_expid\.py|[^/]*tuner_config[^/]*\.yaml",
}


class Entry:
    """An entry that has all ``FILES``.

    Attributes:
        folder: folder of the entry.
        names: paths of its files, relative to ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, list_files(folder)

    def text(self, name: str) -> str:
        """Return the text of a file.

        Raises:
            UsageError: it is larger than ``MAX_BYTES``.
        """
        path = self.folder / name
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UsageError(f"{path} has {size:,} bytes; texts of an entry may have {MAX_BYTES:,} at most")
        return path.read_text(errors="replace")

    def find_name(self, kind: str) -> str:
        """Return the first file of a kind, which is a key of ``FILES``."""
        return next(name for name in self.names if re.fullmatch(FILES[kind], name))

    @cached_property
    def environment(self) -> dict[str, str]:
        """Key -> text of ``environments.txt``."""
        return parse_environment(self.text("environments.txt"))

    @property
    def is_from_fuxictr_me(self) -> bool:
        """Whether fuxictr-me made the runs."""
        return "fuxictr-me" in self.environment

    @property
    def is_from_fuxictr_1(self) -> bool:
        """Whether FuxiCTR 1 made the runs."""
        return self.environment.get("fuxictr", "").startswith("1.")

    @cached_property
    def lines(self) -> list[ResultRow | None]:
        """Lines of ``results.csv``, parsed; None for lines that are not result rows."""
        return [parse_row(line) for line in self.text("results.csv").splitlines()]

    @property
    def rows(self) -> list[ResultRow]:
        """Result rows of ``results.csv``."""
        return [row for row in self.lines if row]

    @cached_property
    def log(self) -> "Log":
        """The log file."""
        name = self.find_name("<expid>.log")
        return Log(Path(name).stem, self.text(name))

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """Expid -> settings, of ``model_config.yaml``.

        Raises:
            UsageError: invalid YAML.
        """
        return read_entries((self.folder / self.find_name("model_config.yaml")).parent, "model_config")

    @cached_property
    def datasets(self) -> dict[str, dict[str, Any]]:
        """dataset_id -> settings, of ``dataset_config.yaml``.

        Raises:
            UsageError: invalid YAML.
        """
        return read_entries((self.folder / self.find_name("dataset_config.yaml")).parent, "dataset_config")

    def is_same_run(self, one: str, other: str) -> bool:
        """Whether two expids name one run. Those of FuxiCTR 1 were renumbered and only kept their hash."""
        return one == other or (self.is_from_fuxictr_1 and find_hash(one) == find_hash(other) is not None)

    def find_settings(self, expid: str) -> dict[str, Any] | None:
        """Return the settings of a run from the config; None if it is not there."""
        return next((settings for name, settings in self.models.items() if self.is_same_run(name, expid)), None)


class Log:
    """Settings and metrics in a log.

    Args:
        name: name of the file, without ``.log``.
        text: its content.

    Attributes:
        settings: name -> text, as the run printed them.
        valid, test: metrics of the two evaluations after training.
    """

    def __init__(self, name: str, text: str) -> None:
        metrics = [parse_metrics(line) for line in re.findall(METRICS, text)]
        self.name, self.settings = name, _parse_settings(text)
        self.valid, self.test = metrics[-2:] if len(metrics) > 1 else ({}, {})

    @property
    def expid(self) -> str:
        """Expid that the run printed."""
        return self.settings.get("model_id", "")


def _parse_settings(text: str) -> dict:
    """Return the settings that a run printed to its log, as text; empty if none can be read."""
    shown = re.search(r"\{\n.*?\n\}", text, re.DOTALL)
    try:
        settings = json.loads(shown[0]) if shown else {}
    except (ValueError, RecursionError):
        return {}
    return {key: value if isinstance(value, str) else str(value) for key, value in settings.items()}


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, relative to it, with ``/``, sorted.

    Raises:
        UsageError: the folder has a symbolic link, which could lead out of it.
    """
    paths = sorted(folder.rglob("*"))
    if links := [path for path in paths if path.is_symlink()]:
        raise UsageError(f"{links[0]} is a symbolic link; an entry must consist of files")
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def find_hash(name: str) -> str | None:
    """Return the hash at the end of an expid or dataset_id; None if there is none."""
    match = HASHED.fullmatch(name)
    return match["hash"] if match else None
