"""Run ``python -m fuxictr_me``."""

from fuxictr_me.commands.main import entry_point

if __name__ == "__main__":
    entry_point()
