"""The options of a data set, of its columns, and of how its rows are read."""

from fuxictr_me.config.divided_data import SplitSize
from fuxictr_me.config.expressions import PREPROCESSING, check_feature_encoder, check_preprocess
from fuxictr_me.config.options import Option, index_by_name
from fuxictr_me.config.splits import SPLIT_SEED, SPLIT_TYPES
from fuxictr_me.config.value_kinds import (
    Boolean,
    Checked,
    Choice,
    Integer,
    Kind,
    ListOf,
    Nothing,
    Number,
    Optional,
    Text,
    Unchecked,
    short_repr,
)
from fuxictr_me.config.yaml_files import LoaderName
from fuxictr_me.errors import UsageError

RAW_DTYPES = ("str", "int", "float")
FIELD_TYPES = ("categorical", "numeric", "sequence", "embedding", "meta")
DATA_FORMATS = ("csv", "parquet", "npz", "h5")
WITH_VOCABULARY = ("categorical", "sequence")
LONGEST_SEQUENCE = 100_000


class Separator(Kind):
    """One character of one byte, as polars accepts it between the columns of csv files."""

    def __init__(self) -> None:
        words = "one character, such as ',', ';' or \"\\t\" in double quotes"
        super().__init__(words, {"type": "string", "minLength": 1, "maxLength": 1})

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and len(value) == 1 and value.isascii() and value not in '"\n\r\0'


def _refuse_category_processor(label: str, value: object) -> None:
    raise UsageError(f"{label}: FuxiCTR 2.3.10 does not apply category_processor itself; leave it out")


