"""A scaling study: models x kinds x scales x seeds, run as FuxiCTR's autotuner would, and reported."""
