"""An entry as its files tell it."""

import json
import re
from functools import cached_property
from pathlib import Path

from fuxictr_me.bars.environment import parse_environment
from fuxictr_me.bars.result_rows import parse_metrics, parse_row
from fuxictr_me.bars.tuner import HASHED
from fuxictr_me.config import read_entries
from fuxictr_me.errors import UsageError

IN_CONFIG = r"[^/]*tuner_config[^/]*/(?:[^/]+/)*"  # some published entries have the folder twice
METRICS = r"(?<!\])\[Metrics\] (.+)"  # of all tasks; a multi-task model logs [Task: label][Metrics] too
MOST_BYTES = 200_000_000
FILES = {
    "README.md": r"README\.md",
    "environments.txt": r"environments\.txt",
    "results.csv": r"results\.csv",
    "<expid>.log": r"[^/]+_\d{3,}_[0-9a-f]{8}\.log",
    "model_config.yaml": rf"{IN_CONFIG}model_config\.yaml",
    "dataset_config.yaml": rf"{IN_CONFIG}dataset_config\.yaml",
    "run_expid.py or the tuner's yaml": r"run_expid\.py|[^/]*tuner_config[^/]*\.yaml",
}


class Entry:
    """An entry that has all ``FILES``.

    Args:
        folder (Path)
    """

    def __init__(self, folder):
        self.folder, self.names = folder, file_names(folder)

    def text(self, name: str) -> str:
        """Return the text of a file.

        Raises:
            UsageError: it is larger than any text of an entry.
        """
        path = self.folder / name
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UsageError(f"{path} has {size:,} bytes; a text of an entry has {MOST_BYTES:,} at most")
        return path.read_text(errors="replace")

    def name_of(self, kind):
        """The first file of a kind of ``FILES``."""
        return next(name for name in self.names if re.fullmatch(FILES[kind], name))

    @cached_property
    def environment(self):
        """Key -> text."""
        return parse_environment(self.text("environments.txt"))

    @property
    def is_ours(self):
        """Whether fuxictr-me made the runs."""
        return "fuxictr-me" in self.environment

    @property
    def is_old(self):
        """Whether FuxiCTR 1 did."""
        return self.environment.get("fuxictr", "").startswith("1.")

    @cached_property
    def lines(self):
        """Of ``results.csv``: a ``Row``, or None where it is none."""
        return [parse_row(line) for line in self.text("results.csv").splitlines()]

    @property
    def rows(self):
        """Those that are."""
        return [row for row in self.lines if row]

    @cached_property
    def log(self):
        """The ``Log``."""
        name = self.name_of("<expid>.log")
        return Log(Path(name).stem, self.text(name))

    @cached_property
    def models(self):
        """Expid -> settings.

        Raises:
            UsageError: no valid YAML.
        """
        return read_entries((self.folder / self.name_of("model_config.yaml")).parent, "model_config")

    @cached_property
    def datasets(self):
        """dataset_id -> settings.

        Raises:
            UsageError: no valid YAML.
        """
        return read_entries((self.folder / self.name_of("dataset_config.yaml")).parent, "dataset_config")

    def same_run(self, one, other):
        """Whether two expids name one run; those of FuxiCTR 1 were numbered anew and keep their hash alone."""
        return one == other or (self.is_old and expid_hash(one) == expid_hash(other) is not None)

    def settings(self, expid):
        """Of a run, by the config; None where it is not there."""
        return next((entry for name, entry in self.models.items() if self.same_run(name, expid)), None)


class Log:
    """What a log says.

    Args:
        name (str): of its file, without ``.log``.
        text (str)

    Attributes:
        name (str)
        settings (dict): name -> text, as the run printed them.
        valid, test (dict): metrics of the two evaluations after training.
    """

    def __init__(self, name, text):
        metrics = [parse_metrics(line) for line in re.findall(METRICS, text)]
        self.name, self.settings = name, _shown_settings(text)
        self.valid, self.test = metrics[-2:] if len(metrics) > 1 else ({}, {})

    @property
    def expid(self):
        """As the run printed it."""
        return self.settings.get("model_id", "")


def _shown_settings(text: str) -> dict:
    """Return the settings that a run printed to its log, as text; empty where it printed none that can be read."""
    shown = re.search(r"\{\n.*?\n\}", text, re.DOTALL)
    try:
        settings = json.loads(shown[0]) if shown else {}
    except (ValueError, RecursionError):
        return {}
    return {key: value if isinstance(value, str) else str(value) for key, value in settings.items()}


def file_names(folder: Path) -> list[str]:
    """Return the paths inside a folder, with ``/``, sorted.

    Raises:
        UsageError: a symbolic link, which would lead out of it.
    """
    paths = sorted(folder.rglob("*"))
    if links := [path for path in paths if path.is_symlink()]:
        raise UsageError(f"{links[0]} is a symbolic link; an entry consists of files")
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def expid_hash(expid):
    """The hash that ends it; None where none does."""
    named = HASHED.fullmatch(expid)
    return named and named["hash"]
