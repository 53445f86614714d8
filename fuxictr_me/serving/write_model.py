"""Write a model in each of the export formats, and read it back for the comparison."""

from collections.abc import Callable
from pathlib import Path

import torch

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError, require_extra, unknown
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.runs.finished_run import Run
from fuxictr_me.serving.compare_predictions import Tensors, predict_rows, random_rows
from fuxictr_me.serving.traced_graph import read_onnx, read_pt2, trace, write_onnx, write_pt2

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "safetensors": ("safetensors",)}
MIN_TORCH = (2, 8)  # 2.6 has no ONNX for batch norm, 2.7 cannot follow some changes in place
TRACED_ROWS = 7  # torch.export would treat a batch size of 1 as a constant


def check_format(file_format: str) -> None:
    """Refuse a format that is unknown, or that needs a package or a version of torch that is missing.

    Raises:
        UsageError: with what is needed.
    """
    if file_format not in PACKAGES:
        raise unknown("format", file_format, PACKAGES)
    require_extra(f"export --format {file_format}", PACKAGES[file_format], "serving")
    if file_format != "safetensors" and torch.__version__ < MIN_TORCH:  # type: ignore[operator]  # it does
        least = ".".join(map(str, MIN_TORCH))
        raise UsageError(f"export --format {file_format} needs torch {least} or newer, here is {torch.__version__}")


def write_model(
    model: BaseModel, run: Run, path: Path, outputs: list[str], metadata: dict[str, str]
) -> Callable[[Tensors], Tensors]:
    """Write a model and read it back. Afterwards ``model`` can be evaluated, but not trained.

    Args:
        model: on the CPU, in evaluation mode.
        run: the run of the model.
        path: file to write; its suffix is the format.
        outputs: names of the predictions.
        metadata: name -> text, for formats that can hold it.

    Returns:
        A function from inputs to predictions that uses the file.

    Raises:
        UsageError: the model cannot be expressed in this format, with the reason.
    """
    if path.suffix == ".safetensors":
        return _write_safetensors(model, run, path, metadata)
    rows = random_rows(run.feature_map, TRACED_ROWS)
    program = trace(model, rows, outputs)
    if path.suffix == ".pt2":
        write_pt2(program, path)
        return read_pt2(path)
    write_onnx(program, path, list(rows), outputs)
    return read_onnx(path, outputs)


def _write_safetensors(
    model: BaseModel, run: Run, path: Path, metadata: dict[str, str]
) -> Callable[[Tensors], Tensors]:
    """Write the state dict of the run under its names. Tensors that share memory are written separately."""
    from safetensors.torch import load_file, save_file  # part of an extra

    weights = {name: tensor.contiguous().clone() for name, tensor in load_state_dict(run.checkpoint).items()}
    save_file(weights, path, metadata={"format": "pt", **metadata})
    model.load_state_dict(load_file(path))
    return lambda rows: predict_rows(model, rows)
