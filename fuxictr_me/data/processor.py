"""FuxiCTR's FeatureProcessor, and what the paper's preparation asks of it."""

import polars as pl
from fuxictr.preprocess import FeatureProcessor

from fuxictr_me.errors import unknown

PREPROCESSING = ("copy_from", "squared_log")


class PaperFeatureProcessor(FeatureProcessor):
    """With ``preprocess: squared_log`` for Criteo's counts; another unknown name is named before data are read."""

    def __init__(self, feature_cols=(), label_col=(), **kwargs):
        for column in feature_cols:
            function = str(column.get("preprocess") or "copy_from").split("(")[0]
            if not callable(getattr(self, function, None)):
                raise unknown(f"preprocess of column {column['name']!r}", function, PREPROCESSING)
        super().__init__(feature_cols=list(feature_cols), label_col=label_col, **kwargs)

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
