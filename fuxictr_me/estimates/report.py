"""``fuxictr-me plan``: what a run will take, before it."""

from pathlib import Path

from fuxictr_me.config import find_config
from fuxictr_me.config.known_keys import unread_keys
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.advice import fastest_settings
from fuxictr_me.estimates.measured_steps import MEASURED
from fuxictr_me.estimates.plan import plan, what_would_fit
from fuxictr_me.estimates.vocabulary import feature_map_of, published, read_vocabulary, rows_of
from fuxictr_me.runs.run_data import load_feature_map
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.zoo.find_model import find_model, is_ours, short_name

REMARKS = {"memory": "  (the rows stay in RAM)"}
DEFAULTS = {"compile": False, "cuda_graph": "auto", "precision": "float32", "embedding_updates": "dense"}


def run(expid, config=None, gpu_model="H100", vocabulary=None):
    """Say what an experiment will take on a GPU.

    Args:
        expid (str): experiment id.
        config (str): folder of ``model_config.yaml`` and ``dataset_config.yaml``; the bundled entry that has
            ``expid`` if None.
        gpu_model (str): of ``fuxictr_me.estimates.GPUS``.
        vocabulary (str): a JSON file, field -> number of ids, in place of a data set that is built.

    Returns:
        str: a table.

    Raises:
        UsageError: settings that cannot be, or a data set that is neither built nor of known vocabulary.
    """
    config = config or find_config(expid)
    params = load_settings(config, expid, find_data=False)
    feature_map, source = find_feature_map(params, config, vocabulary)
    rows = rows_of(params, _folder(params))
    model_class = find_model(params["model"])
    arguments = model_class, feature_map, params, gpu_model, rows
    found = plan(*arguments)
    lines = [f"{expid} on one {found.gpu.name} ({_speeds(found)})", source, "", *_table(found, rows), ""]
    lines.append(f"{'fits' if found.fits else 'does not fit'}: {_size(found.needed)} of {found.gpu.memory / 1e9:g} GB")
    if not found.fits:
        changes = what_would_fit(*arguments)
        lines += [_change(*change) for change in changes] or ["  no change of a single setting makes it fit"]
    advice = fastest_settings(model_class, feature_map, params, found)
    lines += [*_fastest(advice, params), "", *_notes(params, model_class, found)]
    return "\n".join(lines)


def find_feature_map(params, config, vocabulary=None):
    """The feature map of a run: of the built set, or by a vocabulary, and a line that says which.

    Args:
        params (dict): settings of the run.
        config (str): folder that they are from, None where they come with the package.
        vocabulary (str): a JSON file, which goes before a built set.

    Raises:
        UsageError: there is neither.
    """
    folder, dataset_id = _folder(params), params["dataset_id"]
    source = published(dataset_id)
    if vocabulary is None and (folder / "feature_map.json").exists():
        return load_feature_map(folder, params), f"{dataset_id} as built in {folder}"
    if vocabulary is not None:
        return feature_map_of(params, read_vocabulary(vocabulary)), f"{dataset_id} with the ids of {vocabulary}"
    if source is None or not (source / "vocabulary.json").exists():
        option = f" --config {config}" if config else ""
        raise UsageError(
            f"data set {dataset_id!r} is not built in {folder}, and its vocabulary did not come with this package: "
            f"build it first (fuxictr-me data build {dataset_id}{option}), or give field: number of ids "
            "in a JSON file as --vocabulary"
        )
    ids = read_vocabulary(source / "vocabulary.json")
    return feature_map_of(params, ids), f"{dataset_id} is not built: {sum(ids.values()):,} ids, as published"


