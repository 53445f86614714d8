"""FuxiCTR's FeatureProcessor, with all that its data sets and the paper's ask of it."""

import contextlib
from pathlib import Path

import polars as pl

from fuxictr_me.compat import AvazuProcessor, CriteoProcessor
from fuxictr_me.config.expressions import check_preprocess
from fuxictr_me.data.counting import count_tokens
from fuxictr_me.data.raw_files import raw_files, scan
from fuxictr_me.errors import UsageError


class PreparingProcessor(CriteoProcessor, AvazuProcessor):
    """FuxiCTR's, with the functions of its Criteo and Avazu, and the paper's ``squared_log``, for ``preprocess:``.

    FuxiCTR has the former in two classes of their own, which its scripts do not use. A name that none of
    them has is named before data are read.
    """

    def __init__(self, feature_cols=(), label_col=(), **kwargs):
        for column in [*feature_cols, *(label_col if isinstance(label_col, list | tuple) else [label_col])]:
            check_preprocess(f"preprocess of column {column['name']!r}", column.get("preprocess"))
        super().__init__(feature_cols=list(feature_cols), label_col=label_col, **kwargs)

    def read_data(
        self, data_path: str, data_format: str = "csv", sep: str | None = None, n_rows: int | None = None, **_: object
    ) -> pl.LazyFrame:
        """Read raw files as FuxiCTR does, but each by its own ending, paths taken literally, columns joined by name."""
        return self.read_files(raw_files(data_path), sep, n_rows)

    def read_files(self, files: list[Path], sep: str | None = None, n_rows: int | None = None) -> pl.LazyFrame:
        """Return the raw rows of files, one file after the other; see ``raw_files.scan``."""
        return scan(files, self.dtype_dict, sep, n_rows)

    def _collect_statistics(self, train_ddf, meta_ddf=None):
        """FuxiCTR's (wheel), with all tokens counted in one pass where it takes one for each column."""
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
        self.feature_cols = [column for column in everything if column["type"] == "numeric"]
        try:
            statistics = super()._collect_statistics(train_ddf, meta_ddf)
        finally:
            self.feature_cols = everything
        of_train = {name: splitter for name, splitter in splitters.items() if name not in metas}
        for rows, of_rows in ((train_ddf, of_train), (meta_ddf, dict.fromkeys(metas))):
            counts, longest = count_tokens(rows, of_rows)
            for name, count in counts.items():
                statistics[name] = {"value_counts": count}
                if name in longest:
                    statistics[name]["max_len"] = longest[name]
        return statistics

    def squared_log(self, column):
        """A count as a category: v - 2 where v ≤ 2, floor((ln v)²) where v > 2, ``missing`` where there is none.

        Paper, section 5.1 (Criteo). The two ranges do not meet: 2 becomes 0, 3 becomes 1.

        Args:
            column (str): of numbers as text (``dtype: str``), empty where missing.

        Returns:
            pl.Expr: of text.
        """
        v = pl.col(column).cast(pl.Float64, strict=False)
        bucket = pl.when(v > 2).then(v.log().pow(2).floor()).otherwise(v - 2)
        return pl.when(v.is_null()).then(pl.lit("missing")).otherwise(bucket.cast(pl.Int64).cast(pl.String))

    def save_for(self, folder):
        """Write FuxiCTR's pickle of it again, with the paths of the folder to which it will be moved."""
        pickled = self.pickle_file
        self.data_dir = self.feature_map.data_dir = str(folder)
        for attribute in ("pickle_file", "json_file", "vocab_file"):
            setattr(self, attribute, str(folder / Path(getattr(self, attribute)).name))
        self.save_pickle(pickled)


@contextlib.contextmanager
def named_errors(processor, dataset_id):
    """One line for what is wrong with raw data, where polars and FuxiCTR give a traceback.

    Raises:
        UsageError
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise UsageError(
            f"the raw data of {dataset_id!r} do not fit its config: {str(error).splitlines()[0]}"
        ) from error
    except IndexError as error:  # FuxiCTR's tokenizer, of a vocabulary without a word
        field = next(reversed(processor.feature_map.features), "?")
        raise UsageError(f"field {field!r} of {dataset_id!r} has no value in the training data") from error
