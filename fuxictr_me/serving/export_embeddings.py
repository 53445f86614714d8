"""Write the embedding tables of a model to files: id, raw value, and the vector in each set."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import nn
from tqdm import tqdm

from fuxictr_me import __version__
from fuxictr_me.data.manifest_checks import check_listed_file
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.tables import FieldTables, find_checkpoint_layers, find_tables
from fuxictr_me.tables.table_files import WRITERS

VOCABULARY = "feature_vocab.json"
SharedTable = tuple[FieldTables, list[str]]  # a table, and the fields that share it


def export_run_embeddings(
    expid: str,
    config: str | None,
    out: str | Path,
    file_format: str = "parquet",
    fields: list[str] | None = None,
    checkpoint: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """Write the embedding tables of a finished run of any FuxiCTR model; its code is not needed.

    Args:
        expid: experiment id.
        config: config folder; the bundled entry that has ``expid`` if None.
        out, file_format, fields: see ``export_embeddings``.
        checkpoint: file to use instead of the run's own.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Returns:
        A table of what was written.

    Raises:
        UsageError: there is no such run, or the checkpoint does not fit the feature map; see ``export_embeddings``.
    """
    _check_arguments(out, file_format)
    run = find_run(expid, config, checkpoint, overrides)
    layers = find_checkpoint_layers(run.state_dict(), run.feature_map)
    tables = [(table, layer.sharing(table.field)) for layer in layers for table in layer.tables]
    index = _export(tables, run.feature_map, Path(out), file_format, fields, expid, str(run.checkpoint))
    return _summarize(index, Path(out))


def export_embeddings(
    model: nn.Module,
    out: str | Path,
    file_format: str = "parquet",
    fields: list[str] | None = None,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """Write the embedding tables of a model atomically, one file per table.

    ``<out>/<field>.parquet`` has one row per id: ``id`` (int64), ``value`` (the raw token, also ``__PAD__`` and
    ``__OOV__``; null if the vocabulary has no token) and ``set_0`` … ``set_{M-1}`` (fixed-size lists of K float32).
    ``<field>.npz`` has the arrays ``ids`` (D,), ``values`` (D,) of text, ``has_value`` (D,) (False if the vocabulary
    has no token, and ``values`` is then empty) and ``set_0`` … (D, K). They all load without pickle. Text in npz is as
    wide as the longest token of the field, so use parquet for large vocabularies.

    If there are several embedding layers, each has a folder with its name. Characters in names other than letters,
    digits and ``_.-~`` are percent-encoded. ``index.json`` lists the tables.

    A table that several fields share is written once, under the first of them. The table of a pretrained field has the
    vectors that its ids look up, and that of a sequence field those of its items. Tables that ``field_tables`` leaves
    out are not written. Beside the model, the pretrained tables and the vocabulary, ``CHUNK_ROWS`` rows of a table are
    in memory.

    Args:
        model: any FuxiCTR model.
        out: folder to write, which must not exist.
        file_format: ``parquet`` or ``npz``.
        fields: fields to export, all if None. If a field shares the table of another, that table is exported.
        checkpoint: file that the model's weights came from, for the index.

    Returns:
        The content of ``index.json``.

    Raises:
        UsageError: ``out`` exists, a format or field is unknown, there is no table, or the vocabulary
            (``feature_vocab.json`` in the folder of the data set) is damaged or does not fit the tables.
        OSError: no space, no permission.
    """
    _check_arguments(out, file_format)
    tables = []
    for table in find_tables(model):
        layers = _embedding_dict(model, table.layer).embedding_layers
        tables.append((table, [field for field, layer in layers.items() if layer is layers[table.field]]))
    feature_map = _embedding_dict(model, tables[0][0].layer)._feature_map if tables else None
    return _export(tables, feature_map, Path(out), file_format, fields, getattr(model, "model_id", None), checkpoint)


def _export(
    tables: list[SharedTable],
    feature_map: Any,
    out: Path,
    file_format: str,
    fields: list[str] | None,
    expid: str | None,
    checkpoint: str | None,
) -> dict[str, Any]:
    """Write tables; see ``export_embeddings``. ``feature_map`` is not read if there are no tables."""
    tables = _select(tables, fields)
    vocabulary = read_vocabulary(feature_map.data_dir)
    index: dict[str, Any] = {
        "made_by": f"fuxictr_me {__version__}",
        "expid": expid,
        "checkpoint": checkpoint,
        "dataset_id": feature_map.dataset_id,
        "format": file_format,
        "vocabulary": None if vocabulary is None else VOCABULARY,
        "tables": [],
    }
    has_layers = len({table.layer for table, _ in tables}) > 1
    with atomic_folder(out) as folder:
        for table, sharing in tqdm(tables, unit="field", disable=None, desc=out.name):
            layer = f"{quote(table.layer, safe='')}/" if has_layers else ""
            file = f"{layer}{quote(table.field, safe='')}.{file_format}"
            (folder / file).parent.mkdir(exist_ok=True)
            values = find_raw_values(vocabulary or {}, sharing, len(table.sets[0]))
            WRITERS[file_format](folder / file, table.sets, values)
            sets = {f"set_{m}": dim for m, dim in enumerate(table.dims)}
            entry = {"layer": table.layer, "field": table.field, "fields": sharing, "file": file}
            index["tables"].append({**entry, "rows": len(values), "sets": list(sets), "dims": list(sets.values())})
        (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")
    return index


def read_vocabulary(folder: str | Path) -> dict[str, dict[str, int]] | None:
    """Read FuxiCTR's vocabularies of a built data set: field -> {raw token: id}; None if there is no file.

    Raises:
        UsageError: the file is damaged or of another kind.
    """
    path = Path(folder) / VOCABULARY
    check_listed_file(path)
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} is not a complete vocabulary: {error}") from error
    if not isinstance(vocabulary, dict) or not all(isinstance(tokens, dict) for tokens in vocabulary.values()):
        raise UsageError(f"{path} must map field -> token -> id, and does not")
    return vocabulary


def find_raw_values(vocabulary: dict[str, dict[str, int]], fields: list[str], rows: int) -> list[str | None]:
    """Return the raw token of each id.

    Args:
        vocabulary: field -> {raw token: id}.
        fields: fields that share the table; the first of them that is in the vocabulary counts.
        rows: D of the table.

    Returns:
        D tokens, None for an id without a token. If an id has several tokens, the first.

    Raises:
        UsageError: the table does not have an id.
    """
    values: list[str | None] = [None] * rows
    field = next((field for field in fields if field in vocabulary), "")
    for token, index in reversed(vocabulary.get(field, {}).items()):
        if type(index) is not int or not 0 <= index < rows:
            raise UsageError(
                f"{VOCABULARY} gives {token!r} of field {field!r} the id {index!r}, its table has ids 0 to {rows - 1}"
            )
        values[index] = token
    return values


def _check_arguments(out: str | Path, file_format: str) -> None:
    if file_format not in WRITERS:
        raise unknown("format", file_format, WRITERS)
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already")


def _select(tables: list[SharedTable], fields: list[str] | None) -> list[SharedTable]:
    """Return the tables of ``fields``, all if None."""
    names = {name for _, sharing in tables for name in sharing}
    for field in fields or ():
        if field not in names:
            raise unknown("field with an embedding table", field, names)
    if fields is not None:
        tables = [(table, sharing) for table, sharing in tables if not set(fields).isdisjoint(sharing)]
    if not tables:
        raise UsageError(f"no embedding table to export (fields that have one: {', '.join(sorted(names)) or 'none'})")
    return tables


def _embedding_dict(model: nn.Module, layer: str) -> Any:
    """Return FuxiCTR's FeatureEmbeddingDict (that of set 0) in a layer that ``field_tables`` names."""
    module = model.get_submodule(layer)
    module = module.sets[0] if isinstance(module, MultiEmbedding) else module
    return getattr(module, "embedding_layer", module)


def _summarize(index: dict[str, Any], out: Path) -> str:
    lines = [f"{out}: tables of {index['expid']} from {index['checkpoint']}"]
    if index["vocabulary"] is None:
        lines.append(f"ids without raw values: the data set has no {VOCABULARY}")
    lines.append(f"{'field':<24} {'rows':>12} {'sets':>4} {'dim':>8} {'MB':>10}  file")
    for table in index["tables"]:
        dims = table["dims"] if len(set(table["dims"])) > 1 else table["dims"][:1]
        sizes = f"{table['rows']:>12,} {len(table['dims']):>4} {', '.join(map(str, dims)):>8}"
        megabytes = (out / table["file"]).stat().st_size / 1e6
        lines.append(f"{', '.join(table['fields']):<24} {sizes} {megabytes:>10,.2f}  {table['file']}")
    return "\n".join(lines)
