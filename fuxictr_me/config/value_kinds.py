"""Kinds of values that a setting can have. Each kind checks a value, says in words what is allowed, and is a schema."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from fuxictr_me.errors import UsageError, unknown

LARGEST = 2**31 - 1  # of an integer that counts something


def short_repr(value: object) -> str:
    """Return ``repr(value)``, cut after 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


class Kind:
    """A kind of value.

    Args:
        words: what a value must be, as it follows "must be" in an error.
        schema: the same as a JSON schema, as far as JSON schema can express it.
    """

    def __init__(self, words: str, schema: dict[str, Any]) -> None:
        self.words, self.schema = words, schema

    def check(self, label: str, value: object) -> None:
        """Raise a UsageError that starts with ``label`` unless ``value`` is of this kind."""
        if not self.accepts(value):
            raise UsageError(f"{label} must be {self.words}, got {short_repr(value)}{self.hint(value)}")

    def accepts(self, value: object) -> bool:
        """Return whether ``value`` is of this kind."""
        try:
            self.check("", value)
        except UsageError:
            return False
        return True

    def hint(self, value: object) -> str:
        """Return advice on a wrong value, or an empty text."""
        return ""


class Boolean(Kind):
    """True or False. Text such as ``'False'`` is refused, because it would count as true."""

    def __init__(self) -> None:
        super().__init__("True or False", {"type": "boolean"})

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


class Integer(Kind):
    """A whole number from ``low`` to ``high``."""

    def __init__(self, low: int = 1, high: int = LARGEST) -> None:
        super().__init__(f"an integer of {low} or more", {"type": "integer", "minimum": low, "maximum": high})
        self.low, self.high = low, high

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def hint(self, value: object) -> str:
        if isinstance(value, int) and value > self.high:
            return f" (the largest is {self.high:,})"
        if isinstance(value, str) and _is_number(value) and not value.strip().isdigit():
            return " (YAML reads 1e-3 as text; write 1.e-3)"
        return ""


class Number(Kind):
    """A finite number: any (the default), of 0 or more (``low=0``), or above 0 (``above=0``)."""

    def __init__(self, low: float = -math.inf, above: float = -math.inf) -> None:
        words: str = "a number"
        schema: dict[str, Any] = {"type": "number"}
        if low > -math.inf:
            words, schema = f"a number of {low} or more", {**schema, "minimum": low}
        elif above > -math.inf:
            words, schema = f"a number above {above}", {**schema, "exclusiveMinimum": above}
        super().__init__(words, schema)
        self.low, self.above = low, above

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return value >= self.low and value > self.above

    def check(self, label: str, value: object) -> None:
        if isinstance(value, str) and _is_number(value):
            raise UsageError(f"{label} must be a number, got the text {value!r} (YAML reads 1e-3 as text; write 1.e-3)")
        super().check(label, value)


class Share(Kind):
    """A number from 0 to below 1."""

    def __init__(self) -> None:
        super().__init__("a number from 0 to below 1", {"type": "number", "minimum": 0, "exclusiveMaximum": 1})

    def accepts(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


class Text(Kind):
    """Text of at least one character that is not blank, without control characters."""

    def __init__(self, words: str = "text") -> None:
        super().__init__(words, {"type": "string", "pattern": r"\S"})

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and bool(value.strip()) and value.isprintable()


class Choice(Kind):
    """One of a few names."""

    def __init__(self, *names: str) -> None:
        super().__init__(f"one of {', '.join(names)}", {"enum": list(names)})
        self.names = names

    def check(self, label: str, value: object) -> None:
        if not isinstance(value, str) or value not in self.names:
            raise unknown(label, value if isinstance(value, str) else short_repr(value), self.names)


class ListOf(Kind):
    """A list of at least ``least`` values of one kind. With ``unique``, no value may occur twice."""

    def __init__(self, item: Kind, words: str = "", unique: bool = False, least: int = 1) -> None:
        schema = {"type": "array", "items": item.schema, "minItems": least, "uniqueItems": unique}
        super().__init__(words or f"a list, each {item.words}", schema)
        self.item, self.unique, self.least = item, unique, least

    def check(self, label: str, value: object) -> None:
        if not isinstance(value, list | tuple) or len(value) < self.least:
            raise UsageError(f"{label} must be {self.words}, got {short_repr(value)}")
        for entry in value:
            self.item.check(f"each of {label}", entry)
        if self.unique and (duplicate := find_duplicate(value)) is not None:
            raise UsageError(f"{label} names {duplicate!r} twice")


class OneOrList(Kind):
    """A value of one kind, or a list of such values."""

    def __init__(self, item: Kind) -> None:
        self.item, self.list = item, ListOf(item)
        super().__init__(f"{item.words} or {self.list.words}", {"anyOf": [item.schema, self.list.schema]})

    def check(self, label: str, value: object) -> None:
        (self.list if isinstance(value, list | tuple) else self.item).check(label, value)


class Checked(Kind):
    """What a function of (label, value) accepts. The function raises a UsageError for anything else."""

    def __init__(self, words: str, function: Callable[[str, Any], None], schema: dict[str, Any] | None = None) -> None:
        super().__init__(words, schema or {})
        self._function = function

    def check(self, label: str, value: object) -> None:
        self._function(label, value)


class Optional(Kind):
    """A value of another kind, or ``null``."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.words, {"anyOf": [kind.schema, {"type": "null"}]})
        self.kind = kind

    def check(self, label: str, value: object) -> None:
        if value is not None:
            self.kind.check(label, value)


class Nothing(Kind):
    """``null``."""

    def __init__(self) -> None:
        super().__init__("null", {"type": "null"})

    def accepts(self, value: object) -> bool:
        return value is None


class Unchecked(Kind):
    """Any value: it is checked together with other settings, or nobody reads it."""

    def __init__(self, schema: dict[str, Any] | None = None) -> None:
        super().__init__("anything", schema or {})

    def accepts(self, value: object) -> bool:
        return True


def find_duplicate(values: Iterable[object]) -> object:
    """Return the first value that occurs a second time, None if all differ."""
    seen: set = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
