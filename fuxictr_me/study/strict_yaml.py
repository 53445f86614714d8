"""Read a YAML file of plain settings: a duplicate key, a foreign tag or a bomb is one line that names the file."""

from pathlib import Path

import yaml

from fuxictr_me.errors import UsageError, missing

MOST_BYTES = 1_000_000  # of a file
MOST_VALUES = 100_000  # after every alias has been replaced by what it stands for
PLAIN = (str, int, float, bool, type(None))


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Construct a mapping; raise where a key stands in it twice or is not text."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not text: put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_strict_yaml(path: str | Path, kind: str) -> dict:
    """Return the settings that a YAML file holds.

    Args:
        path: the file.
        kind: what the file is, for the error where it is missing.

    Raises:
        UsageError: one line that names the file: it is missing, is not UTF-8 or not YAML, does not hold settings by
            name, names a key twice, or holds anything but text, numbers, lists and mappings.
    """
    path = Path(path)
    if not path.is_file():
        raise missing(kind, path)
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes; a {kind} has {MOST_BYTES:,} at most")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not a text in UTF-8: byte {error.start} is {error.object[error.start]:#x}"
        ) from None
    try:
        node = yaml.compose(text, Loader=_StrictLoader)
        if node is not None:
            _count_values(node, {}, set())
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UsageError(f"{path} is not valid YAML: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold settings by name, got {str(content)[:80]!r}")
    _check_plain(content, path)
    return content


def _count_values(node: yaml.Node, counted: dict, open_nodes: set) -> int:
    """Return how many values a node stands for, aliases written out; raise ValueError where there are too many."""
    if id(node) in open_nodes:
        raise ValueError("an alias refers to what it is part of")
    if id(node) not in counted:
        open_nodes.add(id(node))
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        counted[id(node)] = 1 + sum(_count_values(part, counted, open_nodes) for part in parts)
        open_nodes.discard(id(node))
    if counted[id(node)] > MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values")
    return counted[id(node)]


def _check_plain(value: object, path: Path) -> None:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_plain(item, path)
    elif not isinstance(value, PLAIN):
        raise UsageError(f"{path} holds the {type(value).__name__} {str(value)[:80]!r}: write it as text, in quotes")
