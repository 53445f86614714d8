"""Find model classes by name, and run FuxiCTR's scripts with fuxictr-me's models."""
