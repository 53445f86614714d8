"""The models that the GPU benchmark builds: six families, and the contestants of a cell."""

import sys
from pathlib import Path

import torch
from machine import Machine

sys.path.insert(0, str(Path(__file__).parents[1]))  # plain.py is next to this folder

DIM, REGULARISER = 10, 1e-5
COMMON = {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0}
COMMON |= {"metrics": ["AUC", "logloss"]}
_MLP = {"net_dropout": 0.2, "batch_norm": True}
_STREAMS = {f"mlp{i}_{key}": value for i in (1, 2) for key, value in (("dropout", 0.2), ("batch_norm", True))}
FAMILIES = {
    "DCNv2": {"stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, **_MLP},
    "DNN": {"hidden_units": [400, 400], **_MLP},
    "FinalMLP": {"mlp1_hidden_units": [400, 400], "mlp2_hidden_units": [400, 400], **_STREAMS},
    "PNN": {"hidden_units": [400, 400], "concat_embeddings": True, **_MLP},
    "NFwFM": {"hidden_units": [400, 400], **_MLP},
    "xDeepFM": {"dnn_hidden_units": [400, 400], "cin_hidden_units": [16, 16], **_MLP},
}
SMALL_FAMILIES = {
    "DNN": {"hidden_units": [64, 40], **_MLP},
    "PNN": {"hidden_units": [64, 40], "concat_embeddings": True, **_MLP},
    "NFwFM": {"hidden_units": [64, 40], **_MLP},
    "xDeepFM": {"dnn_hidden_units": [64, 40], "cin_hidden_units": [16, 16], **_MLP},
    "DCNv2": {"stacked_dnn_hidden_units": [64, 40], "num_cross_layers": 3, **_MLP},
    "FinalMLP": {"mlp1_hidden_units": [64, 40], "mlp2_hidden_units": [48], "mlp1_dropout": 0.2, "mlp2_dropout": 0.2},
}
PLAIN_FAMILIES = ("DCNv2", "DNN", "FinalMLP")  # that plain.py has

# name -> settings of fuxictr-me's model
OURS = {
    "eager": {"cuda_graph": False},
    "default": {},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "compile, tf32": {"compile": True, "precision": "tf32"},
    "compile, bf16": {"compile": True, "precision": "bf16"},
    "no L2, compile, tf32": {"compile": True, "precision": "tf32", "embedding_regularizer": None},
    "no L2, compile, tf32, catch_up": {
        **{"compile": True, "precision": "tf32", "embedding_regularizer": None},
        "embedding_updates": "catch_up",
    },
}
# name -> (one set only, its dimension as that of one set rather than of all) of FuxiCTR's layers
PLAIN = {"plain": (False, False), "FuxiCTR SE, same size": (True, False), "FuxiCTR SE, dimension 10": (True, True)}


def settings_of(cell: dict) -> dict:
    """Return the settings of fuxictr-me's model in a cell."""
    settings = {**COMMON, **FAMILIES[cell["family"]], "num_sets": cell["M"], "embedding_dim": DIM}
    return settings | {"embedding_regularizer": REGULARISER, **OURS[cell["contestant"]]}


def class_of(family: str) -> type:
    """Return fuxictr-me's model class of a family."""
    import fuxictr_me

    return getattr(fuxictr_me, f"{family}_ME")


def build(machine: Machine, cell: dict) -> object:
    """Return the model of a cell, initialised on the device and set up for training."""
    feature_map, name = machine.feature_map(cell["ids"]), cell["contestant"]
    if name in PLAIN:
        import plain

        is_single, is_small = PLAIN[name]
        sets = 1 if is_single else cell["M"]
        dim = DIM * cell["M"] if is_single and not is_small else DIM
        model_class = getattr(plain, f"Plain{cell['family']}ME")
        settings = {**COMMON, **FAMILIES[cell["family"]], "num_sets": sets, "embedding_dim": dim}
        settings["embedding_regularizer"] = REGULARISER
    else:
        model_class, settings = class_of(cell["family"]), settings_of(cell)
    torch.manual_seed(0)
    with machine.device:
        model = model_class(feature_map, gpu=machine.gpu, model_root=machine.checkpoints, **settings)
    return prepare(machine, model)


def prepare(machine: Machine, model: object) -> object:
    """Set a model up for training as FuxiCTR's ``fit`` does; on a CPU let it compute as on a GPU."""
    from fuxictr_me.training import FastTraining
    from fuxictr_me.training.cuda_graph import CallRecorder
    from fuxictr_me.training.step import Step

    if machine.is_tiny and isinstance(model, FastTraining):
        model.recorder = CallRecorder()
        model._step = Step(model, model.embedding_updates, on_cpu=False)
    model.train()
    model._max_gradient_norm, model._total_steps, model._stop_training = 10.0, 0, False
    model._eval_steps, model._epoch_index = 10**9, 0
    model.optimizer.zero_grad()
    return model
