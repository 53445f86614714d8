"""Check the columns of a data set: every key, every value, and how columns refer to each other."""

from collections.abc import Iterable

from fuxictr_me.config.names import check_column_name, check_field_name, check_unique
from fuxictr_me.config.options import COLUMN_OPTIONS, LABEL_OPTIONS, SPEC_OPTIONS, WITH_VOCABULARY, Option
from fuxictr_me.config.value_kinds import Integer, Number, short_repr
from fuxictr_me.errors import UsageError, unknown

NEEDED = ("name", "dtype", "type")


def check_columns(feature_cols: object, label_col: object) -> list[dict]:
    """Check ``feature_cols`` and ``label_col`` of a data set before any data are read.

    Args:
        feature_cols: a list of columns.
        label_col: a column, or a list of one for each task.

    Returns:
        The columns, copied, with ``active`` where it was left out.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    if not isinstance(feature_cols, list):
        raise UsageError(f"feature_cols must be a list of columns, got {short_repr(feature_cols)}")
    columns = [{"active": True, **check_column(column)} for column in feature_cols]
    fields = [name for column in columns for name in get_column_names(column)]
    labels = [name for column in check_label_columns(label_col) for name in get_column_names(column)]
    check_unique("column", fields)
    for label in labels:
        if any(label in get_column_names(column) and column["active"] for column in columns):
            raise UsageError(f"column {label!r} is in feature_cols and in label_col: a label is no feature")
    if columns and not any(column["active"] and column["type"] != "meta" for column in columns):
        raise UsageError("feature_cols has no active field: at least one column must be active and not of type meta")
    _check_sharing(columns)
    return columns


def check_column(column: object) -> dict:
    """Return a column of ``feature_cols``, of which every key and value is checked by itself."""
    if not isinstance(column, dict):
        raise UsageError(f"a column needs {', '.join(NEEDED)}; {short_repr(column)} is none")
    name = _shown_name(column)
    _check_keys(column, COLUMN_OPTIONS, f"key of column {name}")
    if absent := [key for key in NEEDED if key not in column]:
        raise UsageError(f"a column needs {', '.join(NEEDED)}; {short_repr(column)} lacks {', '.join(absent)}")
    for each in _checked_names(column):
        for key in ("type", "dtype"):
            COLUMN_OPTIONS[key].check(column[key], f" of column {each!r}")
    kind = column["type"]
    for key, value in column.items():
        if kind not in COLUMN_OPTIONS[key].types:
            readers = ", ".join(COLUMN_OPTIONS[key].types)
            raise UsageError(f"{key} of column {name} is not read: its type is {kind}, and it is for {readers}")
        if key not in ("name", "fill_na"):
            COLUMN_OPTIONS[key].check(value, f" of column {name}")
    _check_fill(column, name)
    if kind == "numeric" and column["dtype"] == "str":
        raise UsageError(f"dtype of column {name} must be float or int, for its type is numeric, got 'str'")
    if kind == "embedding" and "pretrain_dim" not in column:
        raise UsageError(f"column {name} of type embedding needs pretrain_dim, the width of its vectors")
    if column.get("active", True) and kind != "meta":
        for each in get_column_names(column):
            check_field_name(each)
    return column


def check_label_columns(label_col: object) -> list[dict]:
    """Return the columns of ``label_col``, each checked.

    Raises:
        UsageError: no column, no list of columns, or a key or value that cannot be.
    """
    labels = label_col if isinstance(label_col, list) else [label_col]
    if not labels:
        raise UsageError("label_col must be a column such as {name: click, dtype: float}, got []")
    for column in labels:
        if not isinstance(column, dict):
            raise UsageError(
                f"label_col must be a column such as {{name: click, dtype: float}}, got {short_repr(label_col)}"
            )
        name = _shown_name(column)
        _check_keys(column, LABEL_OPTIONS, f"key of label {name}")
        if absent := [key for key in ("name", "dtype") if key not in column]:
            raise UsageError(f"label_col needs name, dtype; {short_repr(column)} lacks {', '.join(absent)}")
        check_column_name(column["name"])
        for key in column.keys() - {"name"}:
            LABEL_OPTIONS[key].check(column[key], f" of column {name}")
    check_unique("label", [column["name"] for column in labels])
    return labels


def check_feature_specs(specs: object) -> None:
    """Check ``feature_specs``, by which a run changes fields of a built data set.

    Raises:
        UsageError: no list of fields with what changes, or a key or value that cannot be.
    """
    if specs is None:
        return
    form = "feature_specs must be a list such as [{name: history, feature_encoder: layers.MaskedSumPooling()}]"
    if not isinstance(specs, list):
        raise UsageError(f"{form}, got {short_repr(specs)}")
    for spec in specs:
        if not isinstance(spec, dict) or "name" not in spec:
            raise UsageError(f"{form}, got {short_repr(spec)}")
        _check_keys(spec, SPEC_OPTIONS, "key of feature_specs")
        for each in _checked_names(spec):
            for key in spec.keys() - {"name"}:
                SPEC_OPTIONS[key].check(spec[key], f" of {each!r} in feature_specs")


def get_column_names(column: dict) -> list[str]:
    """Return the names of a column: FuxiCTR takes one, or a list of columns that are alike."""
    return column["name"] if isinstance(column["name"], list) else [column["name"]]


def _checked_names(column: dict) -> list[str]:
    if column["name"] == []:
        raise UsageError("name of a column must be text, or a list of it, got []")
    return [check_column_name(name) for name in get_column_names(column)]


def _check_keys(column: dict, options: dict[str, Option], kind: str) -> None:
    former = {name: option.name for option in options.values() for name in option.former}
    for key in column:
        if key in former:
            raise UsageError(f"unknown {kind} {key!r}; did you mean {former[key]!r}?")
        if key not in options:
            raise unknown(kind, key if isinstance(key, str) else short_repr(key), options)


def _check_fill(column: dict, name: str) -> None:
    """``fill_na`` takes the place of raw values, so it is of their type; null leaves them empty."""
    if "fill_na" not in column:
        return
    value, dtype = column["fill_na"], column["dtype"]
    if value is None:
        if column["type"] in ("numeric", "meta"):
            raise UsageError(f"fill_na of column {name} must not be null: a {column['type']} column needs a value")
        return
    number = {"int": Integer(-(2**63), 2**63 - 1), "float": Number("a number")}
    if dtype == "str" and not isinstance(value, str):
        raise UsageError(f"fill_na of column {name} must be text, as its dtype is str, got {short_repr(value)}")
    if dtype in number and not number[dtype].accepts(value):
        raise UsageError(f"fill_na of column {name} must be a number of its dtype {dtype}, got {short_repr(value)}")


def _check_sharing(columns: Iterable[dict]) -> None:
    """Check that a shared table is that of an active field, listed before, of equal dtype, with a table of its own."""
    every = {name: column for column in columns for name in get_column_names(column)}
    before: dict[str, dict] = {}
    for column in columns:
        for name in get_column_names(column):
            base = column.get("share_embedding")
            if base is not None and column["active"]:
                _check_base(name, column, base, every, before)
            before[name] = column


def _check_base(name: str, column: dict, base: str, every: dict[str, dict], before: dict[str, dict]) -> None:
    what = f"share_embedding of column {name!r}"
    if base not in every:
        raise unknown(what, base, every)
    if base == name:
        raise UsageError(f"{what} names the column itself")
    if not every[base]["active"]:
        raise UsageError(f"{what} names {base!r}, which is not active")
    if base not in before:
        raise UsageError(f"{what} names {base!r}, which comes later: list it before {name!r}")
    if every[base]["type"] not in WITH_VOCABULARY:
        raise UsageError(f"{what} names {base!r}, which is {every[base]['type']} and has no ids")
    if "share_embedding" in every[base]:
        shares = every[base]["share_embedding"]
        raise UsageError(f"{what} names {base!r}, which has no table of its own: name {shares!r}")
    for key in ("dtype", "embedding_dim", "remap"):
        ours, theirs = (one.get(key, COLUMN_OPTIONS[key].default) for one in (column, every[base]))
        if ours != theirs:
            raise UsageError(
                f"{what} names {base!r}, whose {key} is {theirs}, but that of {name!r} is {ours}: make them equal"
            )


def _shown_name(column: dict) -> str:
    name = column.get("name")
    return short_repr(name[0]) if isinstance(name, list) and len(name) == 1 else short_repr(name)
