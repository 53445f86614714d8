"""Import code that a config names: only from folders that the user chose, never from beside a config that was sent.

A config may name a class by ``model: package.module:Class`` or ``callbacks: [package.module.Class]``. Its module is
imported from the working directory, from a folder that the environment variable FUXICTR_ME_PATH lists, or from Python's
path (installed packages, PYTHONPATH). See docs/what_runs_code.md.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from fuxictr_me.errors import UsageError, unknown

FUXICTR_ME_PATH = "FUXICTR_ME_PATH"  # an environment variable


def import_named(module: str, what: str, beside: Path | None = None, named: Path | None = None) -> ModuleType:
    """Import a module that a config names.

    Args:
        module (str): e.g. ``my_models.wide``.
        what (str): what it is named for, e.g. ``"model 'my_models.wide:WideDNN'"``.
        beside (Path): the folder that holds the config; nothing is imported from it, but a module that lies there is
            named in the error.
        named (Path): one more folder to import from, which the user named on the command line.

    Raises:
        UsageError: no such module, or one that cannot be imported.
    """
    listed = [path for path in os.environ.get(FUXICTR_ME_PATH, "").split(os.pathsep) if path]
    chosen = ("", *([] if named is None else [named]), *listed)
    folders = list(dict.fromkeys(str(Path(path).resolve()) for path in chosen))
    sys.path[:0] = [path for path in folders if path not in sys.path]
    importlib.invalidate_caches()
    with named_import_errors(what):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise _not_found(module, what, folders, beside) from error


def _not_found(module: str, what: str, folders: list[str], beside: Path | None) -> UsageError:
    first = module.partition(".")[0]
    if beside is not None and ((beside / f"{first}.py").is_file() or (beside / first).is_dir()):
        return UsageError(
            f"{what}: {first} lies in {beside}, and code beside a config runs only if you name its folder: "
            f"set {FUXICTR_ME_PATH}={beside} if you trust it"
        )
    near = {path.stem for folder in folders for path in Path(folder).glob("*.py")}
    return UsageError(f"{what}: {unknown('module', module, near)}; looked in {', '.join(folders)} and on Python's path")


@contextlib.contextmanager
def named_import_errors(what: str) -> Iterator[None]:
    """Raise a UsageError for whatever goes wrong in an import: foreign code may raise anything, also ``SystemExit``."""
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} cannot be imported: it needs the package {error.name}: install it") from error
    except (Exception, SystemExit) as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where, told = f"{at.filename}:{at.lineno}", str(error)
        if isinstance(error, SyntaxError):
            where, told = f"{error.filename}:{error.lineno}", error.msg
        raise UsageError(f"{what} cannot be imported: {type(error).__name__}: {told} ({where})") from error
