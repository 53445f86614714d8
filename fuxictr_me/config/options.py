"""The table of options: each setting once, with what it may be and what it is for.

The keys that are known and the checks of their values come from here. Options of models are in ``model_options.py``.
"""

from dataclasses import dataclass

from fuxictr_me.config.expressions import PREPROCESSING, check_feature_encoder, check_preprocess
from fuxictr_me.config.value_kinds import (
    Anything,
    Boolean,
    Checked,
    Choice,
    Either,
    Integer,
    Kind,
    ListOf,
    Nothing,
    Number,
    Text,
    optional,
    short_repr,
)
from fuxictr_me.errors import UsageError

RAW_DTYPES = ("str", "int", "float")
FIELD_TYPES = ("categorical", "numeric", "sequence", "embedding", "meta")
DATA_FORMATS = ("csv", "parquet", "npz", "h5")
WITH_VOCABULARY = ("categorical", "sequence")
NORMALIZERS = ("StandardScaler", "MinMaxScaler")
PADDINGS = ("pre", "post")
LONGEST_SEQUENCE = 100_000


class _Unset:
    def __repr__(self) -> str:
        return "not set"


UNSET = _Unset()


@dataclass(frozen=True)
class Option:
    """A setting of a config.

    Attributes:
        name: its key.
        kind: what a value may be.
        doc: one line on what it does.
        default: what holds where the key is absent; ``UNSET`` where it must be there, or nothing holds.
        types: of a column: the types that read it.
        former: names that it had in FuxiCTR 1.x, or by which it is often called; they only help to name it.
    """

    name: str
    kind: Kind
    doc: str
    default: object = UNSET
    types: tuple[str, ...] = FIELD_TYPES
    former: tuple[str, ...] = ()

    def check(self, value: object, where: str = "") -> None:
        """Raise a UsageError that names the option and ``where`` it is, where ``value`` is not of its kind."""
        self.kind.check(f"{self.name}{where}", value)


def table(*options: Option) -> dict[str, Option]:
    """Return options by name."""
    return {option.name: option for option in options}


class Separator(Kind):
    """One character of one byte, as polars takes it between the columns of csv files."""

    def __init__(self):
        words = "one character, such as ',', ';' or \"\\t\" in double quotes"
        super().__init__(words, {"type": "string", "minLength": 1, "maxLength": 1})

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and len(value) == 1 and value.isascii() and value not in '"\n\r\0'


NAMES = Checked("text", lambda label, value: None, {"anyOf": [{"type": "string"}, {"type": "array"}]})  # see columns.py
FILL = Either(Text(), Number("a number"), Nothing(), words="text, or a number")  # see columns.py
ENCODER = Checked(
    "like layers.MaskedAveragePooling(), or a list of such",
    check_feature_encoder,
    {"type": ["string", "array", "null"]},
)
PREPROCESS = Checked(f"one of {', '.join(PREPROCESSING)}", check_preprocess, {"type": ["string", "null"]})


def _refuse_category_processor(label: str, value: object) -> None:
    raise UsageError(f"{label}: FuxiCTR 2.3.10 does not apply category_processor itself; leave it out")


CATEGORY_PROCESSOR = Checked("left out", _refuse_category_processor)


