"""The text of ``fuxictr-me plan``: what a run needs, before it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap

from fuxictr_me.config.known_keys import describe_unread_keys
from fuxictr_me.estimates.fastest_settings import Advice, fastest_settings
from fuxictr_me.estimates.measured_steps import MEASURED
from fuxictr_me.estimates.plan import Plan, plan, what_would_fit
from fuxictr_me.estimates.unbuilt_data import count_rows
from fuxictr_me.formatting import format_bytes, format_seconds
from fuxictr_me.zoo.find_model import find_model, get_class_name, is_fuxictr_me_model

REMARKS = {"memory": "  (the rows stay in RAM)"}
DEFAULTS = {"compile": False, "cuda_graph": "auto", "precision": "float32", "embedding_updates": "dense"}


def report_plan(expid: str, params: dict[str, Any], feature_map: FeatureMap, source: str, gpu_model: str) -> str:
    """Estimate what a run needs on a GPU, as a table.

    Args:
        expid: experiment id.
        params: settings of the run, as ``load_settings`` returns them.
        feature_map: that of the run's data set, or one with its vocabulary sizes.
        source: a line that says which of the two ``feature_map`` is.
        gpu_model: name of a GPU in ``fuxictr_me.estimates.GPUS``.

    Raises:
        UsageError: an unknown GPU, or settings that the model refuses.
    """
    rows = count_rows(params, Path(params["data_root"]) / params["dataset_id"])
    model_class = find_model(params["model"])
    estimate = plan(model_class, feature_map, params, gpu_model, rows)
    gpu = estimate.gpu
    verdict = "fits" if estimate.fits else "does not fit"
    lines = [f"{expid} on one {gpu.name} ({_describe_gpu(estimate)})", source, "", *_table(estimate, rows), ""]
    lines.append(f"{verdict}: {format_bytes(estimate.needed)} of {format_bytes(gpu.memory)}")
    if not estimate.fits:
        changes = what_would_fit(model_class, feature_map, params, gpu_model, rows)
        lines += [_change(*change) for change in changes] or ["  no change of a single setting makes it fit"]
    advice = fastest_settings(model_class, feature_map, params, estimate)
    lines += [*_fastest(advice, params), "", *_notes(params, model_class, estimate)]
    return "\n".join(lines)


def _table(estimate: Plan, rows: dict[str, int]) -> Iterator[str]:
    memory = estimate.memory
    yield f"{'parameters':<32}{estimate.parameters:>16,}"
    yield f"{'  embeddings':<32}{estimate.embedding_parameters:>16,}"
    yield f"{'  others':<32}{estimate.parameters - estimate.embedding_parameters:>16,}"
    yield f"{'memory at the peak of a step':<32}{format_bytes(memory.peak):>16}"
    yield f"{'  weights':<32}{format_bytes(memory.weights):>16}"
    yield f"{'  gradients':<32}{format_bytes(memory.gradients):>16}"
    yield f"{'  optimizer state':<32}{format_bytes(memory.optimizer_state):>16}"
    yield f"{'  activations and temporaries':<32}{format_bytes(memory.activations):>16}"
    for split, size in estimate.data.items():
        where = "on the GPU" if split in estimate.on_gpu else "in RAM, or streamed"
        yield f"{f'{split} data':<32}{format_bytes(size):>16}  {where}"
    yield f"a step of {estimate.batch_size:,} rows"
    products, traffic = (format_seconds(seconds) for seconds in (estimate.compute_seconds, estimate.traffic_seconds))
    yield f"{'  matrix products':<32}{f'{estimate.flops / 1e9:,.1f} GFLOP':>16}{products:>12}"
    yield f"{'  bytes read and written':<32}{format_bytes(estimate.bytes_moved):>16}{traffic:>12}"
    yield f"{'  least time, if the two overlap':<48}{format_seconds(estimate.floor_seconds):>12}"
    yield f"{'  least time, kernel after kernel':<48}{format_seconds(estimate.kernel_seconds):>12}"
    both = format_seconds(estimate.compute_seconds + estimate.traffic_seconds)
    yield f"{'  least time, if they do not overlap':<48}{both:>12}"
    if estimate.expected_seconds:
        yield f"{'  expected (see below)':<48}{format_seconds(estimate.expected_seconds):>12}"
    if "train" in rows:
        steps = -(-rows["train"] // estimate.batch_size)
        epoch = f"an epoch: {rows['train']:,} rows, {steps:,} steps"
        yield f"{epoch:<48}{format_seconds(steps * estimate.floor_seconds):>12}  at least"
        if estimate.expected_seconds:
            yield f"{'':<48}{format_seconds(steps * estimate.expected_seconds):>12}  expected"


def _fastest(advice: list[Advice], params: dict[str, Any]) -> Iterator[str]:
    """Yield the changes of settings with which a step is expected to be fastest."""
    if not advice:
        return
    yield ""
    same, *rounded = advice
    changed = {key: value for key, value in same.settings.items() if params.get(key, DEFAULTS[key]) != value}
    text = _settings(changed) or "as configured"
    yield f"{'fastest with the same results':<48}{format_seconds(same.seconds):>12}  {text}"
    for other in rounded:
        changed = {**changed, "precision": other.settings["precision"]}
        yield f"{'faster, with rounded matrix products':<48}{format_seconds(other.seconds):>12}  {_settings(changed)}"


def _settings(changed: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in changed.items())


def _notes(params: dict[str, Any], model_class: type, estimate: Plan) -> Iterator[str]:
    yield "Least times: PyTorch's operations at the peaks of the data sheet, without launches, data loading and caches."
    yield "Memory does not include the CUDA context, nor what kernels and the allocator need for themselves."
    if estimate.expected_seconds:
        yield f"Expected times: from steps of DCNv2, measured on {MEASURED}."
        yield "With compile: True, the first step takes 6 to 17 s more, for the compilation."
    if not is_fuxictr_me_model(model_class):
        yield f"{get_class_name(params['model'])} is trained by FuxiCTR's own steps, one set after the other."
        if unread := describe_unread_keys(model_class, params):
            yield f"{unread[0].upper()}{unread[1:]}."
    if params.get("embedding_updates", "dense") != "dense":
        yield "Updates by rows: each batch is assumed to have as many different ids as possible."
    if params.get("embedding_updates") == "catch_up":
        yield "catch_up: memory includes its first, dense steps; the step shown is a later one, by rows."
    if params.get("compile"):
        yield "compile: True does not change the least time and memory shown, although its kernels move fewer bytes."


def _change(key: str, value: Any, changed: Plan) -> str:
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"{f'  {key}: {shown}':<32}{format_bytes(changed.needed):>16}  fits{REMARKS.get(value, '')}"


def _describe_gpu(estimate: Plan) -> str:
    gpu, precision = estimate.gpu, estimate.precision if estimate.precision in estimate.gpu.peaks else "float32"
    note = "" if precision == estimate.precision else f", it has no {estimate.precision}"
    speed = f"{gpu.peak(precision) / 1e12:g} TFLOP/s of {precision}{note}"
    return f"{format_bytes(gpu.memory)}, {gpu.bandwidth / 1e12:g} TB/s, {speed}"
