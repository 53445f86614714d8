"""Settings that the command line overrides: ``--set key=value``."""

import shlex
from collections.abc import Collection, Iterable, Mapping

import yaml

from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.config.yaml_files import parse_yaml
from fuxictr_me.errors import UsageError, unknown

ELSEWHERE = {
    "dataset_id": "copy the experiment in the config to use other data",
    "model_id": "--expid names the experiment",
    "expid": "--expid names the experiment",
    "gpu": "--gpu names the device",
}


def parse_overrides(texts: Iterable[str]) -> dict[str, object]:
    """Return setting -> value of the arguments ``key=value``, whose values are YAML.

    Raises:
        UsageError: an argument has another form or is not valid YAML, or its setting is given twice or cannot be
            overridden.
    """
    overrides: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not (key and equals):
            raise UsageError(f"--set takes KEY=VALUE, e.g. --set batch_size=4096, got {short_repr(text)}")
        if key in ELSEWHERE:
            raise UsageError(f"--set cannot override {key}: {ELSEWHERE[key]}")
        if key in overrides:
            raise UsageError(f"--set gives {key} twice")
        overrides[key] = parse_yaml(value, f"--set {key}")
    return overrides


def check_override_keys(overrides: Collection[str], known: Collection[str], kind: str) -> None:
    """Check the names of overridden settings.

    Args:
        overrides: names.
        known: those that the config has, or that something reads.
        kind: what a name stands for, for the message.

    Raises:
        UsageError: a name is unknown; with the nearest one.
    """
    for key in overrides:
        if key not in known:
            raise unknown(kind, key, known)


def format_overrides(overrides: Mapping[str, object]) -> str:
    """Return the arguments of a shell that give these overrides: `` --set key=value`` for each."""
    return "".join(f" --set {shlex.quote(f'{key}={_format_value(value)}')}" for key, value in overrides.items())


class _OneLineDumper(yaml.SafeDumper):
    """Writes text with line breaks in double quotes, which escape them."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLineDumper.add_representer(str, _represent_text)


def _format_value(value: object) -> str:
    """Return a value as YAML in one line, which ``parse_overrides`` reads as the same value."""
    text = yaml.dump(value, Dumper=_OneLineDumper, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()
