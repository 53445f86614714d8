"""Check names of experiments, data sets and fields: they become names of files and of torch modules."""

from collections.abc import Iterable

from torch import nn

from fuxictr_me.config.value_kinds import find_duplicate, short_repr
from fuxictr_me.errors import UsageError

MAX_NAME_BYTES = 150  # file names of a run add up to 40 bytes, and 255 is the limit of file systems
FORBIDDEN = "/\\*?[]"


def check_plain_name(kind: str, name: object) -> str:
    """Return ``name`` if it is a plain file name, which cannot lead to another folder.

    Args:
        kind: what the name stands for in an error, such as ``expid`` or ``dataset_id``.
        name: the value to check.

    Raises:
        UsageError: the name is not text, is empty or too long, has a path separator, a glob character or a control
            character, starts with a dot, or starts or ends with a blank.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"{kind} must be a plain name, got {short_repr(name)}{_quote_it(name)}")
    wrong = sorted({character for character in name if character in FORBIDDEN or not character.isprintable()})
    if wrong:
        raise UsageError(f"{kind} must be a plain name, without {' '.join(map(repr, wrong))}, got {short_repr(name)}")
    if name[0] == "." or name != name.strip():
        raise UsageError(f"{kind} must be a plain name, without a dot or blank around it, got {short_repr(name)}")
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UsageError(f"{kind} must be a plain name of at most {MAX_NAME_BYTES} bytes, got {short_repr(name)}")
    return name


def check_column_name(name: object) -> str:
    """Return ``name`` if it can be the name of a column.

    Raises:
        UsageError: the name is not text, is empty or too long, or has path separators or control characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"name of a column must be text, got {short_repr(name)}{_quote_it(name)}")
    if not name.isprintable() or "/" in name or "\\" in name:
        raise UsageError(
            f"name of a column must be text without '/', '\\' and control characters, got {short_repr(name)}"
        )
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        raise UsageError(f"name of a column must have at most {MAX_NAME_BYTES} bytes, got {short_repr(name)}")
    return name


def check_field_name(name: str) -> None:
    """Raise a UsageError if ``torch.nn.ModuleDict``, in which FuxiCTR keeps layers by field, cannot hold the name.

    Examples are ``type``, ``items``, ``train``, and every name with a dot.
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
    """Raise a UsageError if a name occurs twice."""
    if (duplicate := find_duplicate(names)) is not None:
        raise UsageError(f"{kind} {duplicate!r} occurs twice")


def _quote_it(name: object) -> str:
    return " (quote it: YAML does not read it as text)" if name is not None and not isinstance(name, str) else ""
