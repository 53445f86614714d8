"""A model's forward as a graph, by torch.export: written as ONNX or as PyTorch's own archive, and run again."""

import contextlib
import io
import logging
import warnings

import torch
from torch import nn

from fuxictr_me.errors import UsageError
from fuxictr_me.serving.field_tables import use_field_tables
from fuxictr_me.serving.masks import RecordMasks, SelectByPosition


class Served(nn.Module):
    """A model as a server calls it.

    Args:
        model (BaseModel): of FuxiCTR.
        outputs (list of str): names of the predictions.
    """

    def __init__(self, model, outputs):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, inputs):
        """field -> Tensor (B,) or (B, ·) -> prediction's name -> Tensor (B, 1)."""
        returned = self.model(inputs)
        return {name: returned[name] for name in self.outputs}


def trace(model, rows, outputs):
    """The graph of a model, for any number of rows; the model can be evaluated afterwards, no more.

    The sets of a wrapped model run to their ends: a graph keeps only what the prediction depends on.

    Args:
        model (BaseModel): of FuxiCTR, on the CPU, in evaluation mode.
        rows (dict): field -> Tensor, of several rows.
        outputs (list of str): names of the predictions.

    Returns:
        torch.export.ExportedProgram

    Raises:
        UsageError: a forward that no graph can hold, with the reason.
    """
    use_field_tables(model.requires_grad_(False))
    if getattr(model, "merge_points", ()):
        model.run_sets_to_their_ends()
    with RecordMasks() as masks, torch.no_grad():
        model(rows)
    batch, reasons = torch.export.Dim("batch"), []
    for strict in (False, True):  # which takes longer, and also follows what len(tensor) gives
        try:
            with quiet(), torch.no_grad(), SelectByPosition(masks.positions):
                shapes = ({field: {0: batch} for field in rows},)
                program = torch.export.export(Served(model, outputs), (rows,), dynamic_shapes=shapes, strict=strict)
            return tidied(program)
        except Exception as error:  # noqa: BLE001 - of a stranger's forward torch.export may say anything
            reasons.append(one_line(error))
    raise UsageError(f"torch.export cannot follow the forward of {type(model).__name__}: {reasons[0]}")


def tidied(program):
    """A graph without what no prediction depends on, and without stack traces, which name files of this machine."""
    dropout = torch.ops.aten.dropout.default  # nothing in evaluation, but of random numbers, and kept therefore
    program.graph.eliminate_dead_code(lambda node: node.is_impure() and node.target is not dropout)
    program.graph_module.recompile()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_onnx(program, path, inputs, outputs):
    """Convert a graph to ONNX; weights of more than 2 GB go to ``<path>.data``.

    Raises:
        UsageError: an operation that ONNX has not.
    """
    try:
        with quiet():
            converted = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=({field: {0: "batch"} for field in inputs},),  # its name in the file
                dynamo=True,
                optimize=False,  # onnxscript would take x + 1e-12 for x, so that a mean over nothing is NaN
                verbose=False,
            )
            converted.save(path)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = one_line(error.__cause__ or error)
        raise UsageError(f"the graph has no form in ONNX, --format pt2 may do: {reason}") from error


def read_onnx(path, outputs):
    """rows, field -> Tensor -> prediction's name -> Tensor, by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(rows):
        answers = session.run(outputs, {field: values.numpy() for field, values in rows.items()})
        return dict(zip(outputs, map(torch.from_numpy, answers), strict=True))

    return run


def write_pt2(program, path):
    """Write a graph as ``torch.export.load`` reads it."""
    with quiet():
        torch.export.save(program, path)


def read_pt2(path):
    """rows, field -> Tensor -> prediction's name -> Tensor, by PyTorch."""
    with quiet():
        return torch.export.load(path).module()


def one_line(error):
    """The beginning of what an error says, in one line."""
    told = str(error).replace('For more information, run with TORCH_LOGS="+dynamic".', "")
    return f"{type(error).__name__}: {' '.join(told.split())[:200]}"


@contextlib.contextmanager
def quiet():
    """Without what torch.export and the ONNX converter print, warn and log; what fails raises all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
