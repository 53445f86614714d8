"""What an option is: one setting of a config, declared once in the tables of this package.

The tables are in ``dataset_options``, ``training_options``, ``model_options`` and ``family_options``. The accepted
keys, the checks of values, the tables in the docs and the JSON schemas come from them.
"""

from dataclasses import dataclass, field

from fuxictr_me.config.value_kinds import Kind


class _Unset:
    def __repr__(self) -> str:
        return "not set"


UNSET = _Unset()


@dataclass(frozen=True)
class Option:
    """A setting of a config.

    Attributes:
        name: its key.
        kind: what a value may be.
        doc: what it does, in one line of Markdown, as the docs and the JSON schemas show it.
        default: what applies if the key is absent; ``UNSET`` if the key is required, or if nothing applies.
        column_types: for an option of a column: the types of columns that use it.
        models: for an option that only some models have: the default of each of them by model name.
        former_names: names in FuxiCTR 1.x or frequent mistakes, which errors translate to ``name``.
    """

    name: str
    kind: Kind
    doc: str
    default: object = UNSET
    column_types: tuple[str, ...] = ()
    models: dict[str, object] = field(default_factory=dict)
    former_names: tuple[str, ...] = ()

    def check(self, value: object, where: str = "") -> None:
        """Raise a UsageError that names the option and ``where`` it stands unless ``value`` is of its kind."""
        self.kind.check(f"{self.name}{where}", value)


def index_by_name(*options: Option) -> dict[str, Option]:
    """Return a table of options: name -> option."""
    return {option.name: option for option in options}
