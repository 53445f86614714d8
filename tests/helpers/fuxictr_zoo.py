"""Import classes of FuxiCTR's model zoo from the checkout that FUXICTR_SRC names."""

import importlib.util
import os
from pathlib import Path


def zoo_class(path, name):
    spec = importlib.util.spec_from_file_location(name, Path(os.environ["FUXICTR_SRC"]) / "model_zoo" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
