"""The forward pass that all multi-embedding models share."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import get_loss
from torch import Tensor

from fuxictr_me.config.model_options import MODEL_OPTIONS, OWN_HEADS
from fuxictr_me.config.model_registry import ModelEntry, register_model
from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.models.assembly import InteractionMaker, JoinMaker, assemble, check_options
from fuxictr_me.models.penalty_terms import Penalties
from fuxictr_me.nn import MLP
from fuxictr_me.nn.embedding_sets import Inputs, MultiEmbedding
from fuxictr_me.nn.embedding_settings import FUXICTR_INITIALIZER
from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.nn.head import LinearOfAll, SplitMLP
from fuxictr_me.nn.paper_weights import initialise_as_paper
from fuxictr_me.training import CompiledOrEager, FastTraining, autocast, check_updates
from fuxictr_me.training.callbacks import attach, build


class MultiEmbeddingModel(FastTraining):
    """ŷ = sigmoid(head(aggregate_m projection⁽ᵐ⁾(interaction⁽ᵐ⁾(embedding⁽ᵐ⁾(x))))) (paper, section 4).

    A subclass checks its own settings and ends its constructor with ``assemble``, which takes the interaction within
    a set and the hidden layers that follow. Each of the parts can be overridden alone.
    ``num_sets=1`` is the single-embedding (SE) model.

    Consecutive sets of equal dimension (and interaction) form a group, which is computed in one pass. If all sets are
    alike there is one group.

    Args:
        model_id: names the checkpoint, the log and the IA file.
        gpu: CUDA device, -1 for the CPU.
        learning_rate, optimizer, loss: as FuxiCTR's ``compile`` takes them.
        num_sets: M; by default 4, or the length of ``embedding_dim``.
        embedding_dim: K, the dimension of ONE set, or a list with one for each.
        embedding_initializer: as ``MultiEmbedding`` takes it; ``"paper"`` is the paper's.
        network_initializer: ``"fuxictr"`` (xavier_normal, zero bias) or ``"paper"`` (cross weights
            xavier_uniform with zero bias, all else PyTorch's defaults).
        weight_decay: the optimizer's weight decay on all parameters, as in the paper; None keeps
            the optimizer's default. It is neither part of the loss nor subject to gradient clipping. In all other
            respects it equals ``embedding_regularizer`` and ``net_regularizer`` of the same value.
        aggregation: ``mean`` (the paper's), ``sum``, ``weighted``, ``gated``, ``elementwise_gated``, ``concat``, or
            ``ensemble`` and ``confidence``: controls of M single-embedding models whose predictions are fused.
        nonlinear_projection: False moves everything after the first linear layer of the hidden layers
            behind the mean: multi-embedding that cannot be better than one larger embedding (paper, appendix).
        shared_interaction: use one interaction module and projection for all sets (ablation ME-SI).
        <penalty>_regularizer: weight of each of ``penalty_terms.PENALTIES``; 0 leaves one out. Penalties are added
            to the training loss, and the log states each of them.
        first_set_checkpoint: a checkpoint of a FuxiCTR model whose embeddings become set 0.
        fused_embedding: use one table for the plain categorical fields of all sets; False: M·F of FuxiCTR's.
        embedding_updates: ``dense`` (FuxiCTR's), ``catch_up`` (the same result, but only rows of the batch are
            computed; needs Adam and no ``embedding_regularizer``) or ``lazy`` (SparseAdam, which is another optimizer).
        compile: apply ``torch.compile`` to everything after the embeddings, in training.
        cuda_graph: record a whole training step as one CUDA graph and replay it. ``auto``: on a GPU,
            if it is safe; a recorded step is compared with an eager one before it is used.
        precision: of matrix products: ``float32``, ``tf32`` or ``bf16``; the last two change results.
        callbacks: names, ``{name: {argument: value}}``, or ``Callback`` objects.
        metrics, model_root, verbose, **kwargs: of FuxiCTR's ``BaseModel``, e.g.
            ``embedding_regularizer``, ``net_regularizer``, ``monitor``, ``early_stop_patience``, and
            ``optimizer_args``, ``lr_schedule``, ``accumulate_steps`` of ``ScheduledOptimizer``.

    Raises:
        UsageError: for a key that neither FuxiCTR nor the model knows, a value that is not allowed, or options that
            contradict each other.
    """

    fused_table: Callable[..., FusedTable] = FusedTable  # a model on several ranks makes a part of it
    _compiled_forward: Any  # CompiledOrEager or None

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "MultiEmbeddingModel",
        gpu: int = -1,
        learning_rate: float = 1e-3,
        embedding_dim: int | Sequence[int] = 10,
        num_sets: int | None = None,
        embedding_initializer: str | Callable[[Tensor], object] = FUXICTR_INITIALIZER,
        network_initializer: str = "fuxictr",
        weight_decay: float | None = None,
        aggregation: str = "mean",
        nonlinear_projection: bool = True,
        shared_interaction: bool = False,
        norm_alignment_regularizer: float = 0,
        space_similarity_regularizer: float = 0,
        singular_value_regularizer: float = 0,
        restricted_interaction_regularizer: float = 0,
        set_covariance_regularizer: float = 0,
        mutual_learning_regularizer: float = 0,
        first_set_checkpoint: str | None = None,
        fused_embedding: bool = True,
        embedding_updates: str = "dense",
        compile: bool = False,
        cuda_graph: str | bool = "auto",
        precision: str = "float32",
        callbacks: Sequence[Any] | None = None,
        optimizer: str = "adam",
        loss: str = "binary_crossentropy",
        metrics: Sequence[str] = ("AUC", "logloss"),
        model_root: str = "./checkpoints/",
        verbose: int = 1,
        **kwargs: Any,
    ) -> None:
        arguments = locals()  # each option by its name, as the option table declares it
        options = {name: arguments[name] for name in MODEL_OPTIONS if name in arguments}
        training = {name: arguments[name] for name in ("gpu", "metrics", "learning_rate", "optimizer", "loss")}
        check_model_settings(type(self), {**options, **training, **kwargs})
        inherited = {"model_id": model_id, "gpu": gpu, "model_root": model_root, "verbose": verbose, **kwargs}
        super().__init__(feature_map, metrics=list(metrics), weight_decay=weight_decay, **inherited)
        self.embedding_initializer, self.network_initializer = embedding_initializer, network_initializer
        self.first_set_checkpoint = first_set_checkpoint
        self._compile_arguments = (optimizer, loss, learning_rate)
        self.fused_embedding, self.embedding_updates = fused_embedding, embedding_updates
        self.precision, self.cuda_graph = precision, cuda_graph
        self._compiled_forward = CompiledOrEager(self._forward_to_compile(), self.device) if compile else None
        if num_sets is None and not isinstance(embedding_dim, list | tuple):
            num_sets = 4
        self.embedding_layer = self.build_embedding(embedding_dim, num_sets)
        self.num_sets, dims = self.embedding_layer.num_sets, self.embedding_layer.embedding_dims
        check_options(self.num_sets, aggregation, nonlinear_projection, shared_interaction, dims)
        self.aggregation_name, self.nonlinear_projection = aggregation, nonlinear_projection
        self.shared_interaction = shared_interaction
        self.penalties = Penalties(options)
        attach(self, build(callbacks))

    @property
    def is_single(self) -> bool:
        """Whether each set is a complete single-embedding model: there is one set, or they form an ensemble."""
        return self.num_sets == 1 or self.aggregation_name in OWN_HEADS

    def build_embedding(
        self, embedding_dim: int | Sequence[int], num_sets: int | None = None, fields: list[str] | None = None
    ) -> MultiEmbedding:
        """Build embedding sets with the settings of this model, of all fields or of ``fields``."""
        return MultiEmbedding(
            self.feature_map,
            embedding_dim,
            num_sets,
            self.embedding_initializer,
            required_feature_columns=fields,
            fused=self.fused_embedding,
            table=self.fused_table,
        )

    def assemble(
        self,
        interaction: InteractionMaker | list[InteractionMaker],
        mlps: Sequence[MLP | None],
        depth: int | None = 1,
        join: JoinMaker = LinearOfAll,
    ) -> None:
        """Build everything after the embeddings, then finish as FuxiCTR's constructors do.

        Each branch's hidden layers are split as in the paper: the first ``depth`` belong to a set, the
        others to the head (paper, section 4 and its fairness rule).

        Args:
            interaction: (num_sets, field_dims) -> a module that takes (B, M, ΣK), returns a list with one (B, M, ·)
                for each branch, and has their widths in ``output_dims``. A list of M gives each set its own.
            mlps: the hidden layers of each branch; None if a branch has none and is aggregated as it is.
            depth: number of hidden layers that belong to a set; None: all.
            join: (number of heads, widths of the branches) -> the module that ends the head.

        Raises:
            UsageError: for branches of unequal width without a projection, or a penalty that this model cannot have.
        """
        split_mlps = [SplitMLP(mlp, depth, self.nonlinear_projection) for mlp in mlps]
        parts = assemble(
            self.embedding_layer, interaction, split_mlps, join, self.aggregation_name, self.shared_interaction
        )
        self.groups = parts.groups
        self.interaction, self.projection = parts.interaction, parts.projection
        self.aggregation, self.head = parts.aggregation, parts.head
        self.penalties.check(self)
        self.compile(*self._compile_arguments)
        self.reset_parameters()
        self.model_to_device()

    def compile(self, optimizer: str, loss: str, lr: float) -> None:
        """Build the optimizer, see ``ScheduledOptimizer``, and the loss as FuxiCTR does."""
        self.optimizer = self.build_optimizer(optimizer, lr)
        self.loss_fn = get_loss(loss)
        check_updates(self, self.embedding_updates)

    def forward(self, inputs: Inputs) -> dict[str, Any]:
        """Predict a batch: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}, and in training the penalties."""
        X = self.get_inputs(inputs)
        # Evaluation is not compiled, because it takes less time than another compilation.
        is_compiled = self._compiled_forward is not None and self.training
        e = self.embedding_layer.look_up(X) if is_compiled and not self._overrides_embed else self.embed(X)
        with autocast(self.precision, self.device):
            logit, penalties = (self._compiled_forward if is_compiled else self.compute_logit)(e, X)
        logit = logit.to(e[0].dtype, copy=True)  # the next replay of a CUDA graph overwrites its output
        return_dict = {"y_pred": self.output_activation(logit)}
        if penalties:
            return_dict["penalties"] = penalties
        return return_dict

    def compute_logit(self, e: list[Tensor], X: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute everything after the embeddings -> logit (B, 1), and in training the penalties."""
        h = self.represent(e, X)
        if not (self.training and self.penalties):
            return self.logit(h, e, X), {}
        if not self.penalties.need_logits:
            return self.logit(h, e, X), self.penalties(self, e, h)
        logits = self.set_logits(h, e, X)
        return self.head.fuse(logits), self.penalties(self, e, h, logits)

    def embed(self, X: Inputs) -> list[Tensor]:
        """Compute e⁽ᵐ⁾ = embedding⁽ᵐ⁾(x): field -> ids (B,) … -> (B, M_g, ΣK) for each group of sets."""
        return self.embedding_layer.look_up_groups(X, self.groups)

    def represent(self, e: list[Tensor], X: Inputs) -> Tensor:
        """Compute h⁽ᵐ⁾ = projection⁽ᵐ⁾(interaction⁽ᵐ⁾(e⁽ᵐ⁾)) -> (B, M, H)."""
        return torch.cat(self.projection(self.interact(e, X)), dim=1)

    def interact(self, e: list[Tensor], X: Inputs) -> list[list[Tensor]]:
        """Compute interaction⁽ᵐ⁾(e⁽ᵐ⁾) -> for each group of sets, one (B, M_g, ·) for each branch."""
        return self.interaction(e)

    def logit(self, h: Tensor, e: list[Tensor], X: Inputs) -> Tensor:
        """Compute head(aggregate_m h⁽ᵐ⁾): (B, M, H) -> (B, 1)."""
        return self.head.fuse(self.set_logits(h, e, X))

    def set_logits(self, h: Tensor, e: list[Tensor], X: Inputs) -> Tensor:
        """Compute the logit of each head: (B, M, H) -> (B, S, 1), with S = M if each set has its own head, else 1."""
        return self.head(self.aggregation(h, e), fused=False)

    @property
    def _overrides_embed(self) -> bool:
        return type(self).embed is not MultiEmbeddingModel.embed

    def _forward_to_compile(self) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
        """Return the function that ``compile: True`` compiles: ``compute_logit``, if possible with ``arrange``."""
        return self.compute_logit if self._overrides_embed else self._arrange_and_compute_logit

    def _arrange_and_compute_logit(self, looked_up: list[Tensor], X: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compute_logit(self.embedding_layer.arrange(looked_up, self.groups), X)

    def steps_are_recorded(self, is_recorded: bool) -> None:
        """Use CUDA graphs for the compiled forward only if the whole step is not recorded as one."""
        if self._compiled_forward:
            self._compiled_forward.use_graphs(not is_recorded)

    def running_totals(self) -> Iterable[Tensor]:
        """Return the sums of the penalties since the last evaluation, which a step changes."""
        return self.penalties.totals.values()

    def reset_parameters(self) -> None:
        """Initialise by ``network_initializer``; embeddings always by ``embedding_initializer``."""
        super().reset_parameters()
        if self.network_initializer == "paper":
            self.apply(initialise_as_paper)
        if self.first_set_checkpoint:
            self.embedding_layer.load_set(0, load_state_dict(self.first_set_checkpoint))

    def add_loss(self, return_dict: dict[str, Any], y_true: Tensor) -> Tensor:
        """Return the task loss plus the penalties, if there are any."""
        loss = super().add_loss(return_dict, y_true)
        if penalties := return_dict.get("penalties"):
            self.penalties.add_to_totals(penalties)
            loss = loss + sum(penalties.values())
        return loss

    def eval_step(self) -> None:
        """Log what the penalties added to the training loss since the last evaluation, then evaluate."""
        if means := self.penalties.pop_means():
            logging.info("Penalties in it: " + " - ".join(f"{name}: {mean:.6f}" for name, mean in means.items()))
        super().eval_step()


register_model(MultiEmbeddingModel, ModelEntry())
