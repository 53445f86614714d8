"""Read a study's YAML file of plain settings."""

from pathlib import Path

from fuxictr_me.config import read_yaml
from fuxictr_me.errors import UsageError, missing

PLAIN = (str, int, float, bool, type(None))


def read_study_file(path: str | Path) -> dict:
    """Return the settings that a study file holds.

    Raises:
        UsageError: one line that names the file: it is missing, cannot be read as YAML (see ``read_yaml``), does not
            hold settings by name, or holds anything but text, numbers, lists and mappings.
    """
    path = Path(path)
    if not path.is_file():
        raise missing("study file", path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold settings by name, got {str(content)[:80]!r}")
    _check_plain(content, path)
    return content


def _check_plain(value: object, path: Path) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UsageError(f"{path}: the key {key!r} is not text: put it in quotes")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, path)
    elif not isinstance(value, PLAIN):
        raise UsageError(f"{path} holds the {type(value).__name__} {str(value)[:80]!r}: write it as text, in quotes")
