"""Kinds of values that a setting can have: each checks a value, names itself in words, and as a JSON schema."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fuxictr_me.errors import UsageError, unknown

LARGEST = 2**31 - 1  # of an integer that counts something


def short_repr(value: object) -> str:
    """Return ``repr(value)``, cut after 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Args:
        words: what a value must be, as it follows "must be" in an error.
        schema: the same as a JSON schema.
    """

    words: str = ""
    schema: dict = field(default_factory=dict)

    def check(self, label: str, value: object) -> None:
        """Raise a UsageError that starts with ``label`` where ``value`` is not of this kind."""
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
        """Return what may help with a wrong value, or an empty text."""
        return ""


class Boolean(Kind):
    """True or False. Text such as ``'False'`` would count as true."""

    def __init__(self):
        super().__init__("True or False", {"type": "boolean"})

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


class _OfNumbers(Kind):
    def hint(self, value: object) -> str:
        if isinstance(value, str) and _is_number(value) and not value.strip().isdigit():
            return " (YAML reads 1e-3 as text; write 1.e-3)"
        return ""


class Integer(_OfNumbers):
    """A whole number from ``low`` to ``high``."""

    def __init__(self, low: int = 1, high: int = LARGEST):
        super().__init__(f"an integer of {low} or more", {"type": "integer", "minimum": low, "maximum": high})

    def accepts(self, value: object) -> bool:
        in_range = isinstance(value, int) and self.schema["minimum"] <= value <= self.schema["maximum"]
        return in_range and not isinstance(value, bool)

    def hint(self, value: object) -> str:
        if isinstance(value, int) and value > self.schema["maximum"]:
            return f" (the largest is {self.schema['maximum']:,})"
        return super().hint(value)


class Number(_OfNumbers):
    """A finite number: of 0 or more, above 0, or any."""

    def __init__(self, words: str = "a number above 0"):
        bounds = {"a number above 0": {"exclusiveMinimum": 0}, "a number of 0 or more": {"minimum": 0}, "a number": {}}
        super().__init__(words, {"type": "number", **bounds[words]})

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return value > self.schema.get("exclusiveMinimum", -math.inf) and value >= self.schema.get("minimum", -math.inf)

    def check(self, label: str, value: object) -> None:
        if isinstance(value, str) and _is_number(value):
            raise UsageError(f"{label} must be a number, got the text {value!r} (YAML reads 1e-3 as text; write 1.e-3)")
        super().check(label, value)


class Share(Kind):
    """A number from 0 to below 1."""

    def __init__(self):
        super().__init__("a number from 0 to below 1", {"type": "number", "minimum": 0, "exclusiveMaximum": 1})

    def accepts(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


class Text(Kind):
    """Text of one character or more, without control characters."""

    def __init__(self, words: str = "text"):
        super().__init__(words, {"type": "string", "minLength": 1})

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and bool(value.strip()) and value.isprintable()


class Choice(Kind):
    """One of a few names."""

    def __init__(self, *names: str):
        super().__init__(f"one of {', '.join(names)}", {"enum": list(names)})

    def check(self, label: str, value: object) -> None:
        if not isinstance(value, str) or value not in self.schema["enum"]:
            raise unknown(label, value if isinstance(value, str) else short_repr(value), self.schema["enum"])

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in self.schema["enum"]


class ListOf(Kind):
    """A list of one value or more, each of one kind; ``unique`` forbids to name one twice."""

    def __init__(self, item: Kind, words: str = "", unique: bool = False, least: int = 1):
        schema = {"type": "array", "items": item.schema, "minItems": least, "uniqueItems": unique}
        super().__init__(words or f"a list, each {item.words}", schema)
        object.__setattr__(self, "item", item)

    def check(self, label: str, value: object) -> None:
        if not isinstance(value, list | tuple) or len(value) < self.schema["minItems"]:
            raise UsageError(f"{label} must be {self.words}, got {short_repr(value)}")
        for entry in value:
            self.item.check(f"each of {label}", entry)
        if self.schema["uniqueItems"] and (twice := find_duplicate(value)) is not None:
            raise UsageError(f"{label} names {twice!r} twice")

    accepts = Kind.accepts


class Either(Kind):
    """A value of one of several kinds."""

    def __init__(self, *kinds: Kind, words: str = ""):
        super().__init__(words or " or ".join(kind.words for kind in kinds), {"anyOf": [kind.schema for kind in kinds]})
        object.__setattr__(self, "kinds", kinds)

    def accepts(self, value: object) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)

    def check(self, label: str, value: object) -> None:
        if isinstance(value, list | tuple):
            for kind in self.kinds:  # the entry that is wrong says more than the kinds
                if isinstance(kind, ListOf):
                    return kind.check(label, value)
        single = [kind for kind in self.kinds if not isinstance(kind, ListOf)]
        if len(single) == 1:
            return single[0].check(label, value)
        super().check(label, value)
        return None

    def hint(self, value: object) -> str:
        return next((hint for kind in self.kinds if (hint := kind.hint(value))), "")


class Nothing(Kind):
    """``null``."""

    def __init__(self):
        super().__init__("null", {"type": "null"})

    def accepts(self, value: object) -> bool:
        return value is None


class Checked(Kind):
    """What a function of (label, value) accepts, which raises a UsageError for anything else."""

    def __init__(self, words: str, function: Callable[[str, Any], None], schema: dict | None = None):
        super().__init__(words, schema or {})
        object.__setattr__(self, "check", function)


class Anything(Kind):
    """Any value; nobody reads it."""

    def __init__(self):
        super().__init__("anything", {})

    def accepts(self, value: object) -> bool:
        return True


def optional(kind: Kind) -> Kind:
    """Return the kind of values that are ``null`` or of ``kind``."""

    def check(label: str, value: object) -> None:
        if value is not None:
            kind.check(label, value)

    return Checked(kind.words, check, {"anyOf": [kind.schema, {"type": "null"}]})


def find_duplicate(values: Iterable[object]) -> object:
    """Return the first value that occurs a second time, None where all differ."""
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
