"""Refuse a model that cannot fit into memory before it is built, by its settings and its data's vocabularies."""

from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch._subclasses.fake_tensor import FakeTensorMode

from fuxictr_me.config.columns import get_column_names
from fuxictr_me.config.dataset_options import WITH_VOCABULARY
from fuxictr_me.config.model_registry import is_fuxictr_me_model
from fuxictr_me.config.optimizer_options import spell_optimizer
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.simulate import SIMULATED, stay_on_device
from fuxictr_me.formatting import format_bytes
from fuxictr_me.io.free_memory import free_memory

BYTES = 4  # of a float32
MIN_ROWS = 2  # of a table: those of padding and of unknown ids
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")  # two moments of each weight
ONE_PASS = ("Adam",)  # update a fused table in one pass, see training/one_pass.py
MAX_STORAGE = 2**63  # bytes of a tensor that torch can count
MAX_GPUS = 1_000  # models that need the memory of more GPUs are not planned


def check_memory(
    model_class: type, params: dict[str, Any], feature_map: FeatureMap | None = None, processes: int = 1
) -> None:
    """Refuse a model whose weights, gradients and moments do not fit into the free memory.

    This is a lower bound, without activations and data. If a layer could be very wide, the model is built on tensors
    without data, and its weights are counted.

    Args:
        model_class: as ``find_model`` returns it.
        params: settings of the run, with ``gpu``.
        feature_map: of the data; None if they are not built, and then each field counts two rows.
        processes: number of processes that share the model.

    Raises:
        UsageError: with the memory that is needed at least, and what is free.
    """
    gpu = params.get("gpu", -1)
    free = torch.cuda.mem_get_info(gpu)[0] if gpu >= 0 else free_memory()
    needed = estimate_min_bytes(model_class, params, feature_map)
    if feature_map is not None and needed <= free * processes and _may_be_wide(model_class, params, feature_map, free):
        needed = BYTES * count_copies(params, of_table=True) * count_parameters(model_class, params, feature_map)
    if needed > free * processes:
        where = f"on GPU {gpu}" if gpu >= 0 else "of RAM"
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise UsageError(
            f"{describe_size(params)} needs at least {format_bytes(needed / processes)} to train{each}, and "
            f"{format_bytes(free)} {where} are free: make embedding_dim, num_sets or the hidden units smaller"
        )


def check_plannable(model_class: type, params: dict[str, Any], feature_map: FeatureMap, memory: float) -> None:
    """Refuse to plan a model that needs the memory of more than ``MAX_GPUS`` GPUs.

    Args:
        model_class, params, feature_map: see ``check_memory``.
        memory: bytes of the GPU.

    Raises:
        UsageError: with the memory that is needed at least, and what the GPU has.
    """
    needed = estimate_min_bytes(model_class, params, feature_map)
    if needed <= MAX_GPUS * memory and _may_be_wide(model_class, params, feature_map, MAX_GPUS * memory):
        needed = BYTES * count_copies(params, of_table=True) * count_parameters(model_class, params, feature_map)
    if needed > MAX_GPUS * memory:
        raise UsageError(
            f"{describe_size(params)} needs at least {format_bytes(needed)} to train, "
            f"and the GPU has {format_bytes(memory)}"
        )


def estimate_min_bytes(model_class: type, params: dict[str, Any], feature_map: FeatureMap | None = None) -> int:
    """Return a lower bound of the bytes for training: those of tables and of the weights between hidden layers."""
    dims = get_set_dims(model_class, params)
    features = _features(params) if feature_map is None else feature_map.features
    tables = 0
    for spec in features.values():
        if spec["type"] in WITH_VOCABULARY and "share_embedding" not in spec and "pretrained_emb" not in spec:
            dim = spec.get("embedding_dim")
            tables += spec.get("vocab_size", MIN_ROWS) * (sum(dims) if dim is None else dim * len(dims))
    hidden = 0
    for units in _hidden_units(params):
        hidden += sum(before * after for before, after in zip([len(dims), *units], units, strict=False))
    return BYTES * (count_copies(params, of_table=True) * tables + count_copies(params) * hidden)


def count_copies(params: dict[str, Any], of_table: bool = False) -> int:
    """Return how many numbers training keeps per weight: the weight, its gradient, and its moments.

    Args:
        params: settings of the run.
        of_table: whether the weight is in an embedding table, for which Adam needs no gradient.
    """
    optimizer = spell_optimizer(str(params.get("optimizer", "adam")))
    return 1 + (2 if optimizer in ADAMS else 0) + (0 if of_table and optimizer in ONE_PASS else 1)


def count_parameters(model_class: type, params: dict[str, Any], feature_map: FeatureMap) -> int:
    """Return the number of weights of a model, by building it on tensors without data."""
    settings = {**params, **SIMULATED} | {key: False for key in ("compile", "batched") if key in params}
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = stay_on_device(model_class)(feature_map, **settings)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        return MAX_STORAGE // BYTES
    return sum(weight.numel() for weight in model.parameters())


def get_set_dims(model_class: type, params: dict[str, Any]) -> list[int]:
    """Return the embedding dimension of each set, from settings that have been checked."""
    dim = params.get("embedding_dim", 10)
    if isinstance(dim, list | tuple):
        return list(dim)
    sets = params.get("num_sets") or (
        len(params.get("interactions") or [0] * 4) if is_fuxictr_me_model(model_class) else 1
    )
    return [dim] * sets


def describe_size(params: dict[str, Any]) -> str:
    """Return the settings that determine a model's size, in words."""
    dim, sets = params.get("embedding_dim", 10), params.get("num_sets")
    return f"{params.get('model', 'the model')} with embedding_dim {dim}" + (f" and num_sets {sets}" if sets else "")


def _may_be_wide(model_class: type, params: dict[str, Any], feature_map: FeatureMap, free: float) -> bool:
    """Whether a layer from all embeddings to as many numbers, or to a hidden layer, could fill a tenth of ``free``.

    False for models that are not fuxictr-me's: their code may look at data, so they cannot be built without.
    """
    if not is_fuxictr_me_model(model_class):
        return False
    dims = get_set_dims(model_class, params)
    fields = sum(spec["type"] != "meta" for spec in feature_map.features.values())
    inputs = fields * max(dims)
    widest = max([inputs, *(max(units) for units in _hidden_units(params) if units)])
    return BYTES * count_copies(params) * len(dims) * inputs * widest > free / 10


def _hidden_units(params: dict[str, Any]) -> list[list[int]]:
    values = [value for key, value in params.items() if key.endswith("hidden_units")]
    return [
        list(units) for units in values if isinstance(units, list | tuple) and all(isinstance(u, int) for u in units)
    ]


def _features(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the columns of the fields, by the config; one field if it does not name any."""
    columns = params.get("feature_cols") or []
    return {name: column for column in columns if column.get("active", True) for name in get_column_names(column)} or {
        "a field": {"type": "categorical"}
    }
