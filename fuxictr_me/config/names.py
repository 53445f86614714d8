"""Names of experiments, data sets and fields: what can be a file name, and what torch can hold."""

from collections.abc import Iterable

from torch import nn

from fuxictr_me.config.value_kinds import find_duplicate, short_repr
from fuxictr_me.errors import UsageError

LONGEST = 150  # bytes; file names of a run are longer by up to 40, and end at 255
NOT_IN_NAMES = "/\\*?[]"


def check_plain_name(kind: str, name: object) -> str:
    """Return ``name`` if it can name a file or folder in a folder of ours, and nothing else.

    Args:
        kind: ``expid`` or ``dataset_id``.
        name: as it was given.

    Raises:
        UsageError: not text, empty, too long, with a path separator, a glob character, a control character, a dot
            first, or a blank first or last.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"{kind} must be a plain name, got {short_repr(name)}{_quote_it(name)}")
    wrong = sorted({character for character in name if character in NOT_IN_NAMES or not character.isprintable()})
    if wrong:
        raise UsageError(f"{kind} must be a plain name, without {' '.join(map(repr, wrong))}, got {short_repr(name)}")
    if name[0] == "." or name != name.strip():
        raise UsageError(f"{kind} must be a plain name, without a dot or blank around it, got {short_repr(name)}")
    if len(name.encode(errors="surrogateescape")) > LONGEST:
        raise UsageError(f"{kind} must be a plain name of at most {LONGEST} bytes, got {short_repr(name)}")
    return name


def check_column_name(name: object) -> str:
    """Return ``name`` if a column can have it: text, without path separators and control characters.

    Raises:
        UsageError: anything else.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"name of a column must be text, got {short_repr(name)}{_quote_it(name)}")
    if not name.isprintable() or "/" in name or "\\" in name:
        raise UsageError(
            f"name of a column must be text without '/', '\\' and control characters, got {short_repr(name)}"
        )
    if len(name.encode(errors="surrogateescape")) > LONGEST:
        raise UsageError(f"name of a column must have at most {LONGEST} bytes, got {short_repr(name)}")
    return name


def check_field_name(name: str) -> None:
    """Refuse the name of a field that ``torch.nn.ModuleDict``, in which FuxiCTR keeps its layers, cannot hold.

    Raises:
        UsageError: for example ``type``, ``items``, ``train``, or a name with a dot.
    """
    try:
        nn.ModuleDict().add_module(name, nn.Identity())
    except (KeyError, TypeError) as error:
        reason = "it has a dot" if "." in name else "torch uses that name itself"
        raise UsageError(
            f"a field cannot be named {name!r}: {reason} (torch.nn.ModuleDict). Rename the column, or read it under "
            f"another name with preprocess: copy_from({name})"
        ) from error


def check_unique(kind: str, names: Iterable[str]) -> None:
    """Raise a UsageError where a name is there twice."""
    if (twice := find_duplicate(names)) is not None:
        raise UsageError(f"{kind} {twice!r} is there twice")


def _quote_it(name: object) -> str:
    return " (quote it: YAML does not read it as text)" if name is not None and not isinstance(name, str) else ""
