"""Write a first config for a file of clicks: what its columns are, a split, models and a study."""

from fuxictr_me.starter.write_folder import write_starter

__all__ = ["write_starter"]
