"""Former home of the command line; scripts and configs that import it from here keep working."""

from fuxictr_me.commands.main import entry_point, main, run_entry

__all__ = ["entry_point", "main", "run_entry"]
