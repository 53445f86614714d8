"""Compare single with multi-embedding on real data, in minutes."""

from fuxictr_me.quickstart.run import run_quickstart

__all__ = ["run_quickstart"]
