"""The forward pass that all multi-embedding models share."""

import math
import os
from pathlib import Path

import torch
from fuxictr.pytorch.models import BaseModel
from torch import nn

from fuxictr_me.callbacks import attach, build
from fuxictr_me.checkpoint import load_state_dict, save_state_dict
from fuxictr_me.embedding import FUXICTR_INITIALIZER, MultiEmbedding
from fuxictr_me.errors import RunError, UsageError, unknown
from fuxictr_me.interactions import SetLinear
from fuxictr_me.settings import (
    check_initializer,
    check_model_settings,
    check_optimizer_and_loss,
)

NETWORK_INITIALIZERS = ("fuxictr", "paper")


class MultiEmbeddingModel(BaseModel):
    """ŷ = sigmoid(head(aggregate_m projection⁽ᵐ⁾(interaction⁽ᵐ⁾(embedding⁽ᵐ⁾(x))))) (paper, section 4).

    A subclass builds ``self.projection`` and ``self.head`` (``build_towers`` does), says in ``interact``
    what happens inside a set, and ends its constructor with ``finish``. Any of the four parts can be
    overridden alone. ``num_sets=1`` is the single-embedding (SE) model.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        model_id (str): names the checkpoint, the log and the IA file.
        gpu (int): CUDA device, -1 for the CPU.
        learning_rate (float), optimizer (str), loss (str): as FuxiCTR's ``compile`` takes them.
        num_sets (int): M.
        embedding_dim (int): K, the dimension of ONE set.
        embedding_initializer (str or callable): as ``MultiEmbedding`` takes it; ``"paper"`` is the paper's.
        network_initializer (str): ``"fuxictr"`` (xavier_normal, zero bias) or ``"paper"`` (cross weights
            xavier_uniform with zero bias, all else PyTorch's defaults).
        first_set_checkpoint (str): a checkpoint of a FuxiCTR model whose embeddings become set 0.
        callbacks (list): names, ``{name: {argument: value}}``, or ``Callback`` objects.
        metrics (list of str), model_root (str), verbose (int), **kwargs: of FuxiCTR's ``BaseModel``, e.g.
            ``embedding_regularizer``, ``net_regularizer``, ``monitor``, ``early_stop_patience``.

    Raises:
        UsageError: a key that neither FuxiCTR nor the model knows, or a value that cannot be.
    """

    fields_apart = False  # whether ``interact`` needs the fields of a set apart, so of equal dimension

    def __init__(
        self,
        feature_map,
        model_id="MultiEmbeddingModel",
        gpu=-1,
        learning_rate=1e-3,
        embedding_dim=10,
        num_sets=4,
        embedding_initializer=FUXICTR_INITIALIZER,
        network_initializer="fuxictr",
        first_set_checkpoint=None,
        callbacks=None,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=("AUC", "logloss"),
        model_root="./checkpoints/",
        verbose=1,
        **kwargs,
    ):
        check_model_settings(type(self), {"gpu": gpu, "metrics": metrics, "learning_rate": learning_rate, **kwargs})
        check_optimizer_and_loss(optimizer, loss)
        check_initializer(embedding_initializer)
        if network_initializer not in NETWORK_INITIALIZERS:
            raise unknown("network_initializer", network_initializer, NETWORK_INITIALIZERS)
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            metrics=list(metrics),
            model_root=model_root,
            verbose=verbose,
            **kwargs,
        )
        self.network_initializer = network_initializer
        self.first_set_checkpoint = first_set_checkpoint
        self._compile_arguments = (optimizer, loss, learning_rate)
        self.embedding_layer = MultiEmbedding(feature_map, embedding_dim, num_sets, embedding_initializer)
        self.num_sets = num_sets
        if self.fields_apart and len(dims := set(self.embedding_layer.field_dims.values())) > 1:
            raise UsageError(f"{type(self).__name__} needs fields of one dimension, got {sorted(dims)}")
        attach(self, build(callbacks))

    def finish(self):
        """End a constructor as FuxiCTR's models do: ``compile``, ``reset_parameters``, ``model_to_device``."""
        self.compile(*self._compile_arguments)
        self.reset_parameters()
        self.model_to_device()

    def fit(self, data_generator, epochs=1, validation_data=None, max_gradient_norm=10.0, **kwargs):
        """FuxiCTR's, which without an evaluation would end by loading the checkpoint of an earlier run.

        Raises:
            UsageError: no validation data, or ``eval_steps`` beyond the last step.
        """
        steps = epochs * len(data_generator)
        if validation_data is None:
            raise UsageError("fit needs validation_data: the best checkpoint is chosen by it")
        if self._eval_steps and self._eval_steps > steps:
            raise UsageError(f"eval_steps is {self._eval_steps}, but training ends after {steps} steps: no evaluation")
        super().fit(data_generator, epochs, validation_data, max_gradient_norm, **kwargs)

    def forward(self, inputs):
        """inputs: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}."""
        return {"y_pred": self.output_activation(self.logit(self.get_inputs(inputs)))}

    def logit(self, X):
        """field -> ids (B,) ... -> (B, 1)."""
        e = self.embed(X)  # (B, M, ΣK), or (B, M, F, K)
        h = self.aggregate(self.projection(self.interact(e)))  # (B, H)
        return self.head(h)

    def embed(self, X):
        """e: field -> ids (B,) ... -> (B, M, ΣK); (B, M, F, K) in a model whose ``fields_apart`` is true."""
        return self.embedding_layer(X, flatten_emb=not self.fields_apart)

    def interact(self, e):
        """e -> the inputs of the projections, a list of one (B, M, ·) a branch."""
        return [e]

    def aggregate(self, h):
        """h = (1/M) Σ h⁽ᵐ⁾: (B, M, H) -> (B, H)."""
        return h.mean(dim=1)

    def reset_parameters(self):
        """Initialise as ``network_initializer`` says; embeddings always by ``embedding_initializer``."""
        super().reset_parameters()
        if self.network_initializer == "paper":
            self.apply(_init_as_paper)
        if self.first_set_checkpoint:
            self.embedding_layer.load_set(0, load_state_dict(self.first_set_checkpoint))

    def num_parameters(self, count_embedding=True):
        """Number of trained parameters; FuxiCTR's ``count_parameters`` only logs it."""
        return sum(
            p.numel()
            for name, p in self.named_parameters()
            if p.requires_grad and (count_embedding or "embedding_layer." not in name)
        )

    def add_loss(self, return_dict, y_true):
        """FuxiCTR's task loss, after naming what the loss function only calls out of range.

        Raises:
            RunError: a prediction that is not a number: training has diverged.
            UsageError: a label that is not between 0 and 1.
        """
        try:
            return super().add_loss(return_dict, y_true)
        except RuntimeError:
            self._check_finite(return_dict["y_pred"])
            low, high = float(y_true.min()), float(y_true.max())
            if not (low >= 0 and high <= 1):
                raise UsageError(f"labels must lie between 0 and 1, found {low:g} to {high:g}") from None
            raise

    def _check_finite(self, y_pred):
        if bad := int((~y_pred.isfinite()).sum()):
            raise RunError(
                f"{bad} of {y_pred.numel()} predictions are not finite: training has diverged or the data holds NaN; "
                f"the best checkpoint before it, if there is one, stays at {self.checkpoint}"
            ) from None

    def evaluate_metrics(self, y_true, y_pred, metrics, group_id=None):
        """FuxiCTR's metrics, after naming what would make them meaningless.

        Raises:
            RunError: a prediction that is not a number: training has diverged.
            UsageError: an empty split, or one with a single label.
        """
        if len(y_true) == 0:
            raise UsageError("the split to evaluate holds no rows")
        self._check_finite(torch.from_numpy(y_pred))
        if y_true.min() == y_true.max():
            raise UsageError(
                f"every label of the split to evaluate is {y_true[0]:g}: {', '.join(metrics)} cannot be computed"
            )
        return super().evaluate_metrics(y_true, y_pred, metrics, group_id)

    def checkpoint_and_earlystop(self, logs, min_delta=1e-6):
        """FuxiCTR's, which would save a model whose monitor is NaN as the best."""
        value = self._monitor.get_value(logs)
        if not math.isfinite(value):
            raise RunError(f"the monitored {'+'.join(self._monitor.get_metrics())} is {value}")
        super().checkpoint_and_earlystop(logs, min_delta)

    def save_weights(self, checkpoint):
        """Save the state dict under a temporary name, then move it: a checkpoint is whole or not there."""
        os.makedirs(Path(checkpoint).parent, exist_ok=True)
        save_state_dict(self.state_dict(), checkpoint)

    def load_weights(self, checkpoint):
        """Load a state dict, without running code from the file."""
        self.to(self.device)
        state_dict = load_state_dict(checkpoint)
        try:
            self.load_state_dict(state_dict)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{checkpoint} does not fit this model: {reason[:300]}") from error


def _init_as_paper(module):
    """PyTorch's defaults, and what the module itself says of the paper's; inner modules come before outer."""
    if isinstance(module, (nn.Linear, nn.Conv1d, SetLinear)):
        module.reset_parameters()
    elif hasattr(module, "init_paper_weights"):
        module.init_paper_weights()
