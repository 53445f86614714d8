"""FuxiCTR's FeatureProcessor, with all that its data sets and the paper's ask of it."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from fuxictr_me.compat import AvazuProcessor, CriteoProcessor
from fuxictr_me.config.expressions import check_preprocess
from fuxictr_me.config.pretrained import check_keys, check_pretrained
from fuxictr_me.data.building.count_tokens import count_tokens
from fuxictr_me.data.building.encode_columns import chunks
from fuxictr_me.data.building.vocabulary_file import write_vocabularies
from fuxictr_me.data.group_column import check_group_column
from fuxictr_me.data.raw import value_checks
from fuxictr_me.data.raw.find_files import raw_files, separator
from fuxictr_me.data.raw.raw_reader import RawRows
from fuxictr_me.data.raw.shared_dtypes import shared_as_one_type
from fuxictr_me.errors import UsageError

BINARY = "binary_classification"
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
COUNTS_IN_ONE_PASS = hasattr(CriteoProcessor, "_collect_statistics")  # the wheel; main counts column by column


class PreparingProcessor(CriteoProcessor, AvazuProcessor):
    """FuxiCTR's, with the functions of its Criteo and Avazu, and the paper's ``squared_log``, for ``preprocess:``.

    FuxiCTR has the former in two classes of their own, which its scripts do not use. A name that none of
    them has is named before data are read. Raw files are read by ``RawRows``; values that would train as something
    else are refused by ``check_rows``, which sees every chunk of rows that is counted or encoded.

    Raises:
        UsageError: an unknown ``preprocess``, a ``group_id`` that merges groups, a ``pretrained_emb`` that cannot be
            used.
    """

    def __init__(self, feature_cols: Iterable[dict] = (), label_col: dict | list = (), **kwargs):
        for column in [*feature_cols, *(label_col if isinstance(label_col, list | tuple) else [label_col])]:
            check_preprocess(f"preprocess of column {column['name']!r}", column.get("preprocess"))
        for column in feature_cols:
            if COUNTS_IN_ONE_PASS and not column.get("remap", True) and column["type"] in ("categorical", "sequence"):
                raise UsageError(
                    f"column {column['name']!r}: FuxiCTR 2.3.10 fails with remap: False but for type: meta"
                )
        super().__init__(feature_cols=list(feature_cols), label_col=label_col, **kwargs)
        self._adapt_columns()
        self._active = {column["name"]: column for column in self.feature_cols if column.get("active") is not False}
        check_group_column(kwargs.get("group_id"), self._active, kwargs)
        self._pretrained = {
            name: _pretrained_keys(column, kwargs.get("embedding_dim"))
            for name, column in self._active.items()
            if "pretrained_emb" in column
        }
        task = kwargs.get("task")
        tasks = task if isinstance(task, list) else [task] * len(self.label_cols)
        labels = {c["name"]: (c["dtype"], one == BINARY) for c, one in zip(self.label_cols, tasks, strict=False)}
        self._raw = RawRows(self.feature_cols, labels, self.dtype_dict)
        self._files, self._watched = [], {}  # what has been read; columns in which values can be wrong

    def _adapt_columns(self) -> None:
        """Let labels and sequences be read as text, and missing labels stay missing."""
        self.feature_cols = [dict(column) for column in self.feature_cols]
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
        self, data_path: str, data_format: str = "csv", sep: str | None = None, n_rows: int | None = None, **_
    ) -> pl.LazyFrame:
        """Return the raw rows of a file, of a folder of files or of a pattern, as a polars query."""
        return self.read_files(raw_files(data_path), sep, n_rows)

    def read_files(self, files: list[Path], sep: str | None = None, n_rows: int | None = None) -> pl.LazyFrame:
        """Return the raw rows of files, one after the other, with each column as the config says it is.

        Args:
            files: csv or parquet; their columns may come in any order.
            sep: between the columns of csv; None: a tab in .tsv files, else a comma.
            n_rows: of each file, at most.

        Raises:
            UsageError: rows that are not whole, a column that is missing or holds another kind of value.
        """
        of_files = [(Path(file), separator(Path(file), sep), n_rows) for file in files]
        self._files += of_files
        frames = [self._raw.read(*of_file) for of_file in of_files]
        names = frames[0].collect_schema().names()
        return pl.concat([frame.select(names) for frame in frames], how="vertical_relaxed")

    def preprocess(self, ddf: pl.LazyFrame) -> pl.LazyFrame:
        """Return FuxiCTR's, with one dtype for fields that share a table, and without filling labels."""
        everything, present = self.feature_cols, ddf.collect_schema().names()
        self.feature_cols = [c for c in everything if c["name"] in self._active or c["name"] in present]
        try:
            rows = super().preprocess(ddf)
        finally:
            self.feature_cols = everything
        rows, as_text = shared_as_one_type(rows, self._active)
        self.dtype_dict |= dict.fromkeys(as_text, str)
        self._watched = value_checks.watched(dict(rows.collect_schema()), self._active)
        if not COUNTS_IN_ONE_PASS:
            for chunk in chunks(rows.select([*self._watched, *self._raw.labels])):
                self.check_rows(chunk)
        return rows

    def check_rows(self, frame: pl.DataFrame) -> None:
        """Refuse preprocessed rows with a label or number that would train as something else.

        Raises:
            UsageError: with file, column, number of rows and the first of them.
        """
        labels = self._raw.labels
        if not value_checks.has_bad_values(frame, labels, self._watched):
            return
        for of_file in self._files:
            rows = super().preprocess(self._raw.read(*of_file))
            rows, _ = shared_as_one_type(rows, self._active)
            error = value_checks.name_bad_values(of_file[0], self._raw.scan(*of_file), rows, labels, self._watched)
            if error is not None:
                raise error
        raise UsageError(f"labels {', '.join(labels)} or columns {', '.join(self._watched)} hold values to refuse")

    def explain(self, error: pl.exceptions.PolarsError) -> UsageError:
        """Return what polars could not read, by file and column."""
        dataset_id = self.feature_map.dataset_id
        for of_file in self._files:
            try:
                super().preprocess(self._raw.read(*of_file)).select(pl.all().count()).collect(engine="streaming")
            except pl.exceptions.PolarsError as cause:
                with contextlib.suppress(pl.exceptions.PolarsError):  # not even as text
                    as_text = self._raw.scan(*of_file, as_text=True)
                    if named := value_checks.name_unreadable(of_file[0], as_text, self._raw.needed):
                        return named
                return UsageError(f"{of_file[0]} does not fit the config of {dataset_id!r}: {_first_cause(cause)}")
        return UsageError(f"the raw data of {dataset_id!r} do not fit its config: {_first_cause(error)}")

    def _collect_statistics(self, train_ddf: pl.LazyFrame, meta_ddf: pl.LazyFrame | None = None) -> dict:
        """FuxiCTR's (wheel), with all tokens counted in one pass where it takes one for each column."""
        if train_ddf.head(1).collect().is_empty():
            raise UsageError("the train split holds no rows")
        everything = self.feature_cols
        counted = [
            column
            for column in everything
            if column.get("active", True)
            and column.get("remap", True)
            and column["type"] in ("categorical", "meta", "sequence")
            and "category_processor" not in column
        ]
        splitters = {
            column["name"]: column.get("splitter", "^") if column["type"] == "sequence" else None for column in counted
        }
        metas = {column["name"] for column in counted if column["type"] == "meta"} if meta_ddf is not None else set()
        of_train = {name: splitter for name, splitter in splitters.items() if name not in metas}
        looked_at = [*self._raw.labels, *self._watched]
        statistics = {}
        for rows, of_rows, also in ((train_ddf, of_train, looked_at), (meta_ddf, dict.fromkeys(metas), [])):
            counts, longest = count_tokens(rows, of_rows, also, self.check_rows)
            for name, count in counts.items():
                statistics[name] = {"value_counts": count}
                if name in longest:
                    statistics[name]["max_len"] = longest[name]
        self._check_tokens({name: of["value_counts"] for name, of in statistics.items()})
        self.feature_cols = [column for column in everything if column["type"] == "numeric"]
        try:
            return super()._collect_statistics(train_ddf, meta_ddf) | statistics
        finally:
            self.feature_cols = everything

    def _check_tokens(self, counts: dict[str, dict]) -> None:
        sharing = {name: c["share_embedding"] for name, c in self._active.items() if c.get("share_embedding")}
        shared = {*sharing, *sharing.values()}
        for name, tokens in counts.items():
            if reserved := [token for token in ("__PAD__", "__OOV__") if token in tokens]:
                raise UsageError(f"column {name!r} holds the value {reserved[0]!r}, which FuxiCTR keeps for itself")
            is_number = self._active[name]["dtype"] == "int" and self._active[name]["type"] == "sequence"
            if (
                is_number
                and name in shared
                and (odd := [t for t in tokens if t and not WHOLE_NUMBER.fullmatch(str(t))])
            ):
                raise UsageError(
                    f"column {name!r} of dtype: int holds {odd[0]!r}, which another field of its table would read as "
                    "another value, or not at all: write whole numbers without leading zeros, or set dtype: str"
                )
            keys = self._pretrained.get(name)
            if keys is not None and not any(str(token) in keys for token in tokens):
                path = self._active[name]["pretrained_emb"]
                raise UsageError(
                    f"pretrained_emb {path}: none of its {len(keys)} keys is a value of field {name!r} "
                    f"(keys such as {min(keys)!r}, values such as {str(next(iter(tokens), ''))!r})"
                )

    def missing_as_value(self, column: str) -> pl.Expr:
        """Return text with ``missing`` where there is none, which is counted as any other value.

        FuxiCTR leaves the value of ``fill_na`` out of the vocabulary, so that missing values share the id of rare ones.
        """
        return pl.when(pl.col(column).is_null() | (pl.col(column) == "")).then(pl.lit("missing")).otherwise(column)

    def squared_log(self, column):
        """A count as a category: v - 2 where v ≤ 2, floor((ln v)²) where v > 2, ``missing`` where there is none.

        Paper, section 5.1 (Criteo). The two ranges do not meet: 2 becomes 0, 3 becomes 1.

        Args:
            column (str): of numbers as text (``dtype: str``), empty where missing.

        Returns:
            pl.Expr: of text.
        """
        v = pl.when(pl.col(column) != "").then(pl.col(column)).cast(pl.Float64)
        bucket = pl.when(v > 2).then(v.log().pow(2).floor()).otherwise(v - 2)
        return pl.when(v.is_null()).then(pl.lit("missing")).otherwise(bucket.cast(pl.Int64).cast(pl.String))

    def save_vocab(self, vocab_file: str) -> None:
        """Write the file that FuxiCTR writes, faster."""
        fields = [
            name for name, spec in self.feature_map.features.items() if spec["type"] in ("categorical", "sequence")
        ]
        write_vocabularies(vocab_file, ((name, self.processor_dict[f"{name}::tokenizer"].vocab) for name in fields))

    def __getstate__(self) -> dict:
        """Leave out of FuxiCTR's pickle what only the build needs."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_files", "_pretrained")}

    def save_for(self, folder):
        """Write FuxiCTR's pickle of it again, with the paths of the folder to which it will be moved."""
        pickled = self.pickle_file
        self.data_dir = self.feature_map.data_dir = str(folder)
        for attribute in ("pickle_file", "json_file", "vocab_file"):
            setattr(self, attribute, str(folder / Path(getattr(self, attribute)).name))
        self.save_pickle(pickled)


@contextlib.contextmanager
def named_errors(processor: PreparingProcessor, dataset_id: str) -> Iterator[None]:
    """Give one line for what is wrong with raw data, where polars and FuxiCTR give a traceback.

    Raises:
        UsageError
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise processor.explain(error) from error
    except IndexError as error:  # FuxiCTR's tokenizer, of a vocabulary without a word
        field = next(reversed(processor.feature_map.features), "?")
        raise UsageError(
            f"field {field!r} of {dataset_id!r} has no value in the training data, or none that occurs "
            "min_categr_count times"
        ) from error


def _first_cause(error: pl.exceptions.PolarsError) -> str:
    """Return what polars says is wrong, without its advice."""
    return " ".join(str(error).split("\n\n")[0].split())


def _pretrained_keys(column: dict, embedding_dim: int | list | None) -> set[str]:
    """Return the keys of a column's ``pretrained_emb`` as text; its vectors must be as wide as the config says.

    Raises:
        UsageError: a file that cannot be used.
    """
    dtype = "str" if column["type"] == "sequence" else column["dtype"]
    return set(check_keys(check_pretrained(column, embedding_dim), column["name"], dtype, column["pretrained_emb"]))
