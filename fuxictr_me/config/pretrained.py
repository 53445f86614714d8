"""Check the files of ``pretrained_emb`` before FuxiCTR reads them."""

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import polars as pl

from fuxictr_me.config.value_kinds import find_duplicate
from fuxictr_me.errors import UsageError

if TYPE_CHECKING:
    from fuxictr.features import FeatureMap

ENDINGS = (".npz", ".h5", ".parquet")


def check_pretrained(column: dict, embedding_dim: object = None) -> np.ndarray:
    """Check the vectors of a column of ``feature_cols``, and return their keys (D,).

    Args:
        column: a column with the path in ``pretrained_emb``.
        embedding_dim: that of the model, if known. FuxiCTR expects vectors of this width unless ``pretrain_dim`` or
            ``embedding_dim`` of the column is set.

    Raises:
        UsageError: the file cannot be used, or the vectors have another width.
    """
    keys, values = read_pretrained(column["pretrained_emb"])
    wanted = column.get("pretrain_dim") or column.get("embedding_dim") or embedding_dim
    for dim in wanted if isinstance(wanted, list) else [wanted]:
        if isinstance(dim, int):
            check_width(values.shape[1], column["name"], dim, column["pretrained_emb"])
    return keys


def read_pretrained(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (D,) and vectors (D, K) of a file of pretrained embeddings.

    Nothing is unpickled: npz files whose arrays are Python objects are refused, as by FuxiCTR.

    Raises:
        UsageError: the file is of another kind or damaged, has no ``key`` and ``value``, or not one finite vector per
            key.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise UsageError(f"pretrained_emb {path} must be a file of {', '.join(ENDINGS)}")
    try:
        keys, values = _read(path)
    except KeyError as error:
        raise UsageError(f"pretrained_emb {path} must hold 'key' and 'value': {error}") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"pretrained_emb {path} cannot be read: {' '.join(str(error).split())}") from error
    if keys.ndim != 1 or values.ndim != 2 or len(keys) != len(values) or values.size == 0:
        raise UsageError(
            f"pretrained_emb {path} must hold one vector per key, key (D,) and value (D, K); "
            f"found key {keys.shape} and value {values.shape}"
        )
    if values.dtype.kind not in "fiu":
        raise UsageError(f"pretrained_emb {path}: value holds {values.dtype}, not numbers")
    if bad := int((~np.isfinite(values).all(axis=1)).sum()):
        raise UsageError(f"pretrained_emb {path}: {bad} of {len(values)} vectors hold NaN or infinity")
    return keys, values


def check_keys(keys: np.ndarray, field: str, dtype: str, path: str | Path) -> list[str]:
    """Return the keys as the text by which FuxiCTR looks them up in a field's vocabulary.

    FuxiCTR adds the keys to the vocabulary in the field's dtype, but looks vectors up by the keys as text. If the two
    differ (35.0 and 35, 007 and 7), the vectors would be lost.

    Raises:
        UsageError: keys differ in this way, are not of ``dtype``, or occur twice.
    """
    where = f"pretrained_emb {path} of field {field!r}"
    if keys.dtype.kind not in "iufSUO":
        raise UsageError(f"{where}: key holds {keys.dtype}, not text or numbers")
    try:
        text = keys.astype(str).tolist()
        typed = keys.astype({"str": str, "int": int, "float": float}[dtype]).tolist()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where}: the keys, such as {keys[0]!r}, are not of the field's dtype: {dtype}") from error
    for in_vocabulary, looked_up in zip(map(str, typed), text, strict=True):
        if in_vocabulary != looked_up:
            raise UsageError(
                f"{where}: key {looked_up!r} would be {in_vocabulary!r} as dtype: {dtype}, so its vector would be lost"
            )
    if (duplicate := find_duplicate(text)) is not None:
        raise UsageError(f"{where}: {len(text) - len(set(text))} keys occur more than once, such as {duplicate!r}")
    return text


def check_width(width: int, field: str, wanted: int, path: str | Path) -> None:
    """Raise a UsageError unless ``width`` is ``wanted``: ``pretrain_dim``, or else the field's ``embedding_dim``."""
    if width != wanted:
        raise UsageError(
            f"pretrained_emb {path} of field {field!r} has {width} columns, but pretrain_dim (embedding_dim if "
            f"not set) is {wanted}: set pretrain_dim: {width}"
        )


def check_widths(
    feature_map: "FeatureMap", dims: list[int], required: list | None, left_out: list | None, use: bool = True
) -> None:
    """Check that pretrained vectors are as wide as the layer that will hold them.

    Args:
        feature_map: names the files.
        dims: embedding dimension of each set.
        required: fields of the layer; None for all.
        left_out: fields that the layer leaves out; None for none.
        use: whether the layer uses pretrained vectors at all.

    Raises:
        UsageError: a file cannot be used, or its vectors have another width.
    """
    for field, spec in feature_map.features.items():
        is_in_layer = (not required or field in required) and field not in (left_out or ())
        if not (use and is_in_layer and spec.get("pretrained_emb")):
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
    with h5py.File(path, "r") as file:
        for name in ("key", "value"):
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset) or file[name].external:
                raise ValueError(f"{name!r} must be a data set that lies in the file itself")
        return [file[name][:] for name in ("key", "value")]
