"""Load a script of benchmarks/, which is no package."""

import importlib.util
from types import ModuleType

from helpers.paths import ROOT


def load_benchmark(name: str) -> ModuleType:
    """Return the module of ``benchmarks/<name>.py``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
