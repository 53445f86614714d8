"""The options that only some of fuxictr-me's models have, each with the default of every such model."""

from fuxictr_me.config.options import Option, index_by_name
from fuxictr_me.config.training_options import ACTIVATIONS, DROPOUT
from fuxictr_me.config.value_kinds import Boolean, Choice, Integer, ListOf, Optional, Text

UNITS = ListOf(Integer(1), "a list of one integer or more")
UNITS_OR_NONE = ListOf(Integer(1), "a list of integers", least=0)
FIELDS = ListOf(Text(), "a list of fields", unique=True, least=0)
WIDTHS = [400, 400]
MLP_NOTE = "the whole MLP; the first layer is the projection of each set"
ALL_BUT_FINALMLP = ("DNN_ME", "PNN_ME", "DCNv2_ME", "NFwFM_ME", "xDeepFM_ME", "Mixed_ME")


def _mlp_options(prefix: str, units: str, activations: str, what: str, models: dict[str, object]) -> list[Option]:
    return [
        Option(f"{prefix}{units}", UNITS, f"widths of {what}", models=models),
        Option(f"{prefix}{activations}", ACTIVATIONS, f"activation of {what}", models=dict.fromkeys(models, "ReLU")),
    ]


FAMILY_OPTIONS = index_by_name(
    Option(
        "model_structure",
        Choice("stacked", "parallel", "stacked_parallel", "crossnet_only"),
        "`stacked` (the paper's), `parallel`, `stacked_parallel`, `crossnet_only`, as in FuxiCTR's DCNv2. Every branch "
        "is averaged over the sets separately: a DNN after its first hidden layer, a cross network at its output. "
        "`crossnet_only` has no non-linear projection; expect less of it",
        models={"DCNv2_ME": "stacked"},
    ),
    Option(
        "interactions",
        ListOf(Choice("DCNv2", "DNN", "FinalMLP", "NFwFM", "PNN", "xDeepFM"), "a list of one name for each set"),
        "interaction of each set: `DCNv2`, `DNN`, `FinalMLP`, `NFwFM`, `PNN`, `xDeepFM`; their number is M. "
        "Equal neighbours of one dimension are computed in one pass",
        models={"Mixed_ME": ["DCNv2", "FinalMLP", "PNN"]},
    ),
    Option("num_cross_layers", Integer(1, 1_000), "number of cross layers", models={"DCNv2_ME": 4, "Mixed_ME": 4}),
    Option(
        "use_low_rank_mixture",
        Boolean(),
        "FuxiCTR's `CrossNetMix` in place of full matrices, one per set",
        models={"DCNv2_ME": False, "Mixed_ME": False},
    ),
    Option("low_rank", Integer(1), "rank of an expert of `CrossNetMix`", models={"DCNv2_ME": 32, "Mixed_ME": 32}),
    Option(
        "num_experts", Integer(1, 1_000), "number of experts of `CrossNetMix`", models={"DCNv2_ME": 4, "Mixed_ME": 4}
    ),
    Option(
        "field_weights",
        Boolean(),
        "multiply each block W_{i→j} by a learned number that starts at 1; with "
        "`restricted_interaction_regularizer` this is the authors' restricted DCNv2",
        models={"DCNv2_ME": False},
    ),
    Option("product_type", Choice("inner"), "inner products: IPNN", models={"PNN_ME": "inner"}),
    Option(
        "concat_embeddings",
        Optional(Boolean()),
        "feed the embeddings in addition to their products; `null` is the paper's choice: true with one set (and in an "
        "`ensemble` or `confidence`), false with more sets",
        models={"PNN_ME": None, "Mixed_ME": False},
    ),
    Option(
        "interaction_dropout",
        Optional(DROPOUT),
        "dropout after the products; `null` takes `net_dropout`",
        models={"NFwFM_ME": None, "Mixed_ME": 0},
    ),
    Option("use_linear_term", Boolean(), "add FuxiCTR's `LogisticRegression`", models={"xDeepFM_ME": False}),
    Option(
        "use_fs",
        Boolean(),
        "FuxiCTR's feature selection: a gate 2·sigmoid(MLP(context)) on the embeddings of a set before each stream",
        models={"FinalMLP_ME": False},
    ),
    Option(
        "fs1_context",
        FIELDS,
        "context of the gate of the first stream; `[]`: a learned vector",
        models={"FinalMLP_ME": []},
    ),
    Option(
        "fs2_context",
        FIELDS,
        "context of the gate of the second stream; `[]`: a learned vector",
        models={"FinalMLP_ME": []},
    ),
    Option("fs_hidden_units", UNITS_OR_NONE, "widths of the gates' hidden layers", models={"FinalMLP_ME": [64]}),
    Option("num_heads", Integer(1), "number of heads of the bilinear fusion", models={"FinalMLP_ME": 1, "Mixed_ME": 1}),
    *_mlp_options(
        "",
        "hidden_units",
        "hidden_activations",
        MLP_NOTE,
        {"DNN_ME": [64] * 3, "PNN_ME": [64] * 3, "NFwFM_ME": WIDTHS, "Mixed_ME": WIDTHS},
    ),
    Option("stacked_dnn_hidden_units", UNITS, f"widths of {MLP_NOTE}", models={"DCNv2_ME": WIDTHS}),
    Option("parallel_dnn_hidden_units", UNITS, f"widths of {MLP_NOTE}", models={"DCNv2_ME": WIDTHS}),
    Option(
        "dnn_hidden_units", UNITS_OR_NONE, f"widths of {MLP_NOTE}; `[]` means no DNN", models={"xDeepFM_ME": WIDTHS}
    ),
    Option(
        "dnn_activations",
        ACTIVATIONS,
        "activation of the hidden layers",
        models={"DCNv2_ME": "ReLU", "xDeepFM_ME": "ReLU"},
    ),
    *_mlp_options("", "cin_hidden_units", "cin_activation", "the CIN", {"xDeepFM_ME": [16, 16], "Mixed_ME": [16, 16]}),
    *_mlp_options("mlp1_", "hidden_units", "hidden_activations", "the first stream", {"FinalMLP_ME": WIDTHS}),
    *_mlp_options("mlp2_", "hidden_units", "hidden_activations", "the second stream", {"FinalMLP_ME": WIDTHS}),
    *_mlp_options("stream_", "hidden_units", "activations", "both streams of FinalMLP", {"Mixed_ME": WIDTHS}),
    Option("net_dropout", DROPOUT, "dropout of the hidden layers", models=dict.fromkeys(ALL_BUT_FINALMLP, 0)),
    Option("mlp1_dropout", DROPOUT, "dropout of the first stream", models={"FinalMLP_ME": 0}),
    Option("mlp2_dropout", DROPOUT, "dropout of the second stream", models={"FinalMLP_ME": 0}),
    Option("stream_dropout", DROPOUT, "dropout of both streams of FinalMLP", models={"Mixed_ME": 0}),
    Option(
        "batch_norm",
        Boolean(),
        "whether the hidden layers have batch norm",
        models=dict.fromkeys(ALL_BUT_FINALMLP, False),
    ),
    Option("mlp1_batch_norm", Boolean(), "whether the first stream has batch norm", models={"FinalMLP_ME": False}),
    Option("mlp2_batch_norm", Boolean(), "whether the second stream has batch norm", models={"FinalMLP_ME": False}),
)
