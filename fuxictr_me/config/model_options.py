"""Options of the models of this package, and of ``MultiEmbeddingOf``, which wraps any other."""

from fuxictr_me.config.options import Option, table
from fuxictr_me.config.training_options import ACTIVATIONS, DROPOUT, INITIALIZER
from fuxictr_me.config.value_kinds import Boolean, Checked, Choice, Integer, ListOf, Number, Text, optional, short_repr
from fuxictr_me.errors import UsageError

MOST_SETS = 1_000  # the paper has up to ten; each set is a model's worth of layers
WEIGHT = Number("a number of 0 or more")
UNITS = ListOf(Integer(1), "a list of one integer or more")
SETS = Integer(1, MOST_SETS)
FIELDS = ListOf(Text(), "a list of fields", unique=True, least=0)


def check_merge(merge: object, label: str = "merge") -> None:
    """Accept ``logits``, or one or more modules' paths, as ``MultiEmbeddingOf`` takes them."""
    names = list(merge) if isinstance(merge, list | tuple) else [merge]
    if not names or not all(isinstance(name, str) and name.strip("> ") for name in names):
        raise UsageError(
            f"{label} must be logits, a module's path like dnn, >fc or crossnet>, or a list, got {short_repr(merge)}"
        )


def check_cuda_graph(choice: object, label: str = "cuda_graph") -> None:
    """Accept ``auto``, True or False."""
    if choice != "auto" and not isinstance(choice, bool):
        raise UsageError(f"{label} must be auto, True or False, got {short_repr(choice)}")


CUDA_GRAPH = Checked("`auto`, `True` or `False`", lambda label, value: check_cuda_graph(value, label))
MERGE = Checked("logits, or modules' paths", lambda label, value: value is None or check_merge(value, label))

WRAPPING_OPTIONS = table(
    Option("num_sets", optional(SETS), "number of embedding sets; 1 is single embedding", None),
    Option("merge", MERGE, "where the sets of a FuxiCTR model are averaged", None),
    Option("task_sets", optional(Boolean()), "a set for all tasks and one for each", None),
    Option("batched", optional(Boolean()), "whether sets 2 to M run at once", None),
)


def _hidden(*prefixes: str) -> list[Option]:
    return [Option(f"{prefix}hidden_units", UNITS, "widths of the hidden layers") for prefix in prefixes]


MODEL_OPTIONS = table(
    WRAPPING_OPTIONS["num_sets"],
    Option(
        "embedding_initializer", INITIALIZER, "`paper`, or as FuxiCTR writes it", "partial(nn.init.normal_, std=1e-4)"
    ),
    Option("network_initializer", Choice("fuxictr", "paper"), "of all weights but embeddings", "fuxictr"),
    Option("weight_decay", optional(WEIGHT), "the optimizer's own", None),
    Option(
        "aggregation",
        Choice("mean", "sum", "weighted", "gated", "concat", "ensemble"),
        "how the sets become one",
        "mean",
    ),
    Option("nonlinear_projection", Boolean(), "whether each set has a non-linear layer of its own", True),
    Option("shared_interaction", Boolean(), "whether all sets share one interaction and projection", False),
    *(
        Option(f"{name}_regularizer", WEIGHT, "weight of a penalty; 0 leaves it out", 0)
        for name in ("norm_alignment", "space_similarity", "singular_value", "restricted_interaction", "set_covariance")
    ),
    Option("first_set_checkpoint", optional(Text("a path")), "checkpoint whose embeddings set 1 starts from", None),
    Option("fused_embedding", Boolean(), "whether the plain fields of all sets lie in one table", True),
    Option("embedding_updates", Choice("dense", "catch_up", "lazy"), "which rows a step moves", "dense"),
    Option("compile", Boolean(), "whether `torch.compile` runs the layers", False),
    Option("cuda_graph", CUDA_GRAPH, "whether a training step is recorded and replayed on a GPU", "auto"),
    Option("precision", Choice("float32", "tf32", "bf16"), "of matrix products", "float32"),
    Option(
        "model_structure", Choice("crossnet_only", "stacked", "parallel", "stacked_parallel"), "of DCNv2", "stacked"
    ),
    Option("num_cross_layers", Integer(1, 1_000), "of the cross network", 4),
    Option("use_low_rank_mixture", Boolean(), "whether cross layers are a mixture of low rank", False),
    Option("low_rank", Integer(1), "of that mixture", 32),
    Option("num_experts", Integer(1, 1_000), "of that mixture", 4),
    Option("field_weights", Boolean(), "whether each block of a cross layer has a weight", False),
    *_hidden("", "dnn_", "stacked_dnn_", "parallel_dnn_", "mlp1_", "mlp2_", "stream_", "cin_"),
    Option("fs_hidden_units", ListOf(Integer(1), "a list of integers", least=0), "hidden layers of the gates", [64]),
    *(
        Option(name, ACTIVATIONS, "of the hidden layers", "ReLU")
        for name in (
            "hidden_activations",
            "dnn_activations",
            "mlp1_hidden_activations",
            "mlp2_hidden_activations",
            "stream_activations",
            "cin_activation",
        )
    ),
    *(
        Option(name, DROPOUT, "of the hidden layers", 0)
        for name in ("net_dropout", "mlp1_dropout", "mlp2_dropout", "stream_dropout")
    ),
    *(
        Option(name, Boolean(), "whether hidden layers have batch norm", False)
        for name in ("batch_norm", "mlp1_batch_norm", "mlp2_batch_norm")
    ),
    Option("interaction_dropout", optional(DROPOUT), "after the products", None),
    Option("use_fs", Boolean(), "whether FinalMLP has its feature selection", False),
    Option("fs1_context", FIELDS, "fields that the first gate looks at", []),
    Option("fs2_context", FIELDS, "fields that the second gate looks at", []),
    Option("num_heads", Integer(1), "of the bilinear fusion", 1),
    Option("product_type", Choice("inner"), "of PNN", "inner"),
    Option("concat_embeddings", optional(Boolean()), "whether embeddings stand before the products", None),
    Option("use_linear_term", Boolean(), "whether a linear term is added", False),
    Option(
        "interactions",
        ListOf(Choice("DCNv2", "DNN", "FinalMLP", "NFwFM", "PNN", "xDeepFM"), "a list of one name for each set"),
        "of Mixed_ME, one for each set",
    ),
)
