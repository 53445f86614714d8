"""``fuxictr-me plan``: what a run will take, before it."""

from pathlib import Path

from fuxictr.features import FeatureMap

from fuxictr_me.config.known_keys import describe_unread_keys
from fuxictr_me.estimates.advice import fastest_settings
from fuxictr_me.estimates.measured_steps import MEASURED
from fuxictr_me.estimates.plan import plan, what_would_fit
from fuxictr_me.estimates.vocabulary import rows_of
from fuxictr_me.formatting import format_bytes, format_seconds
from fuxictr_me.zoo.find_model import find_model, get_class_name, is_fuxictr_me_model

REMARKS = {"memory": "  (the rows stay in RAM)"}
DEFAULTS = {"compile": False, "cuda_graph": "auto", "precision": "float32", "embedding_updates": "dense"}


def report_plan(expid: str, params: dict, feature_map: FeatureMap, source: str, gpu_model: str) -> str:
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
    rows = rows_of(params, Path(params["data_root"]) / params["dataset_id"])
    model_class = find_model(params["model"])
    arguments = model_class, feature_map, params, gpu_model, rows
    found = plan(*arguments)
    lines = [f"{expid} on one {found.gpu.name} ({_speeds(found)})", source, "", *_table(found, rows), ""]
    lines.append(
        f"{'fits' if found.fits else 'does not fit'}: {format_bytes(found.needed)} of {format_bytes(found.gpu.memory)}"
    )
    if not found.fits:
        changes = what_would_fit(*arguments)
        lines += [_change(*change) for change in changes] or ["  no change of a single setting makes it fit"]
    advice = fastest_settings(model_class, feature_map, params, found)
    lines += [*_fastest(advice, params), "", *_notes(params, model_class, found)]
    return "\n".join(lines)


def _table(found, rows):
    memory = found.memory
    yield f"{'parameters':<32}{found.parameters:>16,}"
    yield f"{'  embeddings':<32}{found.embedding_parameters:>16,}"
    yield f"{'  the rest':<32}{found.parameters - found.embedding_parameters:>16,}"
    yield f"{'memory at the peak of a step':<32}{format_bytes(memory.peak):>16}"
    yield f"{'  weights':<32}{format_bytes(memory.weights):>16}"
    yield f"{'  gradients':<32}{format_bytes(memory.gradients):>16}"
    yield f"{'  optimizer state':<32}{format_bytes(memory.optimizer_state):>16}"
    yield f"{'  activations and temporaries':<32}{format_bytes(memory.activations):>16}"
    for split, size in found.data.items():
        where = "on the GPU" if split in found.on_gpu else "in RAM, or streamed"
        yield f"{f'{split} data':<32}{format_bytes(size):>16}  {where}"
    yield f"a step of {found.batch_size:,} rows"
    products, traffic = (format_seconds(seconds) for seconds in (found.compute_seconds, found.traffic_seconds))
    yield f"{'  matrix products':<32}{f'{found.flops / 1e9:,.1f} GFLOP':>16}{products:>12}"
    yield f"{'  bytes read and written':<32}{format_bytes(found.bytes_moved):>16}{traffic:>12}"
    yield f"{'  floor, if the two overlap':<48}{format_seconds(found.floor_seconds):>12}"
    yield f"{'  floor, kernel after kernel':<48}{format_seconds(found.kernel_seconds):>12}"
    yield f"{'  the two one after the other':<48}{format_seconds(found.compute_seconds + found.traffic_seconds):>12}"
    if found.expected_seconds:
        yield f"{'  expected, as measured (see below)':<48}{format_seconds(found.expected_seconds):>12}"
    if "train" in rows:
        steps = -(-rows["train"] // found.batch_size)
        epoch = f"an epoch: {rows['train']:,} rows, {steps:,} steps"
        yield f"{epoch:<48}{format_seconds(steps * found.floor_seconds):>12}  by the floor"
        if found.expected_seconds:
            yield f"{'':<48}{format_seconds(steps * found.expected_seconds):>12}  expected"


def _fastest(advice, params):
    """The settings that would make a step fastest, where they are not those of the run."""
    if not advice:
        return
    yield ""
    same, *rounded = advice
    changed = {key: value for key, value in same.settings.items() if params.get(key, DEFAULTS[key]) != value}
    yield f"{'fastest with the same results':<48}{format_seconds(same.seconds):>12}  {_settings(changed) or 'as it is'}"
    for other in rounded:
        changed = {**changed, "precision": other.settings["precision"]}
        yield f"{'faster, products rounded':<48}{format_seconds(other.seconds):>12}  {_settings(changed)}"


def _settings(changed):
    return ", ".join(f"{key}: {value}" for key, value in changed.items())


def _notes(params, model_class, found):
    yield "Floors: operations as PyTorch runs them, at the data sheet's peaks; no launches, no feeding, no caches."
    yield "Not counted in memory: the CUDA context, and what kernels and the allocator take for themselves."
    if found.expected_seconds:
        yield f"Expected times: by steps of DCNv2 that were measured on {MEASURED}, as shares of the floor."
        yield "The first step with compile: True takes 6 to 17 s more, for the compilation."
    if not is_fuxictr_me_model(model_class):
        yield f"{get_class_name(params['model'])} takes FuxiCTR's own steps, its sets in turn."
        if unread := describe_unread_keys(model_class, params):
            yield f"{unread[0].upper()}{unread[1:]}."
    if params.get("embedding_updates", "dense") != "dense":
        yield "Updates by rows: each batch is taken to hold as many different ids as it can."
    if params.get("embedding_updates") == "catch_up":
        yield "catch_up: its first steps are dense and count for the memory; the step shown is one by rows."
    if params.get("compile"):
        yield "compile: True is left out of floor and memory: its kernels move fewer bytes."


def _change(key, value, changed):
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"{f'  {key}: {shown}':<32}{format_bytes(changed.needed):>16}  fits{REMARKS.get(value, '')}"


def _speeds(found):
    gpu, precision = found.gpu, found.precision if found.precision in found.gpu.peaks else "float32"
    note = "" if precision == found.precision else f", it has no {found.precision}"
    speed = f"{gpu.peak(precision) / 1e12:g} TFLOP/s of {precision}{note}"
    return f"{format_bytes(gpu.memory)}, {gpu.bandwidth / 1e12:g} TB/s, {speed}"
