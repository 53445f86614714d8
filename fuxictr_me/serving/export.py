"""``fuxictr-me export``: a finished run for a server."""

import importlib.metadata
import json
import os
import shutil
from pathlib import Path

import polars as pl
from tqdm import tqdm

from fuxictr_me import __version__
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.config.training_settings import check_labels, check_model_settings
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.io.checkpoints import check_no_nan
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.serving import predict
from fuxictr_me.serving.compare import BATCHES, answers, check, inputs_of, largest_difference, random_rows
from fuxictr_me.serving.formats import PACKAGES, check_format, write_model
from fuxictr_me.serving.origin import find_origin
from fuxictr_me.serving.raw_rows import compare_rows
from fuxictr_me.serving.summary import summary
from fuxictr_me.serving.vocabulary import make_vocabulary
from fuxictr_me.zoo.find_model import find_model, is_fuxictr_me_model

AS_SERVED = {"gpu": -1, "verbose": 0, "callbacks": None}
OURS_AS_SERVED = {"compile": False, "precision": "float32", "fused_embedding": True, "embedding_updates": "dense"}
OURS_AS_SERVED["first_set_checkpoint"] = None
WRAPPED_AS_SERVED = {"batched": False}


def run(expid, config, out, file_format="onnx", checkpoint=None):
    """Write the folder that a server needs of a run: model, vocabulary, manifest; whole or not at all.

    Before the folder is there, the model is read back and run on random rows beside the run's own, and the vocabulary
    on raw rows beside the built data set.

    Args:
        expid (str): experiment id.
        config (str): config folder; the bundled entry that has ``expid`` if None.
        out (str): folder to write, which must not exist.
        file_format (str): ``onnx``, ``pt2`` (for ``torch.export.load``) or ``safetensors`` (weights alone).
        checkpoint (str): to load in place of the run's own.

    Returns:
        str: what was written.

    Raises:
        UsageError: a package that is missing, no such run, a model that cannot be exported.
        RunError: the exported model's predictions are not those of the run's.
        OSError: no space, no permission.
    """
    check_format(file_format)
    out = Path(out)
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already")
    found = find_run(expid, config, checkpoint)
    model = load_model(found)
    manifest = describe(found, file_format)
    progress = tqdm(total=3, disable=None, bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]")
    with atomic_folder(out) as folder, progress as bar:
        bar.set_description(f"writing and comparing {manifest['file']}")
        manifest |= export_model(model, found, folder / manifest["file"], manifest)
        bar.update()
        bar.set_description("writing and comparing the vocabulary")
        manifest |= export_vocabulary(found, folder, file_format)
        bar.update()
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        bar.update()
    return summary(manifest, out)


def load_model(found):
    """The model of a run with its weights, on the CPU, in float32, in evaluation mode.

    Args:
        found (Run)

    Raises:
        UsageError: no such class, settings that cannot be, a checkpoint that does not fit.
    """
    model_class = find_model(found.params.get("model"), found.folder.resolve().parent)
    own = OURS_AS_SERVED if is_fuxictr_me_model(model_class) else WRAPPED_AS_SERVED
    params = {**found.params, **AS_SERVED, **own}
    check_model_settings(model_class, params)
    check_labels(model_class, params, found.feature_map.labels)
    model = model_class(found.feature_map, **params)
    check_no_nan(found.state_dict(), found.checkpoint)
    model.load_weights(found.checkpoint)
    return model.eval()


def describe(found, file_format):
    """What the manifest says of a run.

    Args:
        found (Run), file_format (str)
    """
    packages = {name: importlib.metadata.version(name) for name in PACKAGES[file_format]}
    return {
        "format": 1,
        "made_by": f"fuxictr_me {__version__}",
        "expid": found.expid,
        "dataset_id": found.params["dataset_id"],
        "model": found.params["model"],
        "checkpoint": str(found.checkpoint),
        "md5_of_checkpoint": hash_file(found.checkpoint, "md5", show_progress=True),
        "versions": {**collect_versions(), **packages},
        "file": f"model.{file_format}",
    }


def export_model(model, found, path, facts):
    """Write a model, and compare what was written with it.

    Args:
        model (BaseModel): afterwards it can be evaluated, no more.
        found (Run): it is of.
        path (Path): to write; its ending is the format.
        facts (dict): of ``describe``.

    Returns:
        dict: inputs and outputs with dtypes and shapes, and the largest difference found, for the manifest.
    """
    expected = {rows: answers(model, random_rows(found.feature_map, rows)) for rows in BATCHES}
    one_row = expected[min(BATCHES)]
    text = {key: value for key, value in facts.items() if isinstance(value, str)}
    served = write_model(model, found, path, list(one_row), text)
    differences = {
        rows: largest_difference(of_run, served(random_rows(found.feature_map, rows)))
        for rows, of_run in expected.items()
    }
    check(differences)
    return {
        "inputs": [_signature(name, *of_field) for name, of_field in inputs_of(found.feature_map).items()],
        "outputs": [_signature(name, y.dtype, y.shape[1:]) for name, y in one_row.items()],
        "largest_difference": differences,
    }


def export_vocabulary(found, folder, file_format):
    """Write ``vocabulary.json`` and, for ONNX, ``predict.py``, where raw values can be turned into ids.

    Returns:
        dict: the vocabulary's file or None, and notes, for the manifest.
    """
    precision = found.params.get("precision", "float32")
    notes = [] if precision == "float32" else [f"trained with precision {precision}, exported in float32"]
    try:
        origin = find_origin(found)
        vocabulary = make_vocabulary(found.feature_map, origin)
        notes.append(compare_rows(found.feature_map, origin, vocabulary))
    except (UsageError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        return {"vocabulary": None, "notes": [*notes, f"no vocabulary, rows come as ids: {reason}"]}
    made = [f"{name} is {field['column']}" for name, field in vocabulary["fields"].items() if "(" in field["column"]]
    if made:
        notes.append(f"{', '.join(made)}: what FuxiCTR's preprocess makes has to be in the rows by that name")
    text = json.dumps(vocabulary, ensure_ascii=False)
    (folder / "vocabulary.json").write_text(text + "\n", encoding="utf-8")
    if file_format == "onnx":
        shutil.copy(predict.__file__, folder / "predict.py")
    return {"vocabulary": "vocabulary.json", "notes": notes}


def _signature(name, dtype, shape):
    return {"name": name, "dtype": str(dtype).removeprefix("torch."), "shape": ["batch", *shape]}
