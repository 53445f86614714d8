"""What a check of an entry says."""

from dataclasses import dataclass

OK, MISSING, WRONG, UNCHECKED = "ok", "missing", "wrong", "cannot be checked"


@dataclass(frozen=True)
class Finding:
    """One line of it.

    Attributes:
        verdict (str): ``ok``, ``missing``, ``wrong`` or ``cannot be checked``.
        subject (str): what was looked at.
        detail (str): what was found.
    """

    verdict: str
    subject: str
    detail: str = ""

    @property
    def is_bad(self):
        """Whether something is missing or wrong."""
        return self.verdict in (MISSING, WRONG)

    def __str__(self):
        return f"{self.verdict:<17} {self.subject}{f': {self.detail}' if self.detail else ''}"


def judge(subject, problems, verdict=WRONG):
    """``ok`` where there are no problems, else ``verdict`` with all of them.

    Args:
        subject (str)
        problems (iterable of str): empty ones do not count.
        verdict (str)

    Returns:
        Finding
    """
    problems = [problem for problem in problems if problem]
    return Finding(verdict, subject, "; ".join(problems)) if problems else Finding(OK, subject)
