"""Read the recorded results and failures of runs. The files may come from somebody else: each field is checked."""

import json
import math
from pathlib import Path

from fuxictr_me.config.names import check_plain_name
from fuxictr_me.errors import UsageError

NUMBERS = ("parameters", "parameters_without_embeddings", "seconds", "steps")


def read_result(path: Path) -> dict | None:
    """Return the result of a finished run from its ``<expid>.json``; None if the JSON file is of another kind.

    Raises:
        UsageError: one line that names the file: it is the result of a run, and a part is missing or of a wrong type.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or "settings" not in content:
        return None
    try:
        check_plain_name("expid", content["expid"])
        check_plain_name("dataset_id", content["dataset_id"])
        for key in ("settings", "valid", "test", "versions"):
            _require(isinstance(content[key], dict), key, content[key])
        for split in ("valid", "test"):
            for name, value in content[split].items():
                _require(_is_number(value), f"{split} {name}", value)
        for key in NUMBERS:
            _require(_is_number(content[key]) and math.isfinite(content[key]), key, content[key])
        _require(content.get("peak_memory") is None or _is_number(content["peak_memory"]), "peak_memory", content)
        for key in ("data_digest", "settings_digest"):
            _require(isinstance(content.get(key, ""), str), key, content.get(key))
    except KeyError as error:
        raise UsageError(f"{path} is not the result of a run: it has no {error.args[0]}") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not the result of a run: {error}") from None
    return content


def read_failure(path: Path) -> dict | None:
    """Return what a study has recorded of a failed run; None if there is no record."""
    content = _read_json(path)
    if content is None and not path.is_file():
        return None
    content = content if isinstance(content, dict) else {}
    return {**content, "error": " ".join(str(content.get("error", "unknown")).split())}


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _require(is_right: bool, key: str, value: object) -> None:
    if not is_right:
        raise ValueError(f"{key} is {str(value)[:80]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
