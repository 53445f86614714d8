"""The forward pass that all multi-embedding models share."""

import logging
from collections.abc import Iterable

import torch
from fuxictr.pytorch.torch_utils import get_loss
from torch import nn

from fuxictr_me.config.expressions import check_initializer
from fuxictr_me.config.model_options import check_cuda_graph
from fuxictr_me.config.training_settings import check_bool, check_model_settings, check_optimizer_and_loss, check_weight
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.models.assembly import assemble, check_options
from fuxictr_me.models.penalty_terms import Penalties
from fuxictr_me.models.training_checks import CheckedModel
from fuxictr_me.nn import SetLinear
from fuxictr_me.nn.aggregation import AGGREGATIONS
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.nn.embedding_settings import FUXICTR_INITIALIZER
from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.nn.head import SplitMLP, LinearOfAll
from fuxictr_me.training import (
    PRECISIONS,
    CompiledOrEager,
    autocast,
    build_optimizer,
    check_updates,
)
from fuxictr_me.training.callbacks import attach, build

NETWORK_INITIALIZERS = ("fuxictr", "paper")


class MultiEmbeddingModel(CheckedModel):
    """ŷ = sigmoid(head(aggregate_m projection⁽ᵐ⁾(interaction⁽ᵐ⁾(embedding⁽ᵐ⁾(x))))) (paper, section 4).

    A subclass checks its own settings, then ends its constructor with ``assemble``, to which it says what
    happens inside a set and how the hidden layers follow. Any of the parts can be overridden alone.
    ``num_sets=1`` is the single-embedding (SE) model.

    Sets of equal dimension (and interaction) that follow one another form a group, which is computed in one
    pass; where all sets are alike there is one group.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        model_id (str): names the checkpoint, the log and the IA file.
        gpu (int): CUDA device, -1 for the CPU.
        learning_rate (float), optimizer (str), loss (str): as FuxiCTR's ``compile`` takes them.
        num_sets (int): M; 4 if not given, or as many as ``embedding_dim`` lists.
        embedding_dim (int or list of int): K, the dimension of ONE set, or of each.
        embedding_initializer (str or callable): as ``MultiEmbedding`` takes it; ``"paper"`` is the paper's.
        network_initializer (str): ``"fuxictr"`` (xavier_normal, zero bias) or ``"paper"`` (cross weights
            xavier_uniform with zero bias, all else PyTorch's defaults).
        weight_decay (float or None): the optimizer's own, on all parameters, as in the paper; None leaves
            the optimizer's default. It is not part of the loss, nor subject to gradient clipping; else it is
            what ``embedding_regularizer`` and ``net_regularizer`` of the same value are.
        aggregation (str): ``mean`` (the paper's), ``sum``, ``weighted``, ``gated``, ``concat``, or
            ``ensemble``: the control of M single-embedding models whose logits are averaged.
        nonlinear_projection (bool): False moves all that follows the first linear layer of the hidden layers
            behind the mean: multi-embedding that can be no better than one larger embedding (paper, appendix).
        shared_interaction (bool): one interaction module and projection for all sets (ablation ME-SI).
        norm_alignment_regularizer, space_similarity_regularizer, singular_value_regularizer,
        restricted_interaction_regularizer, set_covariance_regularizer (float): weights of what
            ``fuxictr_me.nn.penalties`` and ``CrossNetwork.distance_from_orthogonal`` compute; 0 leaves it out.
            They enter the training loss, and the log names each beside it.
        first_set_checkpoint (str): a checkpoint of a FuxiCTR model whose embeddings become set 0.
        fused_embedding (bool): one table for the plain categorical fields of all sets; False: M·F of FuxiCTR's.
        embedding_updates (str): ``dense`` (FuxiCTR's), ``catch_up`` (the same, by the batch's rows; needs Adam and no
            ``embedding_regularizer``) or ``lazy`` (SparseAdam, which is another optimizer).
        compile (bool): ``torch.compile`` what follows the embeddings, for training.
        cuda_graph (str or bool): record a whole training step as one CUDA graph and replay it. ``auto``: on a GPU,
            where it is safe; a recorded step is compared with an eager one before it is used.
        precision (str): of matrix products: ``float32``, ``tf32`` or ``bf16``; the last two change results.
        callbacks (list): names, ``{name: {argument: value}}``, or ``Callback`` objects.
        metrics (list of str), model_root (str), verbose (int), **kwargs: of FuxiCTR's ``BaseModel``, e.g.
            ``embedding_regularizer``, ``net_regularizer``, ``monitor``, ``early_stop_patience``.

    Raises:
        UsageError: a key that neither FuxiCTR nor the model knows, a value that cannot be, or options that
            mean nothing together.
    """

    fused_table = FusedTable  # what makes it; of a model on several ranks it holds a part
    names_its_settings = True  # its constructors name every key that they read; another is a mistake

    def __init__(
        self,
        feature_map,
        model_id="MultiEmbeddingModel",
        gpu=-1,
        learning_rate=1e-3,
        embedding_dim=10,
        num_sets=None,
        embedding_initializer=FUXICTR_INITIALIZER,
        network_initializer="fuxictr",
        weight_decay=None,
        aggregation="mean",
        nonlinear_projection=True,
        shared_interaction=False,
        norm_alignment_regularizer=0,
        space_similarity_regularizer=0,
        singular_value_regularizer=0,
        restricted_interaction_regularizer=0,
        set_covariance_regularizer=0,
        first_set_checkpoint=None,
        fused_embedding=True,
        embedding_updates="dense",
        compile=False,
        cuda_graph="auto",
        precision="float32",
        callbacks=None,
        optimizer="adam",
        loss="binary_crossentropy",
        metrics=("AUC", "logloss"),
        model_root="./checkpoints/",
        verbose=1,
        **kwargs,
    ):
        given = {"gpu": gpu, "metrics": metrics, "learning_rate": learning_rate, "loss": loss, **kwargs}
        check_model_settings(type(self), given)
        check_optimizer_and_loss(optimizer, loss)
        check_initializer(embedding_initializer)
        check_bool("nonlinear_projection", nonlinear_projection)
        check_bool("shared_interaction", shared_interaction)
        check_bool("fused_embedding", fused_embedding)
        check_bool("compile", compile)
        check_cuda_graph(cuda_graph)
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if aggregation not in AGGREGATIONS:
            raise unknown("aggregation", aggregation, AGGREGATIONS)
        if weight_decay is not None:
            check_weight("weight_decay", weight_decay)
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
        self.embedding_initializer = embedding_initializer
        self.network_initializer = network_initializer
        self.first_set_checkpoint = first_set_checkpoint
        self._compile_arguments = (optimizer, loss, learning_rate)
        self._weight_decay = weight_decay
        if num_sets is None and not isinstance(embedding_dim, list | tuple):
            num_sets = 4
        self.fused_embedding, self.embedding_updates, self.precision = fused_embedding, embedding_updates, precision
        self.cuda_graph = cuda_graph
        self._own_embed = type(self).embed is not MultiEmbeddingModel.embed
        after_look_up = self.answer if self._own_embed else self._arrange_and_answer
        self._compiled_answer = CompiledOrEager(after_look_up, self.device) if compile else None
        self.embedding_layer = MultiEmbedding(
            feature_map, embedding_dim, num_sets, embedding_initializer, fused=fused_embedding, table=self.fused_table
        )
        self.num_sets = self.embedding_layer.num_sets
        check_options(
            self.num_sets, aggregation, nonlinear_projection, shared_interaction, self.embedding_layer.embedding_dims
        )
        self.aggregation_name = aggregation
        self.nonlinear_projection = nonlinear_projection
        self.shared_interaction = shared_interaction
        self.penalties = Penalties(
            norm_alignment=norm_alignment_regularizer,
            space_similarity=space_similarity_regularizer,
            singular_value=singular_value_regularizer,
            restricted_interaction=restricted_interaction_regularizer,
            set_covariance=set_covariance_regularizer,
        )
        attach(self, build(callbacks))

    @property
    def is_single(self):
        """Whether each set is a whole single-embedding model: there is one, or they form an ensemble."""
        return self.num_sets == 1 or self.aggregation_name == "ensemble"

    def assemble(self, interaction, mlps, depth=1, join=LinearOfAll):
        """Build what follows the embeddings, then end as FuxiCTR's constructors do.

        Each branch's hidden layers are cut where the paper cuts: the first ``depth`` belong to a set, the
        rest to the head (paper, section 4 and its fairness rule).

        Args:
            interaction (callable, or a list of M): (num_sets, field_dims) -> a module that takes
                (B, M, ΣK), gives a list of one (B, M, ·) a branch, and says their widths in ``output_dims``.
            mlps (list): the hidden layers of each branch, an ``MLP``, or None where a branch has none and is
                aggregated as it is.
            depth (int or None): hidden layers that belong to a set; None: all.
            join (callable): (number of heads, widths of the branches) -> the module that ends the head.

        Raises:
            UsageError: branches of unequal width that nothing projects, or a penalty that cannot be here.
        """
        cuts = [SplitMLP(mlp, depth, self.nonlinear_projection) for mlp in mlps]
        parts = assemble(self.embedding_layer, interaction, cuts, join, self.aggregation_name, self.shared_interaction)
        self.groups = parts.groups
        self.interaction, self.projection = parts.interaction, parts.projection
        self.aggregation, self.head = parts.aggregation, parts.head
        self.penalties.check(self)
        self.compile(*self._compile_arguments)
        self.reset_parameters()
        self.model_to_device()

    def compile(self, optimizer, loss, lr):
        """FuxiCTR's, the optimizer fused, and with the weight decay that FuxiCTR does not pass on."""
        self.optimizer = build_optimizer(optimizer, self.parameters(), lr)
        self.loss_fn = get_loss(loss)
        if self._weight_decay is not None:
            if "weight_decay" not in self.optimizer.defaults:
                raise UsageError(f"optimizer {optimizer!r} has no weight_decay")
            for group in self.optimizer.param_groups:
                group["weight_decay"] = self._weight_decay
        check_updates(self, self.embedding_updates)

    def forward(self, inputs):
        """inputs: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}, and in training the penalties."""
        X = self.get_inputs(inputs)
        # an evaluation takes less time than another compilation
        is_compiled = self._compiled_answer and self.training
        e = self.embedding_layer.look_up(X) if is_compiled and not self._own_embed else self.embed(X)
        with autocast(self.precision, self.device):
            logit, penalties = (self._compiled_answer if is_compiled else self.answer)(e, X)
        logit = logit.to(e[0].dtype, copy=True)  # the next replay of a CUDA graph overwrites its output
        return_dict = {"y_pred": self.output_activation(logit)}
        if penalties:
            return_dict["penalties"] = penalties
        return return_dict

    def steps_are_recorded(self, is_recorded: bool) -> None:
        """Leave CUDA graphs to a recorded step."""
        if self._compiled_answer:
            self._compiled_answer.use_graphs(not is_recorded)

    def running_totals(self) -> Iterable[torch.Tensor]:
        """What the penalties came to."""
        return self.penalties.totals.values()

    def answer(self, e, X):
        """What follows the embeddings -> logit (B, 1), in training the penalties."""
        h = self.represent(e, X)
        penalties = self.penalties(self, e, h) if self.training and self.penalties else {}
        return self.logit(h, e, X), penalties

    def _arrange_and_answer(self, looked_up: list[torch.Tensor], X: dict) -> tuple[torch.Tensor, dict]:
        """``answer``, from what ``look_up`` of the embedding layer returns: what ``compile: True`` compiles."""
        return self.answer(self.embedding_layer.arrange(looked_up, self.groups), X)

    def embed(self, X):
        """e: field -> ids (B,) ... -> a list of (B, M, ΣK), one a group."""
        return self.embedding_layer.look_up_groups(X, self.groups)

    def represent(self, e, X):
        """h⁽ᵐ⁾ = projection⁽ᵐ⁾(interaction⁽ᵐ⁾(e⁽ᵐ⁾)) -> (B, M, H)."""
        return torch.cat(self.projection(self.interact(e, X)), dim=1)

    def interact(self, e, X):
        """e -> the inputs of the projections, a list of one (B, M, ·) a branch for each group."""
        return self.interaction(e)

    def logit(self, h, e, X):
        """(B, M, H) -> (B, 1)."""
        return self.head(self.aggregation(h, e))

    def reset_parameters(self):
        """Initialise as ``network_initializer`` says; embeddings always by ``embedding_initializer``."""
        super().reset_parameters()
        if self.network_initializer == "paper":
            self.apply(_init_as_paper)
        if self.first_set_checkpoint:
            self.embedding_layer.load_set(0, load_state_dict(self.first_set_checkpoint))

    def add_loss(self, return_dict, y_true):
        """The task loss, and the penalties where there are any."""
        loss = super().add_loss(return_dict, y_true)
        if penalties := return_dict.get("penalties"):
            self.penalties.note(penalties)
            loss = loss + sum(penalties.values())
        return loss

    def eval_step(self):
        """FuxiCTR's, after a log line of what the penalties added to the training loss since the last one."""
        if means := self.penalties.take_means():
            logging.info("Penalties in it: " + " - ".join(f"{name}: {mean:.6f}" for name, mean in means.items()))
        super().eval_step()

    @property
    def id_fields(self):
        """Positions of the categorical and sequence fields: those whose embeddings have directions to speak of."""
        features = self.feature_map.features
        fields = enumerate(self.embedding_layer.field_dims[0])
        return [i for i, field in fields if features[field]["type"] in ("categorical", "sequence")]

    def fields_apart(self, e):
        """The ``id_fields`` of a group: (B, M, ΣK) -> (B, M, F, K)."""
        return e.unflatten(-1, (len(self.embedding_layer.field_dims[0]), -1))[:, :, self.id_fields]


def _init_as_paper(module):
    """PyTorch's defaults, and what the module itself says of the paper's; inner modules come before outer."""
    if isinstance(module, nn.Linear | nn.Conv1d | SetLinear):
        module.reset_parameters()
    elif hasattr(module, "init_paper_weights"):
        module.init_paper_weights()
