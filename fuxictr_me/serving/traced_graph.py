"""Trace a model with torch.export, write the graph as ONNX or as PyTorch's archive, and read it back."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError
from fuxictr_me.serving.compare_predictions import Tensors
from fuxictr_me.serving.masked_select import RecordMasks, SelectByPosition
from fuxictr_me.serving.per_field_tables import split_fused_tables


class ServedModel(nn.Module):
    """A model as a server calls it.

    Args:
        model: of FuxiCTR.
        outputs: names of the predictions.
    """

    def __init__(self, model: BaseModel, outputs: list[str]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, inputs: Tensors) -> Tensors:
        """Map field -> Tensor (B,) or (B, ·) to name of the prediction -> Tensor (B, 1)."""
        returned = self.model(inputs)
        return {name: returned[name] for name in self.outputs}


def trace(model: BaseModel, rows: Tensors, outputs: list[str]) -> ExportedProgram:
    """Return the graph of a model, for any batch size. Afterwards the model can be evaluated, but not trained.

    The sets of a wrapped model are computed completely: a graph only keeps what the prediction depends on.

    Args:
        model: on the CPU, in evaluation mode.
        rows: inputs, with several rows.
        outputs: names of the predictions.

    Raises:
        UsageError: torch.export cannot express the forward, with the reason.
    """
    split_fused_tables(model.requires_grad_(False))
    if getattr(model, "merge_points", ()):
        model.run_sets_to_their_ends()
    with RecordMasks() as masks, torch.no_grad():
        model(rows)
    batch, reasons = torch.export.Dim("batch"), []
    for strict in (False, True):  # strict takes longer, but can also follow what depends on len(tensor)
        try:
            with _quiet(), torch.no_grad(), SelectByPosition(masks.positions):
                shapes = ({field: {0: batch} for field in rows},)
                served = ServedModel(model, outputs)
                program = torch.export.export(served, (rows,), dynamic_shapes=shapes, strict=strict)
            return _clean(program)
        except Exception as error:  # noqa: BLE001 - torch.export may raise anything on a foreign forward
            reasons.append(_describe(error))
    raise UsageError(f"torch.export cannot follow the forward of {type(model).__name__}: {reasons[0]}")


def _clean(program: ExportedProgram) -> ExportedProgram:
    """Remove dead code, and stack traces, which name files of this machine."""
    dropout = torch.ops.aten.dropout.default  # does nothing in evaluation, but counts as impure
    program.graph.eliminate_dead_code(lambda node: node.is_impure() and node.target is not dropout)
    program.graph_module.recompile()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(program: ExportedProgram, path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Convert a graph to ONNX. More than 2 GB of weights are written to ``<path>.data``.

    Raises:
        UsageError: ONNX does not have an operation of the graph.
    """
    try:
        with _quiet():
            converted = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=({field: {0: "batch"} for field in inputs},),  # its name in the file
                dynamo=True,
                optimize=False,  # onnxscript would replace x + 1e-12 by x, so that the mean of nothing is NaN
                verbose=False,
            )
            converted.save(path)  # type: ignore[union-attr]  # None without dynamo
    except torch.onnx.errors.OnnxExporterError as error:
        reason = _describe(error.__cause__ or error)
        raise UsageError(f"the graph cannot be written as ONNX; try --format pt2: {reason}") from error


def read_onnx(path: Path, outputs: list[str]) -> Callable[[Tensors], Tensors]:
    """Return a function from inputs to predictions that runs an ONNX file with onnxruntime."""
    import onnxruntime  # part of an extra

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(rows: Tensors) -> Tensors:
        predictions = session.run(outputs, {field: values.numpy() for field, values in rows.items()})
        return dict(zip(outputs, map(torch.from_numpy, predictions), strict=True))

    return predict


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a graph as a file for ``torch.export.load``."""
    with _quiet():
        torch.export.save(program, path)


def read_pt2(path: Path) -> Callable[[Tensors], Tensors]:
    """Return a function from inputs to predictions that runs a file of ``write_pt2``."""
    with _quiet():
        return torch.export.load(path).module()


def _describe(error: BaseException) -> str:
    """Return the beginning of an error's message, in one line."""
    message = str(error).replace('For more information, run with TORCH_LOGS="+dynamic".', "")
    return f"{type(error).__name__}: {' '.join(message.split())[:200]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the prints, warnings and logs of torch.export and the ONNX converter; errors are still raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
