"""The embedding tables of a model as files: id, raw value, and the vector in each set."""

import json
import os
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from fuxictr_me import __version__
from fuxictr_me.data.manifest_checks import check_listed_file
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.atomic import new_folder
from fuxictr_me.io.checkpoints import check_no_nan
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.tables import find_checkpoint_layers, find_tables
from fuxictr_me.tables.table_files import WRITERS

VOCABULARY = "feature_vocab.json"


def run(expid, config, out, file_format="parquet", fields=None, checkpoint=None):
    """``fuxictr-me export-embeddings``: the tables of a finished run of any FuxiCTR model, by its files alone.

    Args:
        expid (str): experiment id.
        config (str): config folder; the bundled entry that has ``expid`` if None.
        out, file_format, fields: as ``export_embeddings`` takes them.
        checkpoint (str): to load in place of the run's own.

    Returns:
        str: a table of what was written.

    Raises:
        UsageError: no such run, a checkpoint that does not fit the feature map; see also ``export_embeddings``.
    """
    _check(out, file_format)
    found = find_run(expid, config, checkpoint)
    state_dict = found.state_dict()
    check_no_nan(state_dict, found.checkpoint)
    layers = find_checkpoint_layers(state_dict, found.feature_map)
    tables = [(table, layer.sharing(table.field)) for layer in layers for table in layer.tables]
    return _summary(
        _export(tables, found.feature_map, out, file_format, fields, expid, str(found.checkpoint)), Path(out)
    )


def export_embeddings(model, out, file_format="parquet", fields=None, checkpoint=None):
    """Write the embedding tables of a model, a file a table, whole or not at all.

    ``<out>/<field>.parquet`` has a row an id: ``id`` (int64), ``value`` (the raw token, ``__PAD__`` and
    ``__OOV__`` among them; null where the vocabulary has none) and ``set_0`` … ``set_{M-1}`` (fixed-size lists
    of K float32). ``<field>.npz`` holds the arrays ``ids`` (D,), ``values`` (D,) of text, ``has_value`` (D,)
    (False where the vocabulary has none, and ``values`` is empty) and ``set_0`` … (D, K); all load without pickle.
    Its text is as wide as the longest token of the field: parquet is the format for large vocabularies.

    Tables of several embedding layers lie in a folder a layer, of its name. Names are percent-encoded where they
    hold what is no letter, digit or one of ``_.-~``. ``index.json`` lists the tables.

    A table that several fields share is written once, under the first of them. A pretrained field's table is
    what its ids look up, of a sequence field that of its items. Left out: what ``find_tables`` leaves out.
    Beside the model, pretrained tables as looked up, and the vocabulary, memory holds ``CHUNK_ROWS`` rows of a table.

    Args:
        model (nn.Module): ours or any FuxiCTR model.
        out (str or Path): folder to write, which must not exist.
        file_format (str): ``parquet`` or ``npz``.
        fields (list of str): to export; all if None. A field that shares another's table brings that table.
        checkpoint (str): where the model's weights came from, for the index; None if that is not known.

    Returns:
        dict: as ``index.json`` holds it.

    Raises:
        UsageError: ``out`` exists, an unknown format or field, no table at all, or a vocabulary
            (``feature_vocab.json`` in the folder of the data set) that is damaged or does not fit the tables.
        OSError: no space, no permission.
    """
    _check(out, file_format)
    tables = []
    for table in find_tables(model):
        layers = _embedding_dict(model, table.layer).embedding_layers
        tables.append((table, [field for field, layer in layers.items() if layer is layers[table.field]]))
    feature_map = _embedding_dict(model, tables[0][0].layer)._feature_map if tables else None
    return _export(tables, feature_map, out, file_format, fields, getattr(model, "model_id", None), checkpoint)


