"""Refuse a model that cannot fit, before it is made: by its settings, then by the vocabularies of its data."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fuxictr_me.config.columns import get_column_names
from fuxictr_me.config.options import WITH_VOCABULARY
from fuxictr_me.data.loaders.h5_loader import free_memory
from fuxictr_me.errors import UsageError
from fuxictr_me.formatting import format_bytes
from fuxictr_me.zoo.find_model import is_fuxictr_me_model

BYTES = 4  # of a float32
ROWS = 2  # a table has those of padding and of unknown ids
ADAMS = ("adam", "Adam", "AdamW", "NAdam", "RAdam", "Adamax")  # two moments of each weight
ONE_PASS = ("adam", "Adam")  # update a fused table in one pass, see training/one_pass.py
LARGEST_STORAGE = 2**63  # bytes of a tensor, above which torch cannot count them
HOPELESS = 1_000  # times the memory of one GPU, above which there is nothing to plan


def check_memory(model_class: type, params: dict, feature_map: object = None, processes: int = 1) -> None:
    """Refuse a model whose weights and their training do not fit what is free.

    What is counted is a lower bound: weights, gradients and moments, without activations and data. Where a layer
    could be very wide, the model is made on tensors without data, and its weights counted.

    Args:
        model_class: as ``find_model`` gives it.
        params: settings of the run, ``gpu`` among them.
        feature_map: of the data; None where they are not built, so that each field has two rows.
        processes: how many share the model.

    Raises:
        UsageError: with the memory that it takes at least, and what there is.
    """
    gpu = params.get("gpu", -1)
    free = torch.cuda.mem_get_info(gpu)[0] if gpu >= 0 else free_memory()
    needed = least_bytes(model_class, params, feature_map)
    if feature_map is not None and needed <= free * processes and _may_be_wide(model_class, params, feature_map, free):
        needed = BYTES * copies(params, of_table=True) * count_parameters(model_class, params, feature_map)
    if needed > free * processes:
        where = f"on GPU {gpu}" if gpu >= 0 else "of RAM"
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise UsageError(
            f"{describe(params)} needs at least {format_bytes(needed / processes)} to train{each}, and "
            f"{format_bytes(free)} {where} are free: make embedding_dim, num_sets or the hidden units smaller"
        )


def check_plan(model_class: type, params: dict, feature_map: object, memory: float) -> None:
    """Refuse to plan a model that no number of GPUs could hold.

    Args:
        model_class, params, feature_map: as of ``check_memory``.
        memory: bytes of the GPU.

    Raises:
        UsageError: with the memory that it takes at least, and what there is.
    """
    needed = least_bytes(model_class, params, feature_map)
    if needed <= HOPELESS * memory and _may_be_wide(model_class, params, feature_map, HOPELESS * memory):
        needed = BYTES * copies(params, of_table=True) * count_parameters(model_class, params, feature_map)
    if needed > HOPELESS * memory:
        raise UsageError(
            f"{describe(params)} needs at least {format_bytes(needed)} to train, and the GPU has {format_bytes(memory)}"
        )


def least_bytes(model_class: type, params: dict, feature_map: object = None) -> int:
    """Return the bytes that training takes at least: of tables, and of hidden layers between each other."""
    dims = set_dims(model_class, params)
    features = _features(params) if feature_map is None else feature_map.features
    tables = 0
    for spec in features.values():
        if spec["type"] in WITH_VOCABULARY and "share_embedding" not in spec and "pretrained_emb" not in spec:
            own = spec.get("embedding_dim")
            tables += spec.get("vocab_size", ROWS) * (sum(dims) if own is None else own * len(dims))
    hidden = 0
    for units in _hidden_units(params):
        hidden += sum(before * after for before, after in zip([len(dims), *units], units, strict=False))
    return BYTES * (copies(params, of_table=True) * tables + copies(params) * hidden)


def copies(params: dict, of_table: bool = False) -> int:
    """Return how many numbers training keeps for each weight: itself, its gradient, and its moments.

    Args:
        params: settings of the run.
        of_table: whether it is a weight of an embedding table, whose gradient Adam does without.
    """
    optimizer = params.get("optimizer", "adam")
    return 1 + (2 if optimizer in ADAMS else 0) + (0 if of_table and optimizer in ONE_PASS else 1)


def count_parameters(model_class: type, params: dict, feature_map: object) -> int:
    """Return the number of weights of a model, which is made on tensors without data."""
    from fuxictr_me.estimates.simulate import ALONE, staying

    settings = {**params, **ALONE} | {key: False for key in ("compile", "batched") if key in params}
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            model = staying(model_class)(feature_map, **settings)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        return LARGEST_STORAGE // BYTES
    return sum(weight.numel() for weight in model.parameters())


def set_dims(model_class: type, params: dict) -> list[int]:
    """Return the embedding dimension of each set, by settings that have been checked."""
    dim = params.get("embedding_dim", 10)
    if isinstance(dim, list | tuple):
        return list(dim)
    sets = params.get("num_sets") or (
        len(params.get("interactions") or [0] * 4) if is_fuxictr_me_model(model_class) else 1
    )
    return [dim] * sets


def describe(params: dict) -> str:
    """Return the settings that a model's size comes from, in words."""
    dim, sets = params.get("embedding_dim", 10), params.get("num_sets")
    return f"{params.get('model', 'the model')} with embedding_dim {dim}" + (f" and num_sets {sets}" if sets else "")


def _may_be_wide(model_class: type, params: dict, feature_map: object, free: float) -> bool:
    """Return whether square layers as wide as all embeddings, or as wide as one hidden layer, would fill a tenth.

    The code of other models may look at data, so that they cannot be made without.
    """
    if not is_fuxictr_me_model(model_class):
        return False
    dims = set_dims(model_class, params)
    fields = sum(spec["type"] != "meta" for spec in feature_map.features.values())
    inputs = fields * max(dims)
    widest = max([inputs, *(max(units) for units in _hidden_units(params) if units)])
    return BYTES * copies(params) * len(dims) * inputs * widest > free / 10


def _hidden_units(params: dict) -> list[list[int]]:
    of_layers = [value for key, value in params.items() if key.endswith("hidden_units")]
    return [
        list(units) for units in of_layers if isinstance(units, list | tuple) and all(isinstance(u, int) for u in units)
    ]


def _features(params: dict) -> dict[str, dict]:
    columns = params.get("feature_cols") or []
    return {name: column for column in columns if column.get("active", True) for name in get_column_names(column)} or {
        "a field": {"type": "categorical"}
    }
