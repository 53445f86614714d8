"""The forms a model is exported in: each is written, and read back to be compared."""

import torch

from fuxictr_me.errors import UsageError, require_extra, unknown
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.serving.compare import answers, random_rows
from fuxictr_me.serving.graph import read_onnx, read_pt2, trace, write_onnx, write_pt2

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "safetensors": ("safetensors",)}
LEAST_TORCH = (2, 8)  # 2.6 has no ONNX for batch norm, 2.7 cannot follow some changes in place
TRACED_ROWS = 7  # of a single one torch.export would make a constant


def check_format(file_format):
    """Refuse a format that is unknown, or that this machine cannot write.

    Raises:
        UsageError
    """
    if file_format not in PACKAGES:
        raise unknown("format", file_format, PACKAGES)
    require_extra(f"export --format {file_format}", PACKAGES[file_format], "serving")
    if file_format != "safetensors" and torch.__version__ < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        raise UsageError(f"export --format {file_format} needs torch {least} or newer, here is {torch.__version__}")


def write_model(model, run, path, outputs, facts):
    """Write a model, and read it back; afterwards it can be evaluated, no more.

    Args:
        model (BaseModel): on the CPU, in evaluation mode.
        run (Run): it is of.
        path (Path): its ending is the format.
        outputs (list of str): names of the predictions.
        facts (dict): text by name, for a file that has a place for it.

    Returns:
        callable: rows, field -> Tensor -> prediction's name -> Tensor, by what was read.

    Raises:
        UsageError: what has no form in this format, with the reason.
    """
    if path.suffix == ".safetensors":
        return _write_safetensors(model, run, path, facts)
    rows = random_rows(run.feature_map, TRACED_ROWS)
    program = trace(model, rows, outputs)
    if path.suffix == ".pt2":
        write_pt2(program, path)
        return read_pt2(path)
    write_onnx(program, path, list(rows), outputs)
    return read_onnx(path, outputs)


def _write_safetensors(model, run, path, facts):
    """The run's state dict, its names as they are; tensors that share memory are written each."""
    from safetensors.torch import load_file, save_file

    weights = {name: tensor.contiguous().clone() for name, tensor in load_state_dict(run.checkpoint).items()}
    save_file(weights, path, metadata={"format": "pt", **facts})
    model.load_state_dict(load_file(path))
    return lambda rows: answers(model, rows)
