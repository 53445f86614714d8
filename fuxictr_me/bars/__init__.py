"""Entries of the BARS benchmark (github.com/reczoo/BARS, ``ranking/ctr``): written from finished runs, and checked."""

SEEDS = (2021, 190034, 992817, 27011, 948432)  # of BARS' entries that show five runs
