"""``fuxictr-me schema``: the JSON schemas of the config files, for editors."""

import argparse
import json
from pathlib import Path

from fuxictr_me.errors import UsageError

NAMES = ("model_config", "dataset_config")
HELP = "print the JSON schemas of the config files"
DESCRIPTION = """\
Print the JSON schema of model_config.yaml or dataset_config.yaml. With --out,
write it to FOLDER/<name>.json, or both schemas if no name is given. Editors
with a YAML language server complete and check configs by a schema. The schemas
of the bundled configs come with the package: the configs name them in their
first line."""
EXAMPLE = "fuxictr-me schema --out schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``schema``."""
    parser.add_argument("name", nargs="?", choices=NAMES, help="the config file (default with --out: both)")
    parser.add_argument("--out", metavar="FOLDER", help="folder to write to; existing schemas in it are replaced")


def run(arguments: argparse.Namespace) -> str:
    """Return a schema, or write one or both and return the paths.

    Raises:
        UsageError: neither a name nor a folder is given, or the folder is a file.
        OSError: no space, no permission.
    """
    from fuxictr_me.config.json_schema import SCHEMAS  # here, because it imports torch, which ``--help`` does not need
    from fuxictr_me.io.atomic import write_atomically

    if arguments.out is None:
        if arguments.name is None:
            raise UsageError(f"name one of {', '.join(NAMES)} to print, or a folder to write both to (--out)")
        return to_json(SCHEMAS[arguments.name]())
    folder = Path(arguments.out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in [arguments.name] if arguments.name else NAMES:
        text = to_json(SCHEMAS[name]()) + "\n"
        paths.append(folder / f"{name}.json")
        write_atomically(paths[-1], lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return "\n".join(map(str, paths))


def to_json(schema: dict) -> str:
    """Return a schema as text, one property per line."""
    return json.dumps(schema, indent=1, ensure_ascii=False)
