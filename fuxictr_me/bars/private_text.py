"""Nothing personal in an entry: relative paths, no name of user or host, and a search for what is left."""

import getpass
import os
import platform
import re
from pathlib import Path

NOBODY = r"(?!XXX|FuxiCTR|benchmarks|ma-user)"  # as published entries have it for /home/<name>
HOME = re.compile(rf"(?<![\w.])(?:/home/|/Users/|/root/|[A-Z]:\\+Users\\+){NOBODY}[\w.-]+")
ABSOLUTE = re.compile(r"(?<![\w.:/~*])~?/(?:[^\s'\",:/]+/+)+([^\s'\",:/]*)")
SHARED_NAMES = {"root", "user", "users", "admin", "administrator", "ubuntu", "debian", "runner", "jovyan", "nobody"}
SHARED_NAMES |= {"data", "test", "train", "home", "app", "localhost", "localdomain", "vm"}  # they identify nobody
PLACES = {"data_root": "../data/", "model_root": "./checkpoints/"}
PATHS = ("train_data", "valid_data", "test_data", *PLACES)
NOBODYS = (Path("/"), Path("/home"), Path("/Users"))  # a path that climbs so far is an absolute one


def relative_settings(settings, folder):
    """Settings with no absolute path in them, nor a relative one that climbs out of all that is the user's.

    What lies under the working directory is named from there. Else it goes as in BARS' entries: data to ``../data/``,
    by their place under ``data_root`` or by the last folder and the name, and ``model_root`` to ``./checkpoints/``.

    Args:
        settings (dict): of a model or a data set.
        folder (Path): the one that the run went in.

    Returns:
        dict: a copy.
    """
    root = str(settings.get("data_root") or "")

    def relative(value, place=None):
        if isinstance(value, dict):
            return {key: relative(item) for key, item in value.items()}
        if isinstance(value, list):
            return [relative(item) for item in value]
        if not _leads_out(value, folder):
            return value
        path, slash = Path(value), "/" if value.endswith("/") else ""
        if path.is_relative_to(Path.cwd()):
            return f"./{path.relative_to(Path.cwd())}{slash}"
        if place:
            return place
        if _leads_out(root, folder) and path.is_relative_to(root):
            return f"../data/{path.relative_to(root)}"
        named = "" if path.parent in (Path.home(), *NOBODYS) else path.parent.name
        return os.path.join("../data", named, path.name)

    return {key: relative(value, PLACES.get(key)) for key, value in settings.items()}


def clean_log(log, settings, folder):
    """A log without absolute paths, user and host.

    Args:
        log (str)
        settings (dict): of the entry, whose paths it shall show.
        folder (Path): the one that the run went in.

    Returns:
        str
    """
    for key in PATHS:
        if settings.get(key) and (shown := re.search(rf'"{key}": "([^"]+)"', log)):
            log = log.replace(shown[0], f'"{key}": "{settings[key]}"')
            if shown[1].startswith(("/", "~/", "../")):
                log = log.replace(os.path.normpath(shown[1]), os.path.normpath(settings[key]))
    for place in dict.fromkeys(os.path.join(path, "") for path in (folder.resolve(), os.getcwd())):
        log = re.sub(rf"(?<![\w.-]){re.escape(place)}", "", log)
    log = ABSOLUTE.sub(lambda path: f".../{path[1]}", log)
    for name in _own_names():
        log = _whole_word(name).sub("XXX", log)
    return log


def find_personal(text):
    """The first path into a home directory, name of this user or of this host in a text; None where there is none."""
    home = str(Path.home())
    patterns = [HOME, *map(_whole_word, _own_names())]
    patterns += [re.compile(re.escape(home))] if len(Path(home).parts) > 2 else []
    found = (pattern.search(text) for pattern in patterns)
    return next((match[0] for match in found if match), None)


def _leads_out(value, folder):
    if not isinstance(value, str) or len(value) < 2:
        return False
    climbs = os.path.normpath(value).split("/").count("..")
    reached = [folder.resolve(), *folder.resolve().parents][: climbs + 1][-1]
    return value.startswith(("/", "~/")) or (climbs > 0 and reached in NOBODYS)


def _own_names():
    """Names that tell whose machine this is, the longest first."""
    host = platform.node()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        user = ""
    names = {user, host, host.split(".")[0]}
    return sorted((name for name in names if len(name) > 2 and name.lower() not in SHARED_NAMES), key=len, reverse=True)


def _whole_word(name):
    return re.compile(rf"(?<![a-zA-Z0-9]){re.escape(name)}(?![a-zA-Z0-9])")
