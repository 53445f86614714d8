"""Old import path of the command line, which keeps working. New code imports ``fuxictr_me.commands.main``."""

from fuxictr_me.commands.main import entry_point, main, run_entry

__all__ = ["entry_point", "main", "run_entry"]
