"""Write the tables of options in the docs, and the JSON schemas of the bundled configs, from the option table.

Run ``python docs/write_option_tables.py`` (or ``make tables``) after a change of an option. A test fails if a file is
not up to date. A table stands between ``<!-- options: NAME -->`` and ``<!-- end of options -->``.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from fuxictr_me.commands.schema import to_json
from fuxictr_me.config.dataset_options import COLUMN_OPTIONS, DATASET_OPTIONS, READING_OPTIONS
from fuxictr_me.config.family_options import FAMILY_OPTIONS
from fuxictr_me.config.json_schema import SCHEMAS
from fuxictr_me.config.model_options import COMMON_OPTIONS, PENALTY_OPTIONS, SPEED_OPTIONS
from fuxictr_me.config.options import UNSET, Option
from fuxictr_me.config.training_options import TRAINING_OPTIONS

ROOT = Path(__file__).resolve().parent.parent
MODELS = sorted({model for option in FAMILY_OPTIONS.values() for model in option.models})
PAGES = ["docs/your_data.md", "model_zoo/README.md", *(f"model_zoo/{model}/README.md" for model in MODELS)]
BLOCK = re.compile(r"(<!-- options: ([^>]+) -->\n).*?(<!-- end of options -->)", re.DOTALL)
OF_EVERY_MODEL = ("num_sets", "embedding_dim", *list(COMMON_OPTIONS)[1:], "callbacks")
OF_TRAINING = [key for key in TRAINING_OPTIONS if key not in ("embedding_dim", "callbacks", "model_id")]


def make_files() -> dict[Path, str]:
    """Return the content of each file that this script writes."""
    files = {ROOT / page: fill_tables((ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
    for name, make_schema in SCHEMAS.items():
        files[ROOT / "model_zoo" / "schema" / f"{name}.json"] = to_json(make_schema()) + "\n"
    return files


def fill_tables(text: str) -> str:
    """Return a page with its tables replaced by the current ones."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{make_table(match[2])}\n\n{match[3]}", text)


def make_table(name: str) -> str:
    """Return the Markdown table of this name."""
    if name == "columns":
        rows = ([_key(o), _types(o), _value(o.default), o.doc] for o in COLUMN_OPTIONS.values())
        return _table(("key of a column", "columns of type", "default", "meaning"), rows)
    if name in MODELS:
        shared = [(COMMON_OPTIONS["num_sets"], 4), (TRAINING_OPTIONS["embedding_dim"], 10)]
        own = [(option, option.models[name]) for option in FAMILY_OPTIONS.values() if name in option.models]
        options = (shared[1:] if name == "Mixed_ME" else shared) + own  # its num_sets follows from interactions
        return _table(("key", "default", "meaning"), ([_key(o), _value(default), o.doc] for o, default in options))
    tables: dict[str, Iterable[Option]] = {
        "data sets": DATASET_OPTIONS.values(),
        "every model": [(COMMON_OPTIONS | TRAINING_OPTIONS)[key] for key in OF_EVERY_MODEL],
        "speed": SPEED_OPTIONS.values(),
        "penalties": PENALTY_OPTIONS.values(),
        "training": [TRAINING_OPTIONS[key] for key in OF_TRAINING],
        "reading": READING_OPTIONS.values(),
    }
    return _table(("key", "default", "meaning"), ([_key(o), _value(o.default), o.doc] for o in tables[name]))


def _table(header: tuple[str, ...], rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join(lines)


def _key(option: Option) -> str:
    return f"`{option.name}`"


def _types(option: Option) -> str:
    return ", ".join(option.column_types) if option.column_types else "any"


def _value(value: object) -> str:
    """Return a default as it is written in YAML, and an empty text if there is none."""
    if value is UNSET:
        return ""
    if value is None:
        return "`null`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"`{value}`" if value != "" else '`""`'
    return f"{value:g}"


if __name__ == "__main__":
    for path, content in make_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
