"""The options of every fuxictr-me model, and of ``MultiEmbeddingOf``, which wraps any other model."""

from fuxictr_me.config.family_options import FAMILY_OPTIONS
from fuxictr_me.config.options import Option, index_by_name
from fuxictr_me.config.training_options import INITIALIZER
from fuxictr_me.config.value_kinds import Boolean, Checked, Choice, Integer, Number, Optional, Text, short_repr
from fuxictr_me.errors import UsageError

MAX_SETS = 1_000  # the paper has up to ten; each set has its own layers
WEIGHT = Number(low=0)
OWN_HEADS = ("ensemble", "confidence")  # aggregations with which each set has its own head


def check_merge(merge: object, label: str = "merge") -> None:
    """Accept ``logits``, or the path of one or more modules, as ``MultiEmbeddingOf`` does."""
    names = list(merge) if isinstance(merge, list | tuple) else [merge]
    if not names or not all(isinstance(name, str) and name.strip("> ") for name in names):
        raise UsageError(
            f"{label} must be logits, a module's path like dnn, >fc or crossnet>, or a list, got {short_repr(merge)}"
        )


def check_cuda_graph(choice: object, label: str = "cuda_graph") -> None:
    """Accept ``auto``, True or False."""
    if choice != "auto" and not isinstance(choice, bool):
        raise UsageError(f"{label} must be auto, True or False, got {short_repr(choice)}")


CUDA_GRAPH = Checked(
    "`auto`, `True` or `False`", lambda label, value: check_cuda_graph(value, label), {"enum": ["auto", True, False]}
)
MERGE = Checked(
    "logits, or the paths of modules",
    lambda label, value: check_merge(value, label),
    {"type": ["string", "array"], "items": {"type": "string"}},
)

SETS = Optional(Integer(1, MAX_SETS))
WRAPPING_OPTIONS = index_by_name(
    Option("num_sets", SETS, "number of embedding sets", None),
    Option("merge", Optional(MERGE), "where the sets of a FuxiCTR model are averaged", None),
    Option("task_sets", Optional(Boolean()), "one set for all tasks and one for each task", None),
    Option("batched", Optional(Boolean()), "whether sets 2 to M run at once", None),
)

COMMON_OPTIONS = index_by_name(
    Option("num_sets", SETS, "M; 1 is the single-embedding model", 4),
    Option(
        "embedding_initializer",
        INITIALIZER,
        "as in FuxiCTR's `FeatureEmbedding`; `paper` is xavier_uniform over the table of all fields. Information "
        "abundance depends on it",
        "partial(nn.init.normal_, std=1e-4)",
    ),
    Option(
        "network_initializer",
        Choice("fuxictr", "paper"),
        "xavier_normal with zero bias; `paper`: cross weights xavier_uniform with zero bias, and PyTorch's defaults "
        "for the rest",
        "fuxictr",
    ),
    Option(
        "weight_decay",
        Optional(WEIGHT),
        "weight decay of the optimizer on all parameters, as in the paper. It adds the same gradient as "
        "`embedding_regularizer` and `net_regularizer` of that value, but is not clipped and not part of the logged "
        "loss",
        None,
    ),
    Option(
        "first_set_checkpoint", Optional(Text("a path")), "a trained FuxiCTR model whose embeddings become set 0", None
    ),
    Option(
        "aggregation",
        Choice("mean", "sum", "weighted", "gated", "elementwise_gated", "concat", *OWN_HEADS),
        "how the sets are combined, see below",
        "mean",
    ),
    Option(
        "nonlinear_projection",
        Boolean(),
        "`False` averages the first linear layer, and applies batch norm, activation and dropout after the mean. By "
        "the paper's appendix this can be no better than one embedding that is M times as wide (DNN, DCNv2 and "
        "FinalMLP equal one exactly; the tests construct its weights)",
        True,
    ),
    Option(
        "shared_interaction",
        Boolean(),
        "one interaction module and projection for all sets (the paper's ME-SI); batch norm normalises each set "
        "separately, as in the authors' code",
        False,
    ),
)

PENALTY_OPTIONS = index_by_name(
    Option(
        "norm_alignment_regularizer",
        WEIGHT,
        "mean over layers and field pairs of the across-set variance of ‖W⁽ᵐ⁾_{i→j}‖²_F. For DCNv2 (full matrices) and "
        "NFwFM; M ≥ 2; the authors' weight is 1.0",
        0,
    ),
    Option(
        "space_similarity_regularizer",
        WEIGHT,
        "mean squared singular value of E⁽ᵐ⁾ᵀE⁽ⁿ⁾ of the batch, over pairs of sets. For all models; M ≥ 2, one "
        "dimension; the authors' weight is 1e-3 to 1e-5",
        0,
    ),
    Option(
        "singular_value_regularizer",
        WEIGHT,
        "variance of S / mean(S), S the singular values of the batch's embeddings of a field, mean over fields and "
        "sets. For all models; the authors' weight is 1e-3 to 1e-5, for one set of 40",
        0,
    ),
    Option(
        "restricted_interaction_regularizer",
        WEIGHT,
        "Σ ‖I − W_{i→j} W_{i→j}ᵀ‖²_F over sets, layers and pairs. For DCNv2 (full matrices); with "
        "`field_weights: True` this is the authors' restricted DCNv2, whose weight is 1e-5",
        0,
    ),
    Option(
        "set_covariance_regularizer",
        WEIGHT,
        "mean squared covariance between h⁽ᵐ⁾ and h⁽ⁿ⁾ in the batch, over pairs of sets (after arXiv 2405.12706). For "
        "all models; M ≥ 2; not from the authors",
        0,
    ),
    Option(
        "mutual_learning_regularizer",
        WEIGHT,
        "½ [KL(p⁽ᵐ⁾ ‖ p⁽ⁿ⁾) + KL(p⁽ⁿ⁾ ‖ p⁽ᵐ⁾)] of the predictions of sets, mean over rows and pairs of sets (after "
        "CETNet, arXiv 2411.13700). For all models with `aggregation: ensemble` or `confidence`; not from the authors",
        0,
    ),
)

SPEED_OPTIONS = index_by_name(
    Option(
        "fused_embedding",
        Boolean(),
        "one table and one look-up for the plain categorical fields of all sets; `False` uses M · F of FuxiCTR's "
        "tables. Results and checkpoints are the same",
        True,
    ),
    Option(
        "embedding_updates",
        Choice("dense", "catch_up", "lazy"),
        "`dense` updates every row in every step, as FuxiCTR does. `catch_up` equals dense Adam up to rounding, but "
        "touches only the rows of the batch. `lazy` is PyTorch's SparseAdam, **a different optimizer**. `catch_up` and "
        "`lazy` need Adam, and no `embedding_regularizer` or `weight_decay`, which change every row",
        "dense",
    ),
    Option(
        "cuda_graph",
        CUDA_GRAPH,
        "record a whole training step as one CUDA graph and replay it. `auto` does so on a GPU if it is safe. If not, "
        "a line in the log says why, and training continues without it",
        "auto",
    ),
    Option(
        "compile",
        Boolean(),
        "apply `torch.compile` to the part after the embeddings, for training. If that fails, a line in the log says "
        "why, and training continues without it",
        False,
    ),
    Option(
        "precision",
        Choice("float32", "tf32", "bf16"),
        "precision of matrix products; `tf32` and `bf16` (autocast) **change results**",
        "float32",
    ),
)

MODEL_OPTIONS = COMMON_OPTIONS | PENALTY_OPTIONS | SPEED_OPTIONS | FAMILY_OPTIONS
