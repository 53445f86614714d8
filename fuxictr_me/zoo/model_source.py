"""Find where the code of a model from another package comes from, so that other processes and people find it."""

import inspect
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions, version
from pathlib import Path

from fuxictr_me.config.model_registry import get_backbone, is_wrapped
from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.zoo.find_model import FUXICTR_SRC, MODEL_NAMES, ZOO_PACKAGE

OWN = "own"  # a file of the user's, neither of a checkout of FuxiCTR nor of an installed package


def describe_source(model_class: type) -> dict | None:
    """Return what a result records of a model's class, None for a fuxictr-me model.

    Args:
        model_class: as ``find_model`` returns it.

    Returns:
        ``class`` (``module:Class``), ``file`` (relative to the folder on Python's path) and its ``md5``; ``origin``:
        ``FuxiCTR <commit>`` of a checkout, ``<package> <version>`` of an installed package, else ``own``; and
        ``wrapped``: whether ``MultiEmbeddingOf`` makes its embedding sets.
    """
    cls = get_backbone(model_class)
    if cls.__module__.startswith("fuxictr_me."):
        return None
    file = Path(inspect.getfile(cls)).resolve()
    folder = _import_folder(cls.__module__)
    return {
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "file": file.relative_to(folder).as_posix(),
        "md5": hash_file(file, "md5"),
        "origin": _find_origin(cls.__module__.partition(".")[0], folder),
        "wrapped": is_wrapped(model_class),
    }


def find_environment_variables(name: str) -> dict[str, Path]:
    """Return the environment variables that a process in another folder needs to find the same model.

    Args:
        name: as ``find_model`` takes it. This process has found the model already.

    Returns:
        Environment variable -> folder; empty if none is needed.
    """
    if name in MODEL_NAMES:
        return {}
    module = name.partition(":")[0] if ":" in name else ZOO_PACKAGE
    folder = _import_folder(module)
    if folder in _installation_folders():
        return {}
    return {FUXICTR_SRC if module.partition(".")[0] == ZOO_PACKAGE else FUXICTR_ME_PATH: folder}


def _import_folder(module: str) -> Path:
    """Return the folder on Python's path in which a module, or the package that holds it, lies."""
    file = Path(str(sys.modules[module].__file__)).resolve()
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def _find_origin(package: str, folder: Path) -> str:
    if package == ZOO_PACKAGE:
        return f"FuxiCTR {_find_commit(folder)}"
    if folder in _installation_folders():
        names = packages_distributions().get(package, ())
        return f"{names[0]} {version(names[0])}" if names else package
    return OWN


def _find_commit(folder: Path) -> str:
    """Return the commit of a checkout, or ``of no known commit``."""
    command = ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        output = []
    return output[1] if len(output) == 2 and Path(output[0]).resolve() == folder else "of no known commit"


def _installation_folders() -> set[Path]:
    return {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
