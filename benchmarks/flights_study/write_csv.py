"""Write the flights of the quickstart as csv, for the study in this folder.

    python benchmarks/flights_study/write_csv.py
"""

from pathlib import Path

from fuxictr_me.quickstart.flights import write_csv
from fuxictr_me.quickstart.run import FRACTION

write_csv(Path(__file__).parent / "csv", FRACTION)
