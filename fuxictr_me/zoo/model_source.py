"""Where the class of a model that is not ours comes from: so that another process, and another person, find it."""

import inspect
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions, version
from pathlib import Path

from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.zoo.find_model import FUXICTR_SRC, MODEL_NAMES, ZOO_PACKAGE, get_backbone, is_wrapped

OWN = "own"  # a file of the user's, neither of a checkout of FuxiCTR nor of an installed package


def describe_source(model_class):
    """What a result records of a model's class.

    Args:
        model_class (type): as ``find_model`` gives it.

    Returns:
        dict or None: ``class`` (``module:Class``), ``file`` (as seen from the folder on Python's path) and its ``md5``;
        ``origin``: ``FuxiCTR <commit>`` of a checkout, ``<package> <version>`` of what is installed, else ``own``; and
        ``wrapped``: whether ``MultiEmbeddingOf`` gives it its sets. None of a model of ours.
    """
    cls = get_backbone(model_class)
    if cls.__module__.startswith("fuxictr_me."):
        return None
    file = Path(inspect.getfile(cls)).resolve()
    folder = _folder_of(cls.__module__)
    return {
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "file": file.relative_to(folder).as_posix(),
        "md5": hash_file(file, "md5"),
        "origin": _origin(cls.__module__.partition(".")[0], folder),
        "wrapped": is_wrapped(model_class),
    }


def find_environment_variables(name):
    """What a process that starts in another folder needs to find the model that this one has found.

    Args:
        name (str): as ``find_model`` takes it.

    Returns:
        dict: an environment variable -> folder (Path); empty where nothing is needed.
    """
    if name in MODEL_NAMES:
        return {}
    module = name.partition(":")[0] if ":" in name else ZOO_PACKAGE
    folder = _folder_of(module)
    if folder in _installed():
        return {}
    return {FUXICTR_SRC if module.partition(".")[0] == ZOO_PACKAGE else FUXICTR_ME_PATH: folder}


def _folder_of(module):
    """The folder in which Python finds a module, or the package that it is in."""
    file = Path(sys.modules[module].__file__).resolve()
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def _origin(package, folder):
    if package == ZOO_PACKAGE:
        return f"FuxiCTR {_commit(folder)}"
    if folder in _installed():
        names = packages_distributions().get(package, ())
        return f"{names[0]} {version(names[0])}" if names else package
    return OWN


def _commit(folder):
    """Of the checkout that is the folder; ``of no known commit`` where git does not tell."""
    command = ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        told = []
    return told[1] if len(told) == 2 and Path(told[0]).resolve() == folder else "of no known commit"


def _installed():
    return {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
