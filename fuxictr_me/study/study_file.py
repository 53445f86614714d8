"""Read a study from its YAML file and from arguments of the command line."""

from pathlib import Path

from fuxictr_me.config import read_yaml
from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.study.design import Study, design_study
from fuxictr_me.study.design_parts import check_mapping, read_models

KEYS = ("name", "config", "dataset_id", "models", "kinds", "scales", "seeds", "settings", "grid", "tuning_seeds")
PLAIN_TYPES = (str, int, float, bool, type(None))


def find_bundled_study(name: str | Path) -> Path | None:
    """Return the YAML file of the study that comes with a data set, e.g. ``frappe_x1``; None if there is none.

    A file or folder of that name in the working directory takes precedence.
    """
    if Path(name).exists() or Path(name).name != str(name):
        return None
    path = find_bundled_folder("dataset_configs") / name / "study" / "study.yaml"
    return path if path.is_file() else None


def read_study(path: str | Path | None, **given: object) -> Study:
    """Read a study from a YAML file; arguments take precedence over it.

    Args:
        path: of the YAML file with the settings ``KEYS``, or None.
        **given: settings of ``KEYS``; None counts as not given. ``settings`` is merged over that of the file. Names of
            ``models`` keep the settings that they have in the file.

    Raises:
        UsageError: one line that says what is wrong, what was found and what is allowed.
    """
    content = {} if path is None else _read_file(Path(path))
    given = {key: value for key, value in given.items() if value is not None}
    if "settings" in given and content.get("settings") is not None:
        given["settings"] = check_mapping("settings", content["settings"]) | check_mapping(
            "settings", given["settings"]
        )
    if isinstance(content.get("models"), dict) and isinstance(given.get("models"), list):
        given["models"] = {name: content["models"].get(name) for name in read_models(given["models"])}
    content |= given
    for key in content:
        if key not in KEYS:
            raise unknown("setting of a study", key, KEYS)
    for key in ("dataset_id", "models"):
        if not content.get(key):
            raise UsageError(f"a study needs {key}")
    config = content.get("config")
    if config is not None and not isinstance(config, str | Path):
        raise UsageError(f"config of a study must be the path of a folder, got {config!r}")
    if config is not None and path is not None:
        beside = Path(path).parent / config  # the path as seen from the study's file comes first
        config = beside if beside.is_dir() or not Path(config).is_dir() else config
    name = content.pop("name", Path(path).stem if path else "study")
    return design_study(name=name, **content | {"config": config})


def _read_file(path: Path) -> dict:
    """Return the settings in a study's file.

    Raises:
        UsageError: the file is missing, is not YAML, does not hold settings by name, or holds values other than text,
            numbers, lists and mappings.
    """
    if not path.is_file():
        raise missing("study file", path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold settings by name, got {str(content)[:80]!r}")
    _check_plain(content, path)
    return content


def _check_plain(value: object, path: Path) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UsageError(f"{path}: the key {key!r} is not text: put it in quotes")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, path)
    elif not isinstance(value, PLAIN_TYPES):
        raise UsageError(f"{path} holds the {type(value).__name__} {str(value)[:80]!r}: write it as text, in quotes")
