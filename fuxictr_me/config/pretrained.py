"""Check a file of pretrained vectors by its shapes, before a data set is built with it."""

from pathlib import Path

from fuxictr_me.config.kinds import shown
from fuxictr_me.errors import UsageError

FORMATS = (".npz", ".h5", ".parquet")


def check_pretrained(column: dict, embedding_dim: object = None) -> None:
    """Refuse a file without ``key`` and ``value``, or with vectors of another width than the column says.

    Args:
        column: of ``feature_cols``, with the path in ``pretrained_emb``.
        embedding_dim: of the model, where a run says it: FuxiCTR takes the vectors to be as wide unless
            ``pretrain_dim``, or ``embedding_dim`` of the column, says otherwise.

    Raises:
        UsageError: one line that names the file.
    """
    path = Path(column["pretrained_emb"])
    if path.suffix not in FORMATS:
        raise UsageError(f"pretrained_emb must be a file of {', '.join(FORMATS)}, got {shown(str(path))}")
    try:
        width = _width_of(path)
    except KeyError as error:
        raise UsageError(f"{path} must hold key and value, the vectors' names and the vectors: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise UsageError(f"{path} is no whole file of pretrained vectors: {reason}") from error
    key = next((key for key in ("pretrain_dim", "embedding_dim") if key in column), None)
    expected = column[key] if key else embedding_dim
    if isinstance(expected, int) and width != expected:
        said = f"its {key}" if key else "pretrain_dim is not set and embedding_dim"
        raise UsageError(
            f"pretrained_emb of column {shown(column['name'])}: the vectors in {path} have {width} columns, "
            f"but {said} is {expected}: set pretrain_dim: {width}"
        )


def _width_of(path: Path) -> int:
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as content:
            keys, values = content["key"], content["value"]
            return _width(keys.shape, values.shape)
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path, "r") as content:
            return _width(content["key"].shape, content["value"].shape)
    import polars as pl

    schema = pl.read_parquet_schema(path)
    for name in ("key", "value"):
        if name not in schema:
            raise KeyError(name)
    frame = pl.scan_parquet(path).select(pl.len(), pl.col("value").list.len().first().alias("width")).collect()
    return int(frame["width"][0])


def _width(keys: tuple[int, ...], values: tuple[int, ...]) -> int:
    if len(values) != 2 or keys != values[:1]:
        raise ValueError(f"key has shape {keys} and value {values}: they must be (n,) and (n, width)")
    return values[1]
