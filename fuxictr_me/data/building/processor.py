"""FuxiCTR's FeatureProcessor, extended by what the bundled data sets and the paper need."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from fuxictr_me.compat import AvazuProcessor, CriteoProcessor
from fuxictr_me.config.expressions import check_preprocess
from fuxictr_me.config.pretrained import check_keys, check_pretrained
from fuxictr_me.data.building.count_tokens import count_tokens
from fuxictr_me.data.building.encode_columns import iterate_chunks
from fuxictr_me.data.building.vocabulary_file import write_vocabularies
from fuxictr_me.data.group_column import check_group_column
from fuxictr_me.data.raw.find_files import raw_files, separator
from fuxictr_me.data.raw.raw_reader import RawReader
from fuxictr_me.data.raw.shared_dtypes import unify_shared_dtypes
from fuxictr_me.data.raw.value_checks import checked_columns, has_bad_values, name_bad_values, name_unreadable
from fuxictr_me.data.row_checks import binary_labels
from fuxictr_me.errors import UsageError

WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
COUNTS_IN_ONE_PASS = hasattr(CriteoProcessor, "_collect_statistics")  # the wheel; main counts column by column


class PreparingProcessor(CriteoProcessor, AvazuProcessor):
    """FuxiCTR's processor with the ``preprocess:`` functions of its Criteo and Avazu classes and of the paper.

    FuxiCTR has the former in two separate classes, which its scripts do not use. An unknown function is refused before
    data are read. Raw files are read by ``RawReader``. ``check_rows`` sees every chunk of rows that is counted or
    encoded, and refuses values that would train as other values.

    Args:
        feature_cols: of the config.
        label_col: of the config.
        **kwargs: further settings of a run.

    Raises:
        UsageError: an unknown ``preprocess``, a ``group_id`` that merges groups, or an unusable ``pretrained_emb``.
    """

    feature_cols: list[dict]
    label_cols: list[dict]

    def __init__(self, feature_cols: Iterable[dict] = (), label_col: dict | Sequence[dict] = (), **kwargs: Any) -> None:
        feature_cols = list(feature_cols)
        for column in [*feature_cols, *(label_col if isinstance(label_col, list | tuple) else [label_col])]:
            check_preprocess(f"preprocess of column {column['name']!r}", column.get("preprocess"))
        for column in feature_cols:
            if COUNTS_IN_ONE_PASS and not column.get("remap", True) and column["type"] in ("categorical", "sequence"):
                raise UsageError(
                    f"column {column['name']!r}: FuxiCTR 2.3.10 fails with remap: False except for type: meta"
                )
        super().__init__(feature_cols=feature_cols, label_col=label_col, **kwargs)
        self._adapt_columns()
        self._active = {column["name"]: column for column in self.feature_cols if column.get("active") is not False}
        check_group_column(kwargs.get("group_id"), self._active, kwargs)
        self._pretrained = {
            name: _pretrained_keys(column, kwargs.get("embedding_dim"))
            for name, column in self._active.items()
            if "pretrained_emb" in column
        }
        binary = binary_labels(self.feature_map.labels, kwargs.get("task"))
        labels = {column["name"]: (column["dtype"], column["name"] in binary) for column in self.label_cols}
        self._raw = RawReader(self.feature_cols, labels, self.dtype_dict)
        self._files: list[tuple[Path, str, int | None]] = []  # files that were read, their separator and row limit
        self._checked: dict[str, dict] = {}  # columns that can hold values to refuse

    def _adapt_columns(self) -> None:
        """Read labels and sequences as text, and leave missing labels missing."""
        self.feature_cols = [{"active": True, **column} for column in self.feature_cols]
        for column in self.feature_cols:
            if column["type"] == "sequence":
                self.dtype_dict[column["name"]] = str
                fill = column.get("fill_na")
                column["fill_na"] = "" if fill is None else str(fill)
                if not isinstance(column.get("splitter", "^"), str) or not column.get("splitter", "^"):
                    raise UsageError(f"splitter of column {column['name']!r} must be text, got {column['splitter']!r}")
            if column["type"] == "embedding":
                column["fill_na"] = None  # FuxiCTR would fill lists with a number, which polars refuses
        self.label_cols = [{**column, "fill_na": None} for column in self.label_cols]
        self.dtype_dict |= {column["name"]: str for column in self.label_cols}

    def read_data(
        self, data_path: str, data_format: str = "csv", sep: str | None = None, n_rows: int | None = None, **_: object
    ) -> pl.LazyFrame:
        """Return the raw rows of a file, a folder of files or a pattern, as a polars query. FuxiCTR calls this."""
        return self.read_files(raw_files(data_path), sep, n_rows)

    def read_files(self, files: list[Path], sep: str | None = None, n_rows: int | None = None) -> pl.LazyFrame:
        """Return the raw rows of files, one file after another, with each column in the form that the config declares.

        Args:
            files: csv or parquet; their columns may be in different orders.
            sep: separator of csv columns; None means a tab in .tsv files and a comma in others.
            n_rows: most rows to read of each file.

        Raises:
            UsageError: incomplete rows, or a column that is missing or holds another kind of value.
        """
        calls = [(file, separator(file, sep), n_rows) for file in map(Path, files)]
        self._files += calls
        frames = [self._raw.read(*call) for call in calls]
        names = frames[0].collect_schema().names()
        return pl.concat([frame.select(names) for frame in frames], how="vertical_relaxed")

    def scan_unparsed(self, names: Sequence[str]) -> pl.LazyFrame:
        """Return columns of the files that were read, in the same order of rows; those of csv as text."""
        return pl.concat([self._raw.scan(*call, parse=False).select(names) for call in self._files])

    def preprocess(self, ddf: pl.LazyFrame) -> pl.LazyFrame:
        """Preprocess as FuxiCTR does, but do not fill labels, and give fields that share a table one dtype."""
        everything, present = self.feature_cols, ddf.collect_schema().names()
        self.feature_cols = [c for c in everything if c["name"] in self._active or c["name"] in present]
        try:
            rows = super().preprocess(ddf)
        finally:
            self.feature_cols = everything
        rows, as_text = unify_shared_dtypes(rows, self._active)
        self.dtype_dict |= dict.fromkeys(as_text, str)
        self._checked = checked_columns(dict(rows.collect_schema()), self._active)
        if not COUNTS_IN_ONE_PASS:
            for chunk in iterate_chunks(rows.select([*self._checked, *self._raw.labels])):
                self.check_rows(chunk)
        return rows

    def check_rows(self, frame: pl.DataFrame) -> None:
        """Refuse preprocessed rows in which a label or number would train as another value.

        Raises:
            UsageError: names the file, the column, the number of rows and the first row.
        """
        labels = self._raw.labels
        if not has_bad_values(frame, labels, self._checked):
            return
        for call in self._files:
            rows = super().preprocess(self._raw.read(*call))
            rows, _ = unify_shared_dtypes(rows, self._active)
            error = name_bad_values(call[0], self._raw.scan(*call), rows, labels, self._checked)
            if error is not None:
                raise error
        raise UsageError(f"labels {', '.join(labels)} or columns {', '.join(self._checked)} hold values to refuse")

    def explain(self, error: pl.exceptions.PolarsError) -> UsageError:
        """Return an error that names the file and column that polars could not read."""
        dataset_id = self.feature_map.dataset_id
        for call in self._files:
            try:
                super().preprocess(self._raw.read(*call)).select(pl.all().count()).collect(engine="streaming")
            except pl.exceptions.PolarsError as cause:
                with contextlib.suppress(pl.exceptions.PolarsError):  # it cannot be read as text either
                    as_text = self._raw.scan(*call, parse=False)
                    if named := name_unreadable(call[0], as_text, self._raw.needed):
                        return named
                return UsageError(f"{call[0]} does not fit the config of {dataset_id!r}: {_first_cause(cause)}")
        return UsageError(f"the raw data of {dataset_id!r} do not fit its config: {_first_cause(error)}")

    def _collect_statistics(self, train_ddf: pl.LazyFrame, meta_ddf: pl.LazyFrame | None = None) -> dict:
        """Return the statistics that FuxiCTR's wheel collects; all tokens are counted in one pass over the rows."""
        if train_ddf.head(1).collect().is_empty():
            raise UsageError("the train split holds no rows")
        everything = self.feature_cols
        counted = {
            column["name"]: column
            for column in everything
            if column.get("active", True)
            and column.get("remap", True)
            and column["type"] in ("categorical", "meta", "sequence")
            and "category_processor" not in column
        }
        splitters = {name: c.get("splitter", "^") if c["type"] == "sequence" else None for name, c in counted.items()}
        metas = [] if meta_ddf is None else [name for name, column in counted.items() if column["type"] == "meta"]
        in_train = {name: splitter for name, splitter in splitters.items() if name not in metas}
        checked = [*self._raw.labels, *self._checked]
        statistics: dict[str, dict] = {}
        passes = [(train_ddf, in_train, checked)]
        if meta_ddf is not None:
            passes.append((meta_ddf, dict.fromkeys(metas), []))
        for rows, columns, also in passes:
            counts, longest = count_tokens(rows, columns, also, self.check_rows)
            for name, count in counts.items():
                statistics[name] = {"value_counts": count}
                if name in longest:
                    statistics[name]["max_len"] = longest[name]
        self._check_tokens({name: entry["value_counts"] for name, entry in statistics.items()})
        self.feature_cols = [column for column in everything if column["type"] == "numeric"]
        try:
            return super()._collect_statistics(train_ddf, meta_ddf) | statistics
        finally:
            self.feature_cols = everything

    def _check_tokens(self, counts: dict[str, dict]) -> None:
        """Refuse tokens that FuxiCTR reserves, numbers that a shared table would change, and unused pretrained keys."""
        sharing = {name: c["share_embedding"] for name, c in self._active.items() if c.get("share_embedding")}
        shared = {*sharing, *sharing.values()}
        for name, tokens in counts.items():
            column, keys = self._active[name], self._pretrained.get(name)
            if reserved := [token for token in ("__PAD__", "__OOV__") if token in tokens]:
                raise UsageError(f"column {name!r} holds the value {reserved[0]!r}, which FuxiCTR keeps for itself")
            is_shared_number = name in shared and column["dtype"] == "int" and column["type"] == "sequence"
            odd = (token for token in tokens if token and not WHOLE_NUMBER.fullmatch(str(token)))
            if is_shared_number and (first := next(odd, None)) is not None:
                raise UsageError(
                    f"column {name!r} of dtype: int holds {first!r}, which another field of its table would read as "
                    "another value, or not at all: write whole numbers without leading zeros, or set dtype: str"
                )
            if keys is not None and not any(str(token) in keys for token in tokens):
                raise UsageError(
                    f"pretrained_emb {column['pretrained_emb']}: none of its {len(keys)} keys is a value of field "
                    f"{name!r} (keys such as {min(keys)!r}, values such as {str(next(iter(tokens), ''))!r})"
                )

    def missing_as_value(self, column: str) -> pl.Expr:
        """Return text in which missing values are ``missing``, which is counted as any other value.

        FuxiCTR leaves the value of ``fill_na`` out of the vocabulary, so that missing values share the id of rare ones.
        """
        return pl.when(pl.col(column).is_null() | (pl.col(column) == "")).then(pl.lit("missing")).otherwise(column)

    def squared_log(self, column: str) -> pl.Expr:
        """Return counts as categories: v - 2 for v ≤ 2, floor((ln v)²) for v > 2, ``missing`` for a missing count.

        Source: paper, section 5.1 (Criteo). The two ranges do not meet: 2 becomes 0, 3 becomes 1.

        Args:
            column: name of a column with numbers as text (``dtype: str``), empty where missing.
        """
        v = pl.when(pl.col(column) != "").then(pl.col(column)).cast(pl.Float64)
        bucket = pl.when(v > 2).then(v.log().pow(2).floor()).otherwise(v - 2)
        return pl.when(v.is_null()).then(pl.lit("missing")).otherwise(bucket.cast(pl.Int64).cast(pl.String))

    def save_vocab(self, vocab_file: str) -> None:
        """Write the vocabulary file that FuxiCTR writes, only faster."""
        fields = [
            name for name, spec in self.feature_map.features.items() if spec["type"] in ("categorical", "sequence")
        ]
        write_vocabularies(vocab_file, ((name, self.processor_dict[f"{name}::tokenizer"].vocab) for name in fields))

    def __getstate__(self) -> dict:
        """Return the state without what only the build needs, for FuxiCTR's pickle."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_files", "_pretrained")}

    def save_for(self, folder: Path) -> None:
        """Write FuxiCTR's pickle again, with the paths of the folder into which it will be moved."""
        pickled = self.pickle_file
        self.data_dir = self.feature_map.data_dir = str(folder)
        for attribute in ("pickle_file", "json_file", "vocab_file"):
            setattr(self, attribute, str(folder / Path(getattr(self, attribute)).name))
        self.save_pickle(pickled)


@contextlib.contextmanager
def explain_errors(processor: PreparingProcessor, dataset_id: str) -> Iterator[None]:
    """Turn the errors of polars and FuxiCTR into a one-line UsageError about the raw data.

    Raises:
        UsageError: the raw data do not fit the config.
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise processor.explain(error) from error
    except IndexError as error:  # FuxiCTR's tokenizer raises it for an empty vocabulary
        field = next(reversed(processor.feature_map.features), "?")
        raise UsageError(
            f"field {field!r} of {dataset_id!r} has no value in the training data, or none that occurs "
            "min_categr_count times"
        ) from error


def _first_cause(error: pl.exceptions.PolarsError) -> str:
    """Return polars' message without its advice, in one line."""
    return " ".join(str(error).split("\n\n")[0].split())


def _pretrained_keys(column: dict, embedding_dim: object) -> set[str]:
    """Return the keys of a column's ``pretrained_emb`` as text, after a check of the vectors' width.

    Raises:
        UsageError: the file cannot be used.
    """
    dtype = "str" if column["type"] == "sequence" else column["dtype"]
    return set(check_keys(check_pretrained(column, embedding_dim), column["name"], dtype, column["pretrained_emb"]))
