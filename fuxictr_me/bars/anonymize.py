"""Remove what is personal from an entry (absolute paths, names of user and host), and search for what is left."""

import getpass
import os
import platform
import re
from pathlib import Path
from typing import Any

PLACEHOLDERS = r"(?!XXX|FuxiCTR|benchmarks|ma-user)"  # published entries have these for /home/<name>
HOME = re.compile(rf"(?<![\w.])(?:/home/|/Users/|/root/|[A-Z]:\\+Users\\+){PLACEHOLDERS}[\w.-]+")
ABSOLUTE = re.compile(r"(?<![\w.:/~*])~?/(?:[^\s'\",:/]+/+)+([^\s'\",:/]*)")
SHARED_NAMES = {"root", "user", "users", "admin", "administrator", "ubuntu", "debian", "runner", "jovyan", "nobody"}
SHARED_NAMES |= {"data", "test", "train", "home", "app", "localhost", "localdomain", "vm"}  # these identify nobody
FOLDERS = {"data_root": "../data/", "model_root": "./checkpoints/"}
PATHS = ("train_data", "valid_data", "test_data", *FOLDERS)
SHARED_FOLDERS = (
    Path("/"),
    Path("/home"),
    Path("/Users"),
)  # paths that climb so far count as absolute


def make_settings_relative(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a copy of settings without absolute paths, and without relative ones that leave the user's folders.

    Paths under the working directory are named from there. Other data go to ``../data/``, as in BARS' entries, with
    their path under ``data_root`` or with the last folder and the name. ``model_root`` becomes ``./checkpoints/``.

    Args:
        settings: of a model or a data set.
        folder: the one in which the run was started.
    """
    root = str(settings.get("data_root") or "")

    def relative(value: Any, default: str | None = None) -> Any:
        if isinstance(value, dict):
            return {key: relative(item) for key, item in value.items()}
        if isinstance(value, list):
            return [relative(item) for item in value]
        if not _is_outside(value, folder):
            return value
        path, slash = Path(value), "/" if value.endswith("/") else ""
        if path.is_relative_to(Path.cwd()):
            return f"./{path.relative_to(Path.cwd())}{slash}"
        if default:
            return default
        if _is_outside(root, folder) and path.is_relative_to(root):
            return f"../data/{path.relative_to(root)}"
        parent = "" if path.parent in (Path.home(), *SHARED_FOLDERS) else path.parent.name
        return os.path.join("../data", parent, path.name)

    return {key: relative(value, FOLDERS.get(key)) for key, value in settings.items()}


def clean_log(log: str, settings: dict[str, Any], folder: Path) -> str:
    """Return a log without absolute paths and without names of user and host.

    Args:
        log: text of the log.
        settings: of the entry; their paths replace those of the log.
        folder: the one in which the run was started.
    """
    for key in PATHS:
        if settings.get(key) and (shown := re.search(rf'"{key}": "([^"]+)"', log)):
            log = log.replace(shown[0], f'"{key}": "{settings[key]}"')
            if shown[1].startswith(("/", "~/", "../")):
                log = log.replace(os.path.normpath(shown[1]), os.path.normpath(settings[key]))
    for prefix in dict.fromkeys(os.path.join(path, "") for path in (folder.resolve(), os.getcwd())):
        log = re.sub(rf"(?<![\w.-]){re.escape(prefix)}", "", log)
    log = ABSOLUTE.sub(lambda path: f".../{path[1]}", log)
    for name in _find_personal_names():
        log = _compile_word(name).sub("XXX", log)
    return log


def find_personal(text: str) -> str | None:
    """Return the first path into a home directory, or name of this user or host, in a text; None if there is none."""
    home = Path.home()
    patterns = [HOME, *map(_compile_word, _find_personal_names())]
    patterns += [re.compile(re.escape(str(home)))] if len(home.parts) > 2 else []
    matches = (pattern.search(text) for pattern in patterns)
    return next((match[0] for match in matches if match), None)


def _is_outside(value: object, folder: Path) -> bool:
    """Whether a value is an absolute path, or climbs from ``folder`` to one that users share."""
    if not isinstance(value, str) or len(value) < 2:
        return False
    climbs = os.path.normpath(value).split("/").count("..")
    reached = [folder.resolve(), *folder.resolve().parents][: climbs + 1][-1]
    return value.startswith(("/", "~/")) or (climbs > 0 and reached in SHARED_FOLDERS)


def _find_personal_names() -> list[str]:
    """Return the names of user and host that tell whose machine this is, the longest first."""
    host = platform.node()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = ""
    names = {user, host, host.split(".")[0]}
    return sorted((name for name in names if len(name) > 2 and name.lower() not in SHARED_NAMES), key=len, reverse=True)


def _compile_word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-zA-Z0-9]){re.escape(name)}(?![a-zA-Z0-9])")