def _export(tables, feature_map, out, file_format, fields, expid, checkpoint):
    """Write (FieldTables, the fields that share it) pairs; see ``export_embeddings``."""
    out, tables = Path(out), _chosen(tables, fields)
    vocabulary = read_vocabulary(feature_map.data_dir)
    index = {
        "made_by": f"fuxictr_me {__version__}",
        "expid": expid,
        "checkpoint": checkpoint,
        "dataset_id": feature_map.dataset_id,
        "format": file_format,
        "vocabulary": None if vocabulary is None else VOCABULARY,
        "tables": [],
    }
    several = len({table.layer for table, _ in tables}) > 1
    with new_folder(out) as folder:
        for table, sharing in tqdm(tables, unit="field", disable=None, desc=out.name):
            layer = f"{quote(table.layer, safe='')}/" if several else ""
            file = f"{layer}{quote(table.field, safe='')}.{file_format}"
            (folder / file).parent.mkdir(exist_ok=True)
            values = raw_values(vocabulary or {}, sharing, len(table.sets[0]))
            WRITERS[file_format](folder / file, table.sets, values)
            sets = {f"set_{m}": dim for m, dim in enumerate(table.dims)}
            entry = {"layer": table.layer, "field": table.field, "fields": sharing, "file": file}
            index["tables"].append({**entry, "rows": len(values), "sets": list(sets), "dims": list(sets.values())})
        (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n")
    return index


def read_vocabulary(folder):
    """FuxiCTR's vocabularies of a data set.

    Args:
        folder (str or Path): of the built set.

    Returns:
        dict or None: field -> {raw token: id}; None where there is no ``feature_vocab.json``.

    Raises:
        UsageError: a file that is not whole, or of another kind.
    """
    path = Path(folder) / VOCABULARY
    check_listed_file(path)
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} is not a whole vocabulary: {error}") from error
    if not isinstance(vocabulary, dict) or not all(isinstance(tokens, dict) for tokens in vocabulary.values()):
        raise UsageError(f"{path} must hold ids by token by field, and does not")
    return vocabulary


def raw_values(vocabulary, fields, rows):
    """The raw token of each id.

    Args:
        vocabulary (dict): field -> {raw token: id}.
        fields (list of str): that share the table; the first of them that the vocabulary has counts.
        rows (int): D of the table.

    Returns:
        list: D tokens, None for an id without one; of several tokens of one id, the first.

    Raises:
        UsageError: an id that the table has not.
    """
    values = [None] * rows
    field = next((field for field in fields if field in vocabulary), None)
    for token, index in reversed(vocabulary.get(field, {}).items()):
        if type(index) is not int or not 0 <= index < rows:
            raise UsageError(
                f"{VOCABULARY} gives {token!r} of field {field!r} the id {index!r}, its table holds 0 to {rows - 1}"
            )
        values[index] = token
    return values


def _check(out, file_format):
    if file_format not in WRITERS:
        raise unknown("format", file_format, WRITERS)
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already")


def _chosen(tables, fields):
    """The pairs of ``fields``, all if None."""
    names = {name for _, sharing in tables for name in sharing}
    for field in fields or ():
        if field not in names:
            raise unknown("field with an embedding table", field, names)
    if fields is not None:
        tables = [(table, sharing) for table, sharing in tables if not set(fields).isdisjoint(sharing)]
    if not tables:
        raise UsageError(f"no embedding table to export (fields that have one: {', '.join(sorted(names)) or 'none'})")
    return tables


def _embedding_dict(model, layer):
    """FuxiCTR's FeatureEmbeddingDict (of set 0) in the layer that ``find_tables`` names."""
    module = model.get_submodule(layer)
    module = module.sets[0] if isinstance(module, MultiEmbedding) else module
    return getattr(module, "embedding_layer", module)


def _summary(index, out):
    lines = [f"{out}: tables of {index['expid']} from {index['checkpoint']}"]
    if index["vocabulary"] is None:
        lines.append(f"ids alone: the data set has no {VOCABULARY}")
    lines.append(f"{'field':<24} {'rows':>12} {'sets':>4} {'dim':>8} {'MB':>10}  file")
    for table in index["tables"]:
        dims = table["dims"] if len(set(table["dims"])) > 1 else table["dims"][:1]
        sizes = f"{table['rows']:>12,} {len(table['dims']):>4} {', '.join(map(str, dims)):>8}"
        megabytes = (out / table["file"]).stat().st_size / 1e6
        lines.append(f"{', '.join(table['fields']):<24} {sizes} {megabytes:>10,.2f}  {table['file']}")
    return "\n".join(lines)
