"""The callback that gives a model new embeddings in each epoch (MEDA, arXiv 2407.01607)."""

import inspect
import logging

import torch
from torch import nn

from fuxictr_me.compat import BaseModel, FeatureEmbeddingDict
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.parameters import fused_tables


class ReinitialiseEmbeddings(Callback):
    """Initialise the embedding tables again at the start of each epoch but the first, and keep all other weights.

    CTR models often overfit from the second epoch on, because the embeddings of rare ids have learnt their labels.
    With new embeddings, the rest of the network is trained for several epochs (MEDA, arXiv 2407.01607, without its
    data augmentation). The optimizer's state of the tables starts anew, too.

    This concerns all tables that FuxiCTR's feature embeddings initialise, which includes those of dimension 1 in linear
    terms. Pretrained vectors, the weights of numeric fields and tables outside of these layers are kept.
    """

    def on_epoch_start(self, model: BaseModel) -> None:
        if model._epoch_index == 0:
            return
        for table in fused_tables(model):
            table.settle()  # updates that were put off must not follow the new weights
        versions = {parameter: parameter._version for parameter in model.parameters()}
        for module in model.modules():
            if isinstance(module, FeatureEmbeddingDict | MultiEmbedding):
                module.init_weights()
        # PyTorch counts the changes of a tensor in place, those through views of it included.
        changed = [parameter for parameter, version in versions.items() if parameter._version != version]
        for optimizer in _find_optimizers(model):
            reset_state(optimizer, changed)
        model.forget_steps()
        logging.info(f"embeddings are initialised again: {sum(p.numel() for p in changed):,} weights")


def reset_state(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Give parameters the optimizer state with which they would start."""
    cls = type(optimizer)
    names = inspect.signature(cls).parameters.keys() - {"params"}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if any(parameter is other for other in parameters):
                # Some optimizers, such as Adagrad, have a state before the first step.
                fresh = cls([parameter], **{name: group[name] for name in names if name in group})
                optimizer.state.pop(parameter, None)
                optimizer.state.update(fresh.state)


def _find_optimizers(model: BaseModel) -> list[torch.optim.Optimizer]:
    return [value for value in vars(model).values() if isinstance(value, torch.optim.Optimizer)]
