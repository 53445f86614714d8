"""python run_expid.py --expid EXPID --gpu -1 (--config: another folder than the config/ beside this file)."""

import os
import sys
from pathlib import Path

from fuxictr_me.cli import main

if __name__ == "__main__":
    config = [] if "--config" in sys.argv else ["--config", os.path.relpath(Path(__file__).parent / "config")]
    sys.exit(main(["run_expid", *config, *sys.argv[1:]]))
