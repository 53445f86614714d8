"""Write and check entries of the BARS benchmark (github.com/reczoo/BARS, ``ranking/ctr``)."""

SEEDS = (2021, 190034, 992817, 27011, 948432)  # in BARS' entries with five runs
