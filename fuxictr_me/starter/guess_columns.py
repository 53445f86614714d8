"""Guess what each column of a click log is to a model, and say why."""

from dataclasses import dataclass, field

import polars as pl

from fuxictr_me.config.names import check_column_name
from fuxictr_me.data.raw.parse_times import ISO_TIME
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.starter.click_file import ClickFile

SAMPLE_ROWS = 100_000  # in which lists are looked at item by item
COUNTED_EXACTLY = 2_000_000  # rows; the values of longer files are counted by a sketch, to within about 2 %
LIST_SEPARATORS = ("^", "|", ";", ",", " ")
WHOLE_NUMBER = r"^[+-]?\d+$"
WORD = r"^\pL+[.,!?]?$"
AMOUNTS = ("price", "amount", "cost", "count", "num", "qty", "quantity", "age", "score", "duration", "length", "size")
UNIQUE_SHARE, LONG_TEXT, MISSING_MATTERS, FEW_VALUES = 0.9, 60, 0.01, 50
LONGEST_LIST, LONGEST_ITEM = 50, 30  # items of a list, letters of an item
CATEGORICAL, NUMERIC, SEQUENCE, LEFT_OUT = "categorical", "numeric", "sequence", "left out"


@dataclass(frozen=True)
class ColumnGuess:
    """What a column is taken for.

    Attributes:
        name: of the column.
        kind: ``categorical``, ``numeric``, ``sequence`` or ``left out``.
        reason: a phrase that says why.
        settings: further keys of ``feature_cols``.
        distinct: about how many values it has; for a sequence, how many items.
        missing: share of empty values, between 0 and 1.
    """

    name: str
    kind: str
    reason: str
    settings: dict[str, object] = field(default_factory=dict)
    distinct: int | None = None
    missing: float = 0.0


def guess_columns(clicks: ClickFile, label: str, time: str | None) -> list[ColumnGuess]:
    """Guess all columns but the label and the time, in the order of the file.

    Raises:
        UsageError: no column is left for a model.
    """
    names = [name for name in clicks.schema if name not in (label, time)]
    facts = _collect_facts(clicks, names)
    sample = clicks.rows.select(names).head(SAMPLE_ROWS).collect()
    guesses = [
        _guess(name, clicks.schema[name], facts[name], sample[name])
        if _is_column_name(name)
        else ColumnGuess(name, LEFT_OUT, "a config cannot hold its name: rename it")
        for name in names
    ]
    guesses = _share_embeddings(guesses, sample)
    if all(guess.kind == LEFT_OUT for guess in guesses):
        reasons = "; ".join(f"{guess.name}: {guess.reason}" for guess in guesses)
        raise UsageError(f"{clicks.path} has no column that a model could use ({reasons or 'only the label'})")
    return guesses


def check_column(clicks: ClickFile, option: str, name: str) -> None:
    """Refuse a column that is not in the file, or whose name a config cannot hold.

    Raises:
        UsageError: with the nearest name.
    """
    if name not in clicks.schema:
        raise unknown(f"column of {option}", name, clicks.schema)
    check_column_name(name)


def _is_column_name(name: str) -> bool:
    try:
        check_column_name(name)
    except UsageError:
        return False
    return True


def _collect_facts(clicks: ClickFile, names: list[str]) -> dict[str, dict[str, float]]:
    """Return column -> rows, missing, distinct and, for text, the shares of what its values look like."""
    rows = clicks.rows.select(pl.len()).collect(engine="streaming").item()
    count_distinct = pl.Expr.n_unique if rows <= COUNTED_EXACTLY else pl.Expr.approx_n_unique
    queries: list[tuple[str, str, pl.Expr]] = []
    for name in names:
        column, dtype = pl.col(name), clicks.schema[name]
        queries += [(name, "rows", pl.lit(rows)), (name, "missing", column.null_count())]
        if dtype.is_nested() or dtype == pl.Binary:
            continue
        queries.append((name, "distinct", count_distinct(column.drop_nulls())))
        if dtype == pl.String:
            number = column.cast(pl.Float64, strict=False).is_finite().sum() / column.count()
            queries += [
                (name, "whole", column.str.contains(WHOLE_NUMBER).mean()),
                (name, "number", number),
                (name, "time", column.str.contains(ISO_TIME).mean()),
                (name, "length", column.str.len_chars().mean()),
            ]
    results = clicks.rows.select(expr.alias(str(i)) for i, (*_, expr) in enumerate(queries))
    facts: dict[str, dict[str, float]] = {name: {} for name in names}
    for (name, fact, _), value in zip(queries, results.collect(engine="streaming").row(0), strict=True):
        facts[name][fact] = value or 0
    return facts


