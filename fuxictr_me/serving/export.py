"""Export a finished run for a server."""

import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from fuxictr_me import __version__
from fuxictr_me.compat import BaseModel
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.errors import UsageError
from fuxictr_me.formatting import format_bytes
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.runs.finished_run import FinishedRun, find_run
from fuxictr_me.runs.load_model import load_model
from fuxictr_me.serving import predict
from fuxictr_me.serving.check_vocabulary import check_vocabulary
from fuxictr_me.serving.compare_predictions import (
    BATCH_SIZES,
    check_differences,
    largest_difference,
    model_inputs,
    predict_rows,
    random_rows,
)
from fuxictr_me.serving.data_origin import find_origin
from fuxictr_me.serving.vocabulary import make_vocabulary
from fuxictr_me.serving.write_model import PACKAGES, check_format, write_model


def export_run(
    expid: str,
    config: str | None,
    out: str | Path,
    file_format: str = "onnx",
    checkpoint: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """Write the folder that a server needs (model, vocabulary, manifest) atomically.

    Before the folder appears, the model is read back and compared with the run's own on random rows, and the
    vocabulary is compared with the built data set on raw rows.

    Args:
        expid: experiment id.
        config: config folder; the bundled entry that has ``expid`` if None.
        out: folder to write, which must not exist.
        file_format: ``onnx``, ``pt2`` (for ``torch.export.load``) or ``safetensors`` (weights only).
        checkpoint: file to use instead of the run's own.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Returns:
        A summary of what was written.

    Raises:
        UsageError: a package is missing, there is no such run, or the model cannot be exported.
        RunError: predictions of the exported model differ from those of the run's model.
        OSError: no space, no permission.
    """
    check_format(file_format)
    out = Path(out)
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already")
    run = find_run(expid, config, checkpoint, overrides)
    model = load_model(run)
    manifest = _describe_run(run, file_format)
    progress = tqdm(total=3, disable=None, bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]")
    with atomic_folder(out) as folder, progress as bar:
        bar.set_description(f"writing and comparing {manifest['file']}")
        manifest |= _export_model(model, run, folder / manifest["file"], manifest)
        bar.update()
        bar.set_description("writing and comparing the vocabulary")
        manifest |= _export_vocabulary(run, folder, file_format)
        bar.update()
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        bar.update()
    return _summarize(manifest, out)


def _describe_run(run: FinishedRun, file_format: str) -> dict[str, Any]:
    """Return what the manifest says of a run."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES[file_format]}
    return {
        "format": 1,
        "made_by": f"fuxictr_me {__version__}",
        "expid": run.expid,
        "dataset_id": run.params["dataset_id"],
        "model": run.params["model"],
        "checkpoint": str(run.checkpoint),
        "md5_of_checkpoint": hash_file(run.checkpoint, "md5", show_progress=True),
        "versions": {**collect_versions(), **packages},
        "file": f"model.{file_format}",
    }


def _export_model(model: BaseModel, run: FinishedRun, path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a model to ``path`` and compare the file with it. Afterwards the model cannot be trained.

    Returns:
        Inputs and outputs with dtypes and shapes, and the largest difference per batch size, for the manifest.
    """
    expected = {size: predict_rows(model, random_rows(run.feature_map, size)) for size in BATCH_SIZES}
    one_row = expected[min(BATCH_SIZES)]
    metadata = {key: value for key, value in manifest.items() if isinstance(value, str)}
    predict_exported = write_model(model, run, path, list(one_row), metadata)
    differences = {
        size: largest_difference(predictions, predict_exported(random_rows(run.feature_map, size)))
        for size, predictions in expected.items()
    }
    check_differences(differences)
    return {
        "inputs": [_signature(name, *described) for name, described in model_inputs(run.feature_map).items()],
        "outputs": [_signature(name, y.dtype, y.shape[1:]) for name, y in one_row.items()],
        "largest_difference": differences,
    }


def _export_vocabulary(run: FinishedRun, folder: Path, file_format: str) -> dict[str, Any]:
    """Write ``vocabulary.json`` and, for ONNX, ``predict.py``, if raw values can be mapped to ids.

    Returns:
        The name of the vocabulary file or None, and notes, for the manifest.
    """
    precision = run.params.get("precision", "float32")
    notes = [] if precision == "float32" else [f"trained with precision {precision}, exported in float32"]
    try:
        origin = find_origin(run)
        vocabulary = make_vocabulary(run.feature_map, origin)
        notes.append(check_vocabulary(run.feature_map, origin, vocabulary))
    except (UsageError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        return {"vocabulary": None, "notes": [*notes, f"no vocabulary, so that rows must come as ids: {reason}"]}
    fields = vocabulary["fields"].items()
    if computed := [f"{name} is {field['column']}" for name, field in fields if "(" in field["column"]]:
        notes.append(f"{', '.join(computed)}: rows must have the result of FuxiCTR's preprocess under that name")
    text = json.dumps(vocabulary, ensure_ascii=False)
    (folder / "vocabulary.json").write_text(text + "\n", encoding="utf-8")
    if file_format == "onnx":
        shutil.copy(predict.__file__, folder / "predict.py")
    return {"vocabulary": "vocabulary.json", "notes": notes}


def _signature(name: str, dtype: object, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "dtype": str(dtype).removeprefix("torch."), "shape": ["batch", *shape]}


def _summarize(manifest: dict[str, Any], folder: Path) -> str:
    """Return files with sizes, inputs and outputs, what was compared, and how to predict."""
    lines = [f"{folder}: {manifest['model']}, run {manifest['expid']} on {manifest['dataset_id']}"]
    for path in sorted(folder.iterdir()):
        lines.append(f"  {path.name:<18} {format_bytes(path.stat().st_size):>12}")
    for kind in ("inputs", "outputs"):
        described = [f"{x['name']} {x['dtype']} ({', '.join(map(str, x['shape']))})" for x in manifest[kind]]
        lines.append(f"{kind}: {', '.join(described)}")
    for size, difference in manifest["largest_difference"].items():
        lines.append(f"batch of {size:,}: largest difference from the run's own predictions {difference:.1e}")
    lines += manifest["notes"]
    if (folder / "predict.py").exists():
        lines.append(f"to score new rows: python {folder}/predict.py csv < rows.csv")
        lines.append(f"or, with one JSON object per line: python {folder}/predict.py < rows.jsonl")
    return "\n".join(lines)
