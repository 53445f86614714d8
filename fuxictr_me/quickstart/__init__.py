"""Single against multi-embedding on real data, in minutes."""

from fuxictr_me.quickstart.run import run

__all__ = ["run"]
