"""Errors that users see as one line, and helpers that word them."""

import difflib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


class UsageError(ValueError):
    """A wrong argument, setting or file. The command line prints the message and exits with code 2."""


class RunError(RuntimeError):
    """A run that cannot continue (diverged, disk full). The command line prints the message and exits with code 1."""


def unknown(kind: str, name: object, allowed: Iterable[object]) -> UsageError:
    """Return a UsageError for a ``name`` that is not among ``allowed``, with the nearest name that is.

    Args:
        kind: what the name stands for, such as ``"model"``.
        name: the wrong name.
        allowed: the known names.
    """
    names = sorted(map(str, allowed))
    lowered = {a.lower(): a for a in names}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.5)
    near = near or [a for a in lowered if len(str(name)) > 2 and a.startswith(str(name).lower())]
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ""
    known = f"known: {', '.join(names) or 'none'}" if len(names) <= 20 else f"{len(names)} are known"
    return UsageError(f"unknown {kind} {name!r}{hint} ({known})")


def missing(kind: str, path: str | Path) -> UsageError:
    """Return a UsageError for a ``path`` that does not exist, with the nearest one that does.

    Args:
        kind: what the path is for, such as ``"config folder"``.
        path: the wrong path.
    """
    part = Path(path)
    while not part.parent.is_dir():
        part = part.parent
    names = [p.name for p in part.parent.iterdir() if p.name != part.name]  # never the path itself
    near = difflib.get_close_matches(part.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {part.parent / near[0]}?" if near else ""
    return UsageError(f"no {kind} at {path}{hint}")


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` if it is an integer of 1 or more, else raise a UsageError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be an integer of 1 or more, got {value!r}")
    return value


def require_extra(command: str, packages: Iterable[str], extra: str) -> None:
    """Raise a UsageError if a package of an extra is not installed, before minutes of work are done.

    The error shows the command that installs it.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(f"{command} needs {' and '.join(absent)}: pip install 'fuxictr-me[{extra}]'")
