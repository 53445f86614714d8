"""Versions of the software that a run used."""

import sys

import fuxictr
import torch

from fuxictr_me import __version__
from fuxictr_me.compat.loaders import detect_flavour


def collect_versions() -> dict[str, str]:
    """Return the versions of fuxictr-me, FuxiCTR (with its variant), torch and Python."""
    return {
        "fuxictr_me": __version__,
        "fuxictr": f"{fuxictr.__version__} ({detect_flavour()})",
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
