"""Read YAML as data: no code, no duplicate keys, bounded size. Every error is one line that names the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.errors import UsageError

MAX_BYTES = 8_000_000
MAX_VALUES = 1_000_000  # after aliases are expanded
MAX_DEPTH = 50
LARGEST_INTEGER = 2**63 - 1
LOADER_TAG = "tag:yaml.org,2002:python/name:"


@dataclass(frozen=True)
class LoaderName:
    """The class that ``data_loader: !!python/name:<path>`` names, not imported yet.

    ``runs.run_settings`` replaces it by the class, because configs are read below the layer that loads data.
    """

    path: str


class _Refused(yaml.YAMLError):
    """YAML that is valid, but that a config must not have."""


class _ConfigLoader(yaml.SafeLoader):
    """PyYAML's SafeLoader, which also refuses ambiguous numbers, deep nesting, and tags of Python."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"values are nested more than {MAX_DEPTH} deep{_at(self.peek_event().start_mark)}")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_document(self) -> yaml.Node | None:
        node = super().compose_document()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > 40:
            raise _Refused(f"a number of {len(node.value)} characters is too large{_at(node.start_mark)}")
        value = super().construct_yaml_int(node)
        digits = node.value.lstrip("+-")
        if ":" in digits or (len(digits) > 1 and digits[0] == "0" and digits[1] not in "xb"):
            raise _ambiguous_number(node, value)
        if abs(value) > LARGEST_INTEGER:
            raise _Refused(f"the integer {value} is larger than {LARGEST_INTEGER}{_at(node.start_mark)}")
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value = super().construct_yaml_float(node)
        if ":" in node.value:
            raise _ambiguous_number(node, value)
        return value

    def construct_data_loader(self, suffix: str, node: yaml.Node) -> LoaderName:
        module, _, name = suffix.rpartition(".")
        if name != "H5DataLoader" or module.partition(".")[0] != "fuxictr_me":
            raise _Refused(
                f"the tag !!python/name:{suffix} is not read{_at(node.start_mark)}: the only one is "
                "data_loader: !!python/name:fuxictr_me.data.H5DataLoader"
            )
        return LoaderName(suffix)

    def refuse_tag(self, node: yaml.Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _Refused(f"the tag {tag} is not read{_at(node.start_mark)}")


_ConfigLoader.add_constructor("tag:yaml.org,2002:int", _ConfigLoader.construct_yaml_int)
_ConfigLoader.add_constructor("tag:yaml.org,2002:float", _ConfigLoader.construct_yaml_float)
_ConfigLoader.add_multi_constructor(LOADER_TAG, _ConfigLoader.construct_data_loader)
_ConfigLoader.add_constructor(None, _ConfigLoader.refuse_tag)
for _dumper in (yaml.SafeDumper, yaml.Dumper):  # entries with a data_loader are written again by studies and BARS
    _dumper.add_representer(LoaderName, lambda dumper, name: dumper.represent_scalar(LOADER_TAG + name.path, ""))


def read_yaml(path: str | Path) -> object:
    """Read a YAML file of UTF-8 text.

    Anchors, aliases and merge keys are read as in any YAML. The only tag of Python that is read is that of
    ``H5DataLoader``, which the docs teach for FuxiCTR's scripts. It becomes a ``LoaderName``.

    Raises:
        UsageError: the file cannot be read, is not UTF-8 or not valid YAML, has a key twice or another tag of Python,
            or has too many values or too deep nesting. The error names the file and the line.
    """
    return parse_yaml(read_yaml_text(path), path)


def read_yaml_text(path: str | Path) -> str:
    """Return the text of a YAML file.

    Raises:
        UsageError: the file cannot be read, is too large or is not UTF-8.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes: a config has at most {MAX_BYTES:,}")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UsageError(f"{path} is not UTF-8 text: byte {byte:#04x} at {error.start}. Save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_yaml(text: str, source: str | Path) -> object:
    """Return the content of YAML text, as ``read_yaml`` does.

    Args:
        text: the YAML.
        source: where it is from, for errors.

    Raises:
        UsageError: see ``read_yaml``.
    """
    try:
        return yaml.load(text, Loader=_ConfigLoader)  # noqa: S506 - a SafeLoader
    except _Refused as error:
        raise UsageError(f"{source}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{source}: values are nested too deep") from error
    except Exception as error:
        # PyYAML lets errors of Python through: for dates such as 2020-13-45, `!!float` of a list, `!!bool` of a word
        raise UsageError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Return how many values ``node`` has with its aliases expanded. Refuse duplicate keys, cycles and too many."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in counted:
        if counted[id(node)] < 0:
            raise _Refused(f"an alias names what it lies in{_at(node.start_mark)}")
        return counted[id(node)]
    counted[id(node)] = -1
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicate_keys(node)
        parts = [part for pair in node.value for part in pair]
    else:
        parts = node.value
    total = 1 + sum(_count_values(part, counted) for part in parts)
    if total > MAX_VALUES:
        raise _Refused(f"its aliases stand for more than {MAX_VALUES:,} values{_at(node.start_mark)}")
    counted[id(node)] = total
    return total


def _refuse_duplicate_keys(node: yaml.MappingNode) -> None:
    """Refuse duplicate keys in one mapping: PyYAML would take the last. A merge key gives defaults, not duplicates."""
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value]
            raise _Refused(f"the key {short_repr(key.value)} occurs twice, in lines {first} and {line}")
        lines[key.tag, key.value] = line


def _ambiguous_number(node: yaml.ScalarNode, value: float) -> _Refused:
    return _Refused(f"YAML reads {node.value} as the number {value}: write {value}, or quote it{_at(node.start_mark)}")


def _at(mark: yaml.Mark) -> str:
    return f" (line {mark.line + 1})"
