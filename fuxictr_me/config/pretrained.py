"""Check the files of ``pretrained_emb`` before FuxiCTR reads them."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from fuxictr_me.errors import UsageError

KINDS = (".npz", ".h5", ".parquet")


def check_pretrained(column: dict, embedding_dim: object = None) -> np.ndarray:
    """Check the vectors of a column of ``feature_cols``, and return their keys (D,).

    Args:
        column: with the path in ``pretrained_emb``.
        embedding_dim: of the model, where a run says it: FuxiCTR takes the vectors to be as wide unless
            ``pretrain_dim``, or ``embedding_dim`` of the column, says otherwise.

    Raises:
        UsageError: a file that cannot be used, or vectors of another width.
    """
    keys, values = read_pretrained(column["pretrained_emb"])
    wanted = column.get("pretrain_dim") or column.get("embedding_dim") or embedding_dim
    for dim in wanted if isinstance(wanted, list) else [wanted]:
        if isinstance(dim, int):
            check_width(values.shape[1], column["name"], dim, column["pretrained_emb"])
    return keys


def read_pretrained(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (D,) and vectors (D, K) of a file of pretrained embeddings.

    Nothing in it is unpickled: npz files whose arrays are Python objects are refused, as FuxiCTR refuses them.

    Raises:
        UsageError: another kind of file, a damaged one, no ``key`` and ``value`` in it, or not one vector a key.
    """
    path = Path(path)
    if path.suffix not in KINDS:
        raise UsageError(f"pretrained_emb {path} must be a file of {', '.join(KINDS)}")
    try:
        keys, values = _read(path)
    except KeyError as error:
        raise UsageError(f"pretrained_emb {path} must hold 'key' and 'value': {error}") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"pretrained_emb {path} cannot be read: {' '.join(str(error).split())}") from error
    if keys.ndim != 1 or values.ndim != 2 or len(keys) != len(values) or values.size == 0:
        raise UsageError(
            f"pretrained_emb {path} must hold one vector a key, key (D,) and value (D, K); "
            f"found key {keys.shape} and value {values.shape}"
        )
    if values.dtype.kind not in "fiu":
        raise UsageError(f"pretrained_emb {path}: value holds {values.dtype}, not numbers")
    if bad := int((~np.isfinite(values).all(axis=1)).sum()):
        raise UsageError(f"pretrained_emb {path}: {bad} of {len(values)} vectors hold NaN or infinity")
    return keys, values


def check_keys(keys: np.ndarray, field: str, dtype: str, path: str | Path) -> list[str]:
    """Return the keys as the text by which FuxiCTR looks them up in a field's vocabulary.

    FuxiCTR adds the keys to the vocabulary in the field's dtype, and looks vectors up by the keys as text. Where
    the two differ (35.0 against 35, 007 against 7), the vectors would be left out.

    Raises:
        UsageError: such keys, keys that are not of ``dtype``, or that occur twice.
    """
    where = f"pretrained_emb {path} of field {field!r}"
    if keys.dtype.kind not in "iufSUO":
        raise UsageError(f"{where}: key holds {keys.dtype}, not text or numbers")
    try:
        text = keys.astype(str).tolist()
        typed = keys.astype({"str": str, "int": int, "float": float}[dtype]).tolist()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where}: the keys, such as {keys[0]!r}, are not of the field's dtype: {dtype}") from error
    for own, looked_up in zip(map(str, typed), text, strict=True):
        if own != looked_up:
            raise UsageError(
                f"{where}: key {looked_up!r} would be {own!r} as dtype: {dtype}, so its vector would be lost"
            )
    if len(set(text)) < len(text):
        seen = set()
        twice = next(key for key in text if key in seen or seen.add(key))
        raise UsageError(f"{where}: {len(text) - len(set(text))} keys occur more than once, such as {twice!r}")
    return text


def check_width(width: int, field: str, wanted: int, path: str | Path) -> None:
    """Refuse vectors that are not as wide as ``pretrain_dim``, or without it as the field's embedding.

    Raises:
        UsageError: with both widths.
    """
    if width != wanted:
        raise UsageError(
            f"pretrained_emb {path} of field {field!r} has {width} columns, but pretrain_dim (embedding_dim if "
            f"not set) is {wanted}: set pretrain_dim: {width}"
        )


def check_widths(feature_map, dims: list[int], required: list | None, left_out: list | None, use: bool = True) -> None:
    """Refuse pretrained vectors that are not as wide as the layer that would hold them.

    Args:
        feature_map (FeatureMap): of FuxiCTR; says where the files are.
        dims: embedding dimension of each set.
        required, left_out: fields to keep, to leave out; None for all, for none.
        use: whether the layer uses pretrained vectors at all.

    Raises:
        UsageError: a file that cannot be used, or another width.
    """
    for field, spec in feature_map.features.items():
        is_here = (not required or field in required) and field not in (left_out or ())
        if not (use and is_here and spec.get("pretrained_emb")):
            continue
        path = Path(feature_map.data_dir) / spec["pretrained_emb"]
        width = read_pretrained(path)[1].shape[1]
        for dim in dims:
            check_width(width, field, spec.get("pretrain_dim", spec.get("embedding_dim", dim)), path)


def _read(path: Path) -> list[np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in ("key", "value")]
    return _read_parquet(path) if path.suffix == ".parquet" else _read_h5(path)


def _read_parquet(path: Path) -> list[np.ndarray]:
    import polars as pl

    try:
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise ValueError(error) from error
    if absent := {"key", "value"} - set(frame.columns):
        raise KeyError(f"it has no {' and '.join(sorted(absent))}")
    value = frame["value"]
    if isinstance(value.dtype, pl.List) and not value.null_count() and value.list.len().n_unique() == 1:
        value = value.list.to_array(value.list.len()[0])
    return [frame["key"].to_numpy(), value.to_numpy()]


def _read_h5(path: Path) -> list[np.ndarray]:
    import h5py

    with h5py.File(path, "r") as file:
        for name in ("key", "value"):
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset) or file[name].external:
                raise ValueError(f"{name!r} must be a data set that lies in the file itself")
        return [file[name][:] for name in ("key", "value")]
