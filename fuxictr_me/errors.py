"""What a user did wrong, and what went wrong in a run: each told in one line."""

import difflib
import importlib.util
from pathlib import Path


class UsageError(ValueError):
    """A wrong argument, setting or file. The command line prints the message and exits with 2."""


class RunError(RuntimeError):
    """A run that cannot go on (diverged, disk full, ...). The command line prints it and exits with 1."""


def unknown(kind, name, allowed):
    """A UsageError for a ``name`` that is none of ``allowed``, with the nearest right one.

    Args:
        kind (str): what the name stands for, e.g. ``"model"``.
        name (str): what was given.
        allowed (iterable of str): what is known.
    """
    allowed = sorted(map(str, allowed))
    lowered = {a.lower(): a for a in allowed}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.5)
    near = near or [a for a in lowered if len(str(name)) > 2 and a.startswith(str(name).lower())]
    hint = f"; did you mean {lowered[near[0]]!r}?" if near else ""
    known = f"known: {', '.join(allowed) or 'none'}" if len(allowed) <= 20 else f"{len(allowed)} are known"
    return UsageError(f"unknown {kind} {name!r}{hint} ({known})")


def missing(kind, path):
    """A UsageError for a ``path`` that does not exist, with the nearest one that does.

    Args:
        kind (str): what the path is for, e.g. ``"config folder"``.
        path (str or Path): what was given.
    """
    part = Path(path)
    while not part.parent.is_dir():
        part = part.parent
    names = [p.name for p in part.parent.iterdir() if p.name != part.name]  # never the path itself
    near = difflib.get_close_matches(part.name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {part.parent / near[0]}?" if near else ""
    return UsageError(f"no {kind} at {path}{hint}")


def check_positive_int(name, value):
    """``value`` if it is an integer of 1 or more, else a UsageError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be an integer of 1 or more, got {value!r}")
    return value


def require_extra(command, packages, extra):
    """Say at once, not after minutes of work, that a package of an extra is missing.

    Raises:
        UsageError: with the command that installs it.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(f"{command} needs {' and '.join(absent)}: pip install 'fuxictr-me[{extra}]'")