def _check_splitter(label: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{label} must be the text between two items, got {short_repr(value)}")


def _check_source(label: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{label} must be text, got {short_repr(value)}")


def _check_loader(label: str, value: object) -> None:
    if value is not None and not isinstance(value, type | LoaderName):
        raise UsageError(f"{label} must be like !!python/name:fuxictr_me.data.H5DataLoader, got {short_repr(value)}")


# ``columns`` checks names, ``fill_na``, ``feature_cols``, ``label_col`` and ``feature_specs`` as a whole.
NAME = Text().schema
NAMES = Unchecked({"anyOf": [NAME, {"type": "array", "items": NAME, "minItems": 1}]})
LAYER = {"type": "string", "pattern": r"^\s*(layers|nn)\.\w+\(.*\)\s*$"}
ENCODER = Checked(
    "like layers.MaskedAveragePooling(), or a list of such",
    check_feature_encoder,
    {"anyOf": [{"enum": [None, "null", "none", "None"]}, LAYER, {"type": "array", "items": LAYER, "minItems": 1}]},
)
PREPROCESS = Checked(
    f"one of {', '.join(PREPROCESSING)}",
    check_preprocess,
    {"anyOf": [{"type": "null"}, {"type": "string", "pattern": rf"^({'|'.join(PREPROCESSING)})(\([^()]+\))?$"}]},
)
PATH = Optional(Text("a path"))

COLUMN_OPTIONS = index_by_name(
    Option("name", NAMES, "name of the column, or a list of names of columns with equal settings"),
    Option("active", Boolean(), "`False` leaves the column out; FuxiCTR's own scripts fail without the key", True),
    Option("dtype", Choice(*RAW_DTYPES), "type of the values: `str`, `int`, `float`"),
    Option(
        "type",
        Choice(*FIELD_TYPES),
        "`categorical`, `numeric`, `sequence`, `embedding` (vectors, used unchanged), `meta` (not a field, but the "
        "`group_id` of gAUC, avgAUC, MRR and NDCG; `preprocess: copy_from(user)` copies it from a field)",
    ),
    Option(
        "min_categr_count",
        Integer(1),
        "values that occur less often in the training data share one id; can also be set for the whole data set",
        1,
        WITH_VOCABULARY,
    ),
    Option(
        "fill_na",
        Unchecked({"type": ["string", "number", "null"]}),
        "the value that replaces an empty one: see [below](#empty-values)",
        former_names=("na_value",),
    ),
    Option(
        "normalizer",
        Choice("StandardScaler", "MinMaxScaler"),
        "how the numbers are scaled: `StandardScaler` or `MinMaxScaler`",
        column_types=("numeric",),
        former_names=("normaliser",),
    ),
    Option(
        "splitter",
        Checked("the text between two items", _check_splitter, {"type": "string", "minLength": 1}),
        "the text between the items of a sequence",
        "^",
        ("sequence",),
        former_names=("separator",),
    ),
    Option(
        "max_len",
        Integer(1, LONGEST_SEQUENCE),
        "how many items of a sequence are kept; if not given, the length of the longest one in the training data",
        column_types=("sequence",),
        former_names=("max_length", "maxlen"),
    ),
    Option(
        "padding",
        Choice("pre", "post"),
        "the side on which a sequence is cut and padded: `pre` or `post`",
        "post",
        ("sequence",),
    ),
    Option(
        "share_embedding",
        Text(),
        "use the table of another field, which must be active, have the same `dtype`, and be listed before",
        column_types=WITH_VOCABULARY,
    ),
    Option(
        "feature_encoder",
        ENCODER,
        "how a sequence becomes one vector, for example `layers.MaskedAveragePooling()`. ME models need one",
        column_types=("categorical", "numeric", "sequence", "embedding"),
        former_names=("encoder",),
    ),
    Option(
        "embedding_dim",
        Integer(1),
        "dimension of this field only. PNN, NFwFM and xDeepFM need equal dimensions of all fields",
        column_types=("categorical", "numeric", "sequence", "embedding"),
    ),
    Option(
        "emb_output_dim",
        Integer(1),
        "width after the `feature_encoder`, if it changes the width",
        column_types=WITH_VOCABULARY,
    ),
    Option(
        "pretrained_emb",
        Text("a path"),
        "a file of vectors, `.npz`, `.h5` or `.parquet`, with `key` and `value`",
        column_types=WITH_VOCABULARY,
    ),
    Option(
        "pretrain_dim",
        Integer(1),
        "width of the vectors in `pretrained_emb`, or of an `embedding`",
        column_types=(*WITH_VOCABULARY, "embedding"),
    ),
    Option(
        "pretrain_usage",
        Choice("init", "sum", "concat"),
        "how pretrained vectors enter: `init`, `sum` or `concat`",
        "init",
        WITH_VOCABULARY,
    ),
    Option("freeze_emb", Boolean(), "whether pretrained vectors are not trained", True, WITH_VOCABULARY),
    Option(
        "preprocess",
        PREPROCESS,
        "makes the column from itself or from another one: `copy_from(column)`, "
        "`missing_as_value`, `squared_log`, `convert_to_bucket`, `convert_weekday`, `convert_weekend`, "
        "`convert_hour`",
        None,
    ),
    Option("remap", Boolean(), "`False` uses whole numbers as ids", True, (*WITH_VOCABULARY, "meta")),
    Option(
        "vocab_size",
        Integer(1),
        "number of ids, for `rebuild_dataset: False`, which reads no data",
        column_types=WITH_VOCABULARY,
    ),
    Option(
        "source",
        Checked("text", _check_source, {"type": "string"}),
        "group of fields that some FuxiCTR models treat alike",
        "",
    ),
    Option(
        "category_processor",
        Checked("left out", _refuse_category_processor, {"not": {}}),
        "refused: FuxiCTR 2.3.10 does not apply it",
        column_types=("categorical",),
    ),
    Option("num_buckets", Integer(2), "number of buckets of `category_processor`", column_types=("categorical",)),
)

LABEL_OPTIONS = index_by_name(
    Option("name", NAMES, "name of the column"),
    Option("dtype", Choice("float", "int"), "type of the values: `float` or `int`"),
    Option("fill_na", Number(), "the value that replaces an empty label"),
    Option("preprocess", PREPROCESS, "makes the label from another column", None),
)

SPEC_OPTIONS = index_by_name(  # of feature_specs, which change a feature map when it is loaded
    Option("name", NAMES, "the field, or a list of fields"),
    *(
        COLUMN_OPTIONS[name]
        for name in (
            "source",
            "feature_encoder",
            "embedding_dim",
            "emb_output_dim",
            "share_embedding",
            "pretrain_usage",
            "freeze_emb",
        )
    ),
)

DATASET_OPTIONS = index_by_name(
    Option(
        "data_root",
        Text("a path"),
        "the set is built in `<data_root>/<name of the entry>/`. The name is a plain file name",
    ),
    Option("data_format", Choice(*DATA_FORMATS), "`h5`, `csv`, `parquet` or `npz`"),
    Option("train_data", PATH, "training data: a file, a folder, or a pattern of names"),
    Option("valid_data", PATH, "validation data; or set `valid_size`"),
    Option("test_data", PATH, "test data", None),
    Option("feature_cols", Unchecked({"type": ["array", "null"]}), "the columns that are fields", None),
    Option("label_col", Unchecked({"type": ["object", "array", "null"]}), "the label, or one for each task", None),
    Option("min_categr_count", Integer(1), "default for all columns", 1),
    Option(
        "sep", Separator(), 'the character between the columns of csv, such as `","` or `"\\t"` in double quotes', ","
    ),
    Option("n_rows", Optional(Integer(1)), "rows to read of each file", None),
    Option("data_block_size", Integer(0), "rows of one built file; 0 makes one file of each split", 0),
    Option("rebuild_dataset", Boolean(), "`False` uses the built set without comparing it with the config", True),
    Option(
        "group_id", Optional(Text("the name of a column")), "the column by which gAUC, avgAUC, MRR and NDCG group", None
    ),
    Option("use_features", Optional(ListOf(Text(), "a list of fields", unique=True)), "only these fields", None),
    Option(
        "feature_specs",
        Unchecked({"type": ["array", "null"]}),
        "a list of fields of a built set, each with the column keys that change",
        None,
    ),
    Option(
        "num_buckets", Integer(2), "number of buckets of `category_processor`, which FuxiCTR 2.3.10 does not apply", 10
    ),
    Option(
        "valid_size",
        Optional(SplitSize()),
        "without `valid_data`: how much of `train_data` is for validation, a share below 1 or a number of rows",
        0,
    ),
    Option("test_size", Optional(SplitSize()), "the same for test rows", 0),
    Option(
        "split_type",
        Choice(*SPLIT_TYPES),
        "how `train_data` is divided: `sequential` takes the last rows for test and those before them for validation, "
        "`random` draws them by `split_seed`, `time` takes the latest rows by `split_by`",
        "sequential",
    ),
    Option("split_by", Optional(Text("the name of a column")), "the column of times for `split_type: time`", None),
    Option("split_seed", Optional(Integer(0)), "seed of `split_type: random`", SPLIT_SEED),
    Option("meta_ddf", Nothing(), "an argument of FuxiCTR's loaders, always `null`", None),
)

READING_OPTIONS = index_by_name(
    Option("batch_size", Integer(1), "rows of a step", 32),
    Option("shuffle", Boolean(), "whether training rows are shuffled", True),
    Option(
        "data_placement",
        Choice("auto", "device", "memory", "stream"),
        "where the rows of an H5 set are during training: on the GPU (`device`), in RAM (`memory`) or on disk "
        "(`stream`); `auto` chooses",
        "auto",
    ),
    Option("window_rows", Integer(1), "rows among which streamed rows are shuffled"),
    Option("num_workers", Integer(0, 1024), "number of processes of FuxiCTR's loaders", 1),
    Option("buffer_size", Integer(1), "rows that FuxiCTR's streaming loader shuffles at a time"),
    Option("streaming", Boolean(), "whether FuxiCTR's streaming loader reads the rows", False),
    Option("data_loader", Checked("a class", _check_loader), "a loader class in place of the format's own", None),
)

LEGACY_OPTIONS = index_by_name(
    *(
        Option(name, Unchecked(), "of FuxiCTR 1.x; nothing reads it")
        for name in ("feature_config", "pickle_feature_encoder", "debug_mode")
    )
)