def _check_splitter(label: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{label} must be the text between two items, got {short_repr(value)}")


SPLITTER = Checked("the text between two items", _check_splitter, {"type": "string", "minLength": 1})

COLUMN_OPTIONS = table(
    Option("name", NAMES, "name of the column, or a list of columns that are alike"),
    Option("active", Boolean(), "`False` leaves it out", True),
    Option("dtype", Choice(*RAW_DTYPES), "how it is read: `str`, `int` or `float`"),
    Option("type", Choice(*FIELD_TYPES), "what it is to the model"),
    Option(
        "source",
        Checked("text", lambda label, value: _check_source(label, value), {"type": "string"}),
        "group of fields that some models of FuxiCTR treat alike",
        "",
    ),
    Option("min_categr_count", Integer(1), "values that occur less often in training share one id", 1, WITH_VOCABULARY),
    Option("fill_na", FILL, "in place of an empty value", former=("na_value",)),
    Option("preprocess", PREPROCESS, "makes the column from itself or from another one", None),
    Option("normalizer", Choice(*NORMALIZERS), "of numbers", types=("numeric",), former=("normaliser",)),
    Option("splitter", SPLITTER, "what stands between the items of a sequence", "^", ("sequence",), ("separator",)),
    Option(
        "max_len",
        Integer(1, LONGEST_SEQUENCE),
        "how many items of a sequence are kept; if it is absent, as many as the longest of the training data has",
        types=("sequence",),
        former=("max_length", "maxlen"),
    ),
    Option("padding", Choice(*PADDINGS), "side of a sequence that is cut and filled", "post", ("sequence",)),
    Option(
        "feature_encoder",
        ENCODER,
        "how a field becomes one vector",
        types=("categorical", "numeric", "sequence", "embedding"),
        former=("encoder",),
    ),
    Option("share_embedding", Text(), "the field, listed before, whose table this one uses", types=WITH_VOCABULARY),
    Option(
        "embedding_dim", Integer(1), "of this field alone", types=("categorical", "numeric", "sequence", "embedding")
    ),
    Option("emb_output_dim", Integer(1), "width after the feature_encoder, if it changes it", types=WITH_VOCABULARY),
    Option("remap", Boolean(), "`False` keeps whole numbers as they are, as ids", True, (*WITH_VOCABULARY, "meta")),
    Option(
        "vocab_size", Integer(1), "number of ids, where `rebuild_dataset: False` reads no data", types=WITH_VOCABULARY
    ),
    Option(
        "pretrained_emb",
        Text("a path"),
        "file of vectors: `.npz`, `.h5` or `.parquet` with `key` and `value`",
        types=WITH_VOCABULARY,
    ),
    Option(
        "pretrain_dim",
        Integer(1),
        "width of the vectors in `pretrained_emb`, or of an `embedding`",
        types=(*WITH_VOCABULARY, "embedding"),
    ),
    Option("pretrain_usage", Choice("init", "sum", "concat"), "how pretrained vectors enter", "init", WITH_VOCABULARY),
    Option("freeze_emb", Boolean(), "whether pretrained vectors stay as they are", True, WITH_VOCABULARY),
    Option("category_processor", CATEGORY_PROCESSOR, "not applied by FuxiCTR 2.3.10: refused", types=("categorical",)),
    Option("num_buckets", Integer(2), "of `category_processor`", types=("categorical",)),
)

LABEL_OPTIONS = table(
    Option("name", NAMES, "name of the column"),
    Option("dtype", Choice("float", "int"), "how it is read"),
    Option("fill_na", Number("a number"), "in place of an empty label"),
    Option("preprocess", PREPROCESS, "makes the label from another column", None),
)

SPEC_OPTIONS = table(  # of feature_specs, which change a feature map when it is loaded
    Option("name", NAMES, "the field, or a list of fields"),
    *(
        COLUMN_OPTIONS[name]
        for name in ("source", "feature_encoder", "embedding_dim", "emb_output_dim", "share_embedding")
    ),
    COLUMN_OPTIONS["pretrain_usage"],
    COLUMN_OPTIONS["freeze_emb"],
)


def _check_source(label: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{label} must be text, got {short_repr(value)}")


PATH = optional(Text("a path"))

DATASET_OPTIONS = table(
    Option("data_root", Text("a path"), "folder of built data sets; this one is built in `<data_root>/<dataset_id>/`"),
    Option("data_format", Choice(*DATA_FORMATS), "how the set is built and fed"),
    Option("train_data", PATH, "csv or parquet: a file, a folder, or a pattern of names"),
    Option("valid_data", PATH, "the same for validation"),
    Option("test_data", PATH, "the same for the test", None),
    Option(
        "feature_cols",
        Checked("a list of columns", lambda label, value: None, {"type": ["array", "null"]}),
        "the columns that are fields",
        None,
    ),
    Option(
        "label_col",
        Checked("a column, or a list of them", lambda label, value: None, {"type": ["object", "array", "null"]}),
        "the label, or one for each task",
        None,
    ),
    Option("min_categr_count", Integer(1), "values that occur less often in training share one id", 1),
    Option("num_buckets", Integer(2), "of `category_processor`, which FuxiCTR 2.3.10 does not apply", 10),
    Option("rebuild_dataset", Boolean(), "`False` takes the set as it is built", True),
    Option("data_block_size", Integer(0), "rows of one built file; 0 makes one file of a split", 0),
    Option("sep", Separator(), "between the columns of csv files", ","),
    Option("n_rows", optional(Integer(1)), "rows to read of each file", None),
    Option("valid_size", optional(Number("a number of 0 or more")), "FuxiCTR 2.3.10 fails to split by size: 0", 0),
    Option("test_size", optional(Number("a number of 0 or more")), "FuxiCTR 2.3.10 fails to split by size: 0", 0),
    Option("split_type", Choice("sequential", "random"), "of a split by size", "sequential"),
    Option("meta_ddf", Nothing(), "FuxiCTR's own", None),
    Option(
        "group_id", optional(Text("the name of a column")), "the column that gAUC, avgAUC, MRR and NDCG group by", None
    ),
    Option("use_features", optional(ListOf(Text(), "a list of fields", unique=True)), "only these fields", None),
    Option(
        "feature_specs",
        Checked("a list of fields with what changes", lambda label, value: None, {"type": ["array", "null"]}),
        "changes fields of a built set",
        None,
    ),
)

READING_OPTIONS = table(
    Option("batch_size", Integer(1), "rows of a step", 32),
    Option("shuffle", Boolean(), "whether training rows are shuffled", True),
    Option("num_workers", Integer(0, 1024), "processes of FuxiCTR's loaders", 1),
    Option("buffer_size", Integer(1), "rows that FuxiCTR's streaming loader shuffles at a time"),
    Option("streaming", Boolean(), "read by FuxiCTR's streaming loader", False),
    Option(
        "data_loader",
        Checked("a class", lambda label, value: _check_loader(label, value)),
        "loader in place of the format's own",
        None,
    ),
    Option("data_placement", Choice("auto", "device", "memory", "stream"), "where H5 rows lie", "auto"),
    Option("window_rows", Integer(1), "rows among which streamed rows are shuffled"),
)


def _check_loader(label: str, value: object) -> None:
    if value is not None and not isinstance(value, type):
        raise UsageError(f"{label} must be like !!python/name:fuxictr_me.data.H5DataLoader, got {short_repr(value)}")


UNREAD = Anything()
OLD_OPTIONS = table(
    *(
        Option(name, UNREAD, "of FuxiCTR 1.x; nobody reads it")
        for name in ("feature_config", "pickle_feature_encoder", "debug_mode")
    )
)