def _table(found, rows):
    memory = found.memory
    yield f"{'parameters':<32}{found.parameters:>16,}"
    yield f"{'  embeddings':<32}{found.embedding_parameters:>16,}"
    yield f"{'  the rest':<32}{found.parameters - found.embedding_parameters:>16,}"
    yield f"{'memory at the peak of a step':<32}{_size(memory.peak):>16}"
    yield f"{'  weights':<32}{_size(memory.weights):>16}"
    yield f"{'  gradients':<32}{_size(memory.gradients):>16}"
    yield f"{'  optimizer state':<32}{_size(memory.optimizer_state):>16}"
    yield f"{'  activations and temporaries':<32}{_size(memory.activations):>16}"
    for split, size in found.data.items():
        where = "on the GPU" if split in found.on_gpu else "in RAM, or streamed"
        yield f"{f'{split} data':<32}{_size(size):>16}  {where}"
    yield f"a step of {found.batch_size:,} rows"
    products, traffic = (_time(seconds) for seconds in (found.compute_seconds, found.traffic_seconds))
    yield f"{'  matrix products':<32}{f'{found.flops / 1e9:,.1f} GFLOP':>16}{products:>12}"
    yield f"{'  bytes read and written':<32}{_size(found.bytes_moved):>16}{traffic:>12}"
    yield f"{'  floor, if the two overlap':<48}{_time(found.floor_seconds):>12}"
    yield f"{'  floor, kernel after kernel':<48}{_time(found.kernel_seconds):>12}"
    yield f"{'  the two one after the other':<48}{_time(found.compute_seconds + found.traffic_seconds):>12}"
    if found.expected_seconds:
        yield f"{'  expected, as measured (see below)':<48}{_time(found.expected_seconds):>12}"
    if "train" in rows:
        steps = -(-rows["train"] // found.batch_size)
        epoch = f"an epoch: {rows['train']:,} rows, {steps:,} steps"
        yield f"{epoch:<48}{f'{steps * found.floor_seconds:,.1f} s':>12}  by the floor"
        if found.expected_seconds:
            yield f"{'':<48}{f'{steps * found.expected_seconds:,.1f} s':>12}  expected"


def _fastest(advice, params):
    """The settings that would make a step fastest, where they are not those of the run."""
    if not advice:
        return
    yield ""
    same, *rounded = advice
    changed = {key: value for key, value in same.settings.items() if params.get(key, DEFAULTS[key]) != value}
    yield f"{'fastest with the same results':<48}{_time(same.seconds):>12}  {_settings(changed) or 'as it is'}"
    for other in rounded:
        changed = {**changed, "precision": other.settings["precision"]}
        yield f"{'faster, products rounded':<48}{_time(other.seconds):>12}  {_settings(changed)}"


def _settings(changed):
    return ", ".join(f"{key}: {value}" for key, value in changed.items())


def _notes(params, model_class, found):
    yield "Floors: operations as PyTorch runs them, at the data sheet's peaks; no launches, no feeding, no caches."
    yield "Not counted in memory: the CUDA context, and what kernels and the allocator take for themselves."
    if found.expected_seconds:
        yield f"Expected times: by steps of DCNv2 that were measured on {MEASURED}, as shares of the floor."
        yield "The first step with compile: True takes 6 to 17 s more, for the compilation."
    if not is_ours(model_class):
        yield f"{short_name(params['model'])} takes FuxiCTR's own steps, its sets in turn."
        if unread := unread_keys(model_class, params):
            yield f"{unread[0].upper()}{unread[1:]}."
    if params.get("embedding_updates", "dense") != "dense":
        yield "Updates by rows: each batch is taken to hold as many different ids as it can."
    if params.get("embedding_updates") == "catch_up":
        yield "catch_up: its first steps are dense and count for the memory; the step shown is one by rows."
    if params.get("compile"):
        yield "compile: True is left out of floor and memory: its kernels move fewer bytes."


def _change(key, value, changed):
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"{f'  {key}: {shown}':<32}{_size(changed.needed):>16}  fits{REMARKS.get(value, '')}"


def _speeds(found):
    gpu, precision = found.gpu, found.precision if found.precision in found.gpu.peaks else "float32"
    note = "" if precision == found.precision else f", it has no {found.precision}"
    speed = f"{gpu.peak(precision) / 1e12:g} TFLOP/s of {precision}{note}"
    return f"{gpu.memory / 1e9:g} GB, {gpu.bandwidth / 1e12:g} TB/s, {speed}"


def _folder(params):
    return Path(params["data_root"]) / params["dataset_id"]


def _size(count):
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _time(seconds):
    return f"{seconds * 1e3:,.2f} ms"
