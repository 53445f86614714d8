"""What a run ran on."""

import sys

import fuxictr
import torch

from fuxictr_me import __version__
from fuxictr_me.compat.loaders import detect_flavour


def collect_versions() -> dict[str, str]:
    """What the run ran on; FuxiCTR's number alone does not tell its two flavours apart."""
    return {
        "fuxictr_me": __version__,
        "fuxictr": f"{fuxictr.__version__} ({detect_flavour()})",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