def _guess(name: str, dtype: pl.DataType, facts: dict[str, float], sample: pl.Series) -> ColumnGuess:
    """Guess one column; the first rule that holds decides."""
    rows, missing = facts["rows"], facts["missing"] / max(facts["rows"], 1)
    distinct = int(facts.get("distinct", 0))
    present = rows - facts["missing"]

    def leave_out(reason: str) -> ColumnGuess:
        return ColumnGuess(name, LEFT_OUT, reason, distinct=distinct or None, missing=missing)

    if not present:
        return leave_out("empty in every row")
    if isinstance(dtype, pl.List | pl.Array):
        return _guess_list(name, dtype, sample, missing) or leave_out(f"lists of {dtype.inner}, not of text or ids")
    if dtype.is_nested() or dtype == pl.Binary:
        return leave_out(f"values of type {dtype}")
    if dtype.is_temporal() or facts.get("time", 0) > UNIQUE_SHARE:
        return leave_out("a time: name it with --time, or derive a column such as the hour from it")
    if distinct == 1 and not facts["missing"]:
        return leave_out("the same value in every row")
    whole = dtype.is_integer() or facts.get("whole", 0) == 1
    number = whole or dtype.is_float() or dtype.is_decimal() or facts.get("number", 0) == 1
    amount = any(word in name.lower().split("_") for word in AMOUNTS) and distinct > FEW_VALUES
    if number and (not whole or amount):
        median = sample.cast(pl.Float64, strict=False).to_frame().select(pl.all().median()).item()
        settings: dict[str, object] = {"dtype": "float", "normalizer": "StandardScaler"}
        if facts["missing"]:
            settings["fill_na"] = float(f"{median or 0.0:.6g}")
        return ColumnGuess(name, NUMERIC, "numbers", settings, distinct, missing)
    if dtype == pl.String and not whole and (sequence := _guess_text_list(name, sample, missing)):
        return sequence
    if facts.get("length", 0) > LONG_TEXT:
        return leave_out(f"long text, {facts['length']:.0f} characters on average")
    if distinct > UNIQUE_SHARE * present and present > FEW_VALUES:
        return leave_out("a different value in nearly every row")
    ids: dict[str, object] = {"dtype": "str"}
    if missing > MISSING_MATTERS:
        ids["preprocess"] = "missing_as_value"
    reason = "whole numbers, taken as ids" if whole else "truth values" if dtype == pl.Boolean else "text"
    return ColumnGuess(name, CATEGORICAL, reason, ids, distinct, missing)


def _guess_list(name: str, dtype: pl.List | pl.Array, sample: pl.Series, missing: float) -> ColumnGuess | None:
    """Return a sequence for a parquet column of lists of text or of whole numbers."""
    if not (dtype.inner == pl.String or dtype.inner.is_integer()):
        return None
    lists = sample.arr.to_list() if isinstance(dtype, pl.Array) else sample
    items = lists.explode().cast(pl.String).drop_nulls()
    free = [text for text in LIST_SEPARATORS if not items.str.contains(text, literal=True).any()]
    if not free:
        return None
    return _sequence(name, items, lists.list.len(), {"splitter": free[0]}, "lists", missing)


def _guess_text_list(name: str, sample: pl.Series, missing: float) -> ColumnGuess | None:
    """Return a sequence for text that a separator divides into items, most of which occur in several rows."""
    present = sample.drop_nulls()
    for separator in LIST_SEPARATORS:
        parts = present.str.split(separator)
        lengths = parts.list.len()
        items = parts.explode()
        items = items.filter(items != "")
        if _share(lengths > 1) < 0.3 or _share(items.str.len_chars() > LONGEST_ITEM) > 0.1:
            continue
        if separator == " " and _share(items.str.contains(WORD)) > 0.8:
            continue  # sentences, not lists of ids
        repeats = len(items) / max(items.n_unique(), 1)
        if repeats < 3 or (separator in (" ", ",") and repeats < 2 * len(present) / max(present.n_unique(), 1)):
            continue
        words = {" ": "spaces", ",": "commas"}.get(separator, separator)
        return _sequence(name, items, lengths, {"splitter": separator}, f"lists joined by {words}", missing)
    return None


def _sequence(
    name: str, items: pl.Series, lengths: pl.Series, settings: dict[str, object], reason: str, missing: float
) -> ColumnGuess:
    longest = min(LONGEST_LIST, max(1, int(lengths.quantile(0.95, "higher") or 1)))
    settings = {"dtype": "str", **settings, "max_len": longest, "padding": "pre"}
    settings["feature_encoder"] = "layers.MaskedAveragePooling()"
    return ColumnGuess(name, SEQUENCE, reason, settings, items.n_unique(), missing)


def _share(flags: pl.Series) -> float:
    """Return the share of true values; 0 if there are none."""
    return int(flags.sum()) / max(len(flags), 1)


def _share_embeddings(guesses: list[ColumnGuess], sample: pl.DataFrame) -> list[ColumnGuess]:
    """Let each sequence use the table of the categorical column whose values its items are, if there is one."""
    shared = []
    for guess in guesses:
        if guess.kind == SEQUENCE:
            items = set(_items_of(sample[guess.name], str(guess.settings["splitter"])))
            for other in guesses:
                if other.kind != CATEGORICAL or not items:
                    continue
                values = set(sample[other.name].cast(pl.String).drop_nulls().to_list())
                if len(items & values) > 0.8 * len(items):
                    guess.settings["share_embedding"] = other.name
                    break
        shared.append(guess)
    return shared


def _items_of(column: pl.Series, splitter: str) -> list[str]:
    if column.dtype == pl.String:
        column = column.str.split(splitter)
    elif isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    return [item for item in column.explode().cast(pl.String).drop_nulls().unique().to_list() if item]
