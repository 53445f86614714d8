"""A scaling study: models x kinds x scales x seeds, run as by FuxiCTR's autotuner."""
