"""What a run ran on."""

import sys

import fuxictr
import torch

from fuxictr_me import __version__


def flavour():
    """``"wheel"`` or ``"main"``: which of the two FuxiCTR 2.3.10 is installed."""
    from fuxictr.pytorch.dataloaders import RankDataLoader

    return "main" if isinstance(RankDataLoader, type) else "wheel"


def versions():
    """What the run ran on; FuxiCTR's number alone does not tell its two flavours apart."""
    return {
        "fuxictr_me": __version__,
        "fuxictr": f"{fuxictr.__version__} ({flavour()})",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
