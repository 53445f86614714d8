"""The result of one check of an entry."""

from collections.abc import Iterable
from dataclasses import dataclass

OK, MISSING, WRONG, UNCHECKED = "ok", "missing", "wrong", "cannot be checked"


@dataclass(frozen=True)
class CheckResult:
    """One line of the output of ``bars check``.

    Attributes:
        verdict: ``OK``, ``MISSING``, ``WRONG`` or ``UNCHECKED``.
        subject: what was checked.
        detail: what is wrong with it, or why it cannot be checked.
    """

    verdict: str
    subject: str
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether something is missing or wrong."""
        return self.verdict in (MISSING, WRONG)

    def __str__(self) -> str:
        return f"{self.verdict:<17} {self.subject}{f': {self.detail}' if self.detail else ''}"


def judge(subject: str, problems: Iterable[str], verdict: str = WRONG) -> CheckResult:
    """Return ``OK`` if there are no problems, else ``verdict`` with all of them."""
    detail = "; ".join(problems)
    return CheckResult(verdict if detail else OK, subject, detail)
