"""A generator of bad configs and command lines: each ends in one line, before anything is built or trained."""

import itertools
import math
import random
from pathlib import Path

import pytest
from fuxictr.utils import load_config
from helpers.bad_configs import (
    DATASET,
    MODEL,
    error_of,
    folder,  # noqa: F401 - a fixture
    write,
)

from fuxictr_me.config import read_params
from fuxictr_me.errors import UsageError

# What can never be right for a setting of a kind, by hand and not by the table of options.
NO_NUMBER = ["5", "", "many", [], [[1]], {}, {"a": 1}, True, math.nan, math.inf]
NO_INTEGER = [*NO_NUMBER, 0, -1, 1.5, 10**15]
NO_COUNT = [*NO_NUMBER, -1, 1.5, 10**15]
NO_BOOLEAN = ["False", "no", "", 0, 1, 1.0, [], {}, None]
NO_NAME = ["nope", "", 5, [], {}, True, 1.5]
NO_TEXT = ["", " ", 5, 1.5, [], ["a"], {}, True]
WRONG = {
    "model": {
        **dict.fromkeys(("batch_size", "epochs", "early_stop_patience", "num_cross_layers"), (*NO_INTEGER, None)),
        **dict.fromkeys(("num_sets", "eval_steps"), NO_INTEGER),
        "embedding_dim": ["5", "", {}, True, math.nan, 0, -1, 1.5, [], [0], ["2", 2], [2, 2, 2], None],
        "seed": ["1", "", [], {}, True, None, -1, 1.5, 2**32, math.nan],
        "verbose": ["1", None, [], {}, -1, 1.5, "yes"],
        **dict.fromkeys(("learning_rate", "max_gradient_norm"), (*NO_NUMBER, 0, -1, None, "1e-3")),
        **dict.fromkeys(
            ("embedding_regularizer", "net_regularizer"),
            ("1e-3", "l2(x)", "l3(1)", [], {}, True, -1.0, 1, math.nan, "l2(1.2.3)"),
        ),
        **dict.fromkeys(
            (
                "shuffle",
                "save_best_only",
                "reduce_lr_on_plateau",
                "use_low_rank_mixture",
                "batch_norm",
                "nonlinear_projection",
                "fused_embedding",
                "compile",
            ),
            NO_BOOLEAN,
        ),
        **dict.fromkeys(
            (
                "model_structure",
                "aggregation",
                "precision",
                "embedding_updates",
                "monitor_mode",
                "task",
                "network_initializer",
                "data_placement",
            ),
            (*NO_NAME, None),
        ),
        "loss": [*NO_NAME, None, "relu", "softmax", "cross_entropy", "x; import os", "__import__('os').getcwd"],
        "optimizer": [*NO_NAME, None, "LBFGS", "SparseAdam", "Optimizer", "lr_scheduler", "sgd"],
        "metrics": [
            *NO_NAME,
            None,
            ["auc"],
            ["AUC", "AUC"],
            [5],
            [["AUC"]],
            {"AUC": 1},
            ["gAUC"],
            ["MSE"],
            ["NDCG(k=0)"],
            ["NDCG(k=__import__('os'))"],
        ],
        "monitor": [
            "auc",
            "",
            5,
            [],
            ["AUC"],
            {},
            True,
            None,
            "logloss",
            "MSE",
            {"AUC": "1"},
            {"AUC": math.nan},
            {5: 1},
        ],
        "embedding_initializer": [
            "nope",
            "",
            5,
            [],
            {},
            None,
            "nn.init.nope_",
            "nn.init.normal",
            "partial(nn.init.normal_, std=nan)",
            "partial(nn.init.normal_, foo=1)",
            "nn.init.dirac_",
            "partial(nn.init.normal_, std=-1)",
            "print(1)",
            "nn.init.normal_()",
        ],
        "stacked_dnn_hidden_units": ["4", "", 4, [], {}, [0], [-1], ["4"], [4.5], [True], [10**15], None],
        "dnn_activations": ["nope", "", 5, {}, [5], ["ReLU", "ReLU"], "Softmax2d", "GLU", "MultiheadAttention", True],
        "net_dropout": ["0.5", "", [], {}, True, -0.1, 1, 1.5, math.nan, [0.1, 0.1], None],
        "model": [*NO_NAME, None, "DCNv2ME", "os:system", "a:b:c"],
        "dataset_id": ["", "shoop", 5, [], ["shop"], {}, True, None, "../shop", "a/b", ".shop", "shop\n", "*"],
        "model_root": [*NO_TEXT, None],
        "callbacks": ["nope", [5], [{"InformationAbundance": {"nope": 1}}], [{"a": 1, "b": 2}], {"a": 1, "b": 2}, 5],
        "feature_specs": [
            "a",
            5,
            {},
            [5],
            ["user"],
            [{}],
            [{"name": "user", "feature_encoder": "print(1)"}],
            [{"name": "user", "embedding_dim": 0}],
            [{"name": "user", "nope": 1}],
        ],
        "use_features": ["user", 5, {}, [5], [""], ["user", "user"], ["usr"], [["user"]]],
        "group_id": ["usr", 5, [], {}, True, ""],
        "window_rows": NO_INTEGER,
        "gpu": ["0", 1.5, -2, [], {}, True, None],
    },
    "dataset": {
        "data_root": [*NO_TEXT, None],
        "data_format": [*NO_NAME, None, "csw"],
        "train_data": [*NO_TEXT, None, "nope.csv", "rows", "rows.csv\0"],
        "valid_data": [*NO_TEXT, None, "nope.csv"],
        "test_data": [5, ["a"], {"a": 1}, True, "nope.csv", " "],
        "min_categr_count": [*NO_INTEGER, None],
        "data_block_size": [*NO_COUNT, None],
        "n_rows": NO_INTEGER,
        "sep": ["", "ab", "tab", 5, [], {}, True, None, "\u00e9", '"', "\n"],
        "rebuild_dataset": NO_BOOLEAN,
        "valid_size": ["0.1", 0.1, 5, [1], {"a": 1}, True, math.nan],
        "test_size": ["0.1", 0.1, 5, [1], {"a": 1}, True],
        "feature_cols": ["user", 5, {"name": "user"}, [5], ["user"], [[]], [{}], [{"name": "user"}], True],
        "label_col": [
            "click",
            5,
            ["click"],
            [{}],
            {"name": "click"},
            {"dtype": "float"},
            {"name": ["click"], "dtype": "float"},
            {"name": "click", "dtype": "str"},
            {"name": "click", "dtype": "float", "nope": 1},
            {"name": "user", "dtype": "float"},
            {"name": "clik", "dtype": "float"},
        ],
        "num_buckets": NO_INTEGER,
        "split_type": NO_NAME,
    },
    "user": {
        "name": [
            "",
            " ",
            5,
            None,
            [],
            [5],
            {},
            True,
            "type",
            "items",
            "keys",
            "train",
            "forward",
            "a.b",
            "item",
            "a/b",
            "../a",
            "a\nb",
        ],
        "active": NO_BOOLEAN,
        "dtype": [*NO_NAME, None, "int32", "print(1)"],
        "type": [*NO_NAME, None, "categoric"],
        "min_categr_count": [*NO_INTEGER, None],
        "embedding_dim": [*NO_INTEGER, None],
        "emb_output_dim": [*NO_INTEGER, None],
        "fill_na": [5, 0.5, [], {}, True],
        "feature_encoder": [
            "nope",
            "",
            5,
            {},
            True,
            "layers.Nope()",
            "layers.MaskedAveragePooling",
            "nn.Linear()",
            "nn.Linear('a', 2)",
            "print(1)",
            "layers.MaskedAveragePooling().__class__",
            "(layers, 1)[0].MaskedSumPooling()",
            "layers.KMaxPooling(*[1, 2])",
            ["print(1)"],
            [5],
            "nn.Linear(2, print(1))",
            "torch.nn.Linear(2, 2)",
        ],
        "preprocess": [
            "nope",
            "",
            5,
            [],
            {},
            True,
            "load_pickle(evil.pkl)",
            "copy_from()",
            "copy_from(a)(b)",
            "__init__",
            "save_vocab(x)",
            "copy_from(item",
        ],
        "share_embedding": ["usr", "user", "item", "price", "", 5, [], {}, True, None],
        "category_processor": ["quantile_bucket", "hash_bucket", "nope", None],
        "remap": NO_BOOLEAN,
        "freeze_emb": NO_BOOLEAN,
        "pretrain_usage": [*NO_NAME, None],
        "pretrained_emb": [*NO_TEXT, None, "nope.npz", "rows.csv"],
        "source": [5, [], {}, True, None],
        "normalizer": ["StandardScaler"],
        "padding": ["pre"],
        "max_len": [3],
    },
    "price": {
        "normalizer": [*NO_NAME, None, "StandardScalar", "MinMax"],
        "dtype": ["str"],
        "fill_na": ["0", "", None, [], {}, True, math.nan],
        "min_categr_count": [2],
        "share_embedding": ["user"],
    },
    "history": {
        "max_len": [*NO_INTEGER, None, 10**6],
        "padding": [*NO_NAME, None, "left", "right"],
        "splitter": ["", 5, [], {}, True, None],
        "fill_na": [None, 5, [], {}],
        "share_embedding": ["price", "history", "itm"],
        "normalizer": ["StandardScaler"],
    },
}
KEYS = {
    "model": [
        *MODEL,
        "learning_rate",
        "optimizer",
        "embedding_regularizer",
        "monitor",
        "early_stop_patience",
        "net_dropout",
    ],
    "dataset": [*DATASET, "data_block_size", "rebuild_dataset"],
    "user": ["name", "active", "dtype", "type", "fill_na", "preprocess", "share_embedding", "embedding_dim"],
    "price": ["normalizer"],
    "history": ["splitter", "max_len", "padding", "feature_encoder"],
}


def misspell(key):
    """Three ways in which a finger slips."""
    middle = len(key) // 2
    return [key[:middle] + key[middle + 1 :], key[:middle] + key[middle] + key[middle:], key + "s"]


def bad_settings():
    """(where, key, value, what the error must name) of every wrong value and every misspelt key."""
    for where, wrong in WRONG.items():
        for key, values in wrong.items():
            yield from ((where, key, value, None) for value in values)
    known = set().union(*KEYS.values(), *(set(wrong) for wrong in WRONG.values()))
    for where, keys in KEYS.items():
        slips = ((key, slip) for key in keys for slip in misspell(key))
        yield from ((where, slip, 1, key) for key, slip in slips if slip not in known)


BAD = list(bad_settings())


def test_there_are_enough():
    assert len(BAD) >= 500


@pytest.mark.parametrize("cases", [BAD[::4], pytest.param(BAD, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_bad_setting_is_one_line(folder, capsys, cases):
    accepted, unnamed = [], []
    for where, key, value, right in cases:
        write(where, key, value)
        in_command = key == "gpu"  # the command's --gpu takes its place
        code, line = error_of(["run_expid", "--config", "config", "--expid", "x"], capsys)
        if code != 2 and not in_command:
            accepted.append((where, key, value, code))
        if right and repr(right) not in (line or ""):
            unnamed.append((key, right, line))
    assert not accepted and not unnamed


def test_the_settings_that_were_changed_are_right(folder, capsys):
    write("model", "seed", 1)
    assert error_of(["run_expid", "--config", "config", "--expid", "x"], capsys) == (0, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "build", "shop", "--config", "config"],
        ["run_expid", "--config", "config", "--expid", "x"],
        ["plan", "--config", "config", "--expid", "x"],
        ["analyze", "--config", "config", "--expid", "x"],
        ["export", "--config", "config", "--expid", "x", "--out", "out"],
        ["export-embeddings", "--config", "config", "--expid", "x", "--out", "out"],
        ["bars", "x", "--config", "config"],
    ],
    ids=lambda arguments: arguments[0] + arguments[1] * (arguments[0] == "data"),
)
def test_every_command_makes_the_same_check(folder, capsys, arguments):
    for where, key, value, words in (
        ("price", "normaliser", "StandardScaler", "did you mean 'normalizer'?"),
        ("dataset", "min_categr_cnt", 2, "did you mean 'min_categr_count'?"),
        ("history", "max_len", 0, "max_len of column 'history' must be an integer of 1 or more, got 0"),
        ("user", "active", "False", "active of column 'user' must be True or False, got 'False'"),
    ):
        write(where, key, value)
        code, line = error_of(arguments, capsys)
        assert code == 2 and words in line
    assert not Path("data").exists() and not Path("out").exists()


BAD_LINES = [
    *(f"data generate --out g --rows {rows}" for rows in ("0", "-5", "x", "1.5", "1e3", "", str(10**15))),
    *(f"data generate --out g --rows 50 --num-ids {ids}" for ids in ("0", "-1", "x", "10", str(10**12), str(10**18))),
    *(f"data generate --out g --rows 50 --seed {seed}" for seed in ("-1", "x", str(2**32), str(2**70))),
    *(f"data generate --out g --rows 50 --rank {rank}" for rank in ("0", "-1", "x", str(10**9))),
    *(f"data generate --out g --rows 50 --exponent {number}" for number in ("nan", "inf", "-1", "x", "99")),
    *(f"data generate --out g --rows 50 --num-fields {fields}" for fields in ("0", "1", "-1", "x", str(10**9))),
    *(f"run_expid --config config --expid {expid}" for expid in ("../x", "a/b", ".x", "y", "Base", "x*", "[x]")),
    *(f"run_expid --config config --expid x --gpu {gpu}" for gpu in ("99", "-2", "a", "1.5")),
    *(f"data build {dataset_id} --config config" for dataset_id in ("../shop", "shoop", ".shop", "a/b", "*")),
    *(f"{command} --expid x --config nope" for command in ("run_expid", "plan", "analyze", "export --out o")),
    *(f"quickstart --seed {seed}" for seed in ("-1", str(2**32), "x")),
    *(f"toy {option} {number}" for option in ("--seeds", "--iterations") for number in ("0", "-1", "x")),
    "plan --config config --expid x --gpu-model nope",
    "plan --config config --expid x --vocabulary nope.json",
    "data build criteo_x4",
    "data build shop --config nope",
    "data build shop --config rows.csv",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_every_bad_command_line_is_one_line(folder, capsys, line):
    write("model", "seed", 1)
    code, error = error_of(line.split(" "), capsys)
    assert code == 2 and error and not Path("g").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_as_fuxictr_reads_them_or_refused(folder, seed):
    damage_files(seed, 1_000)


def test_some_damaged_files_are_read_as_fuxictr_reads_them_or_refused(folder):
    damage_files(0, 60)


def damage_files(seed, times):
    """Change characters of both files: what comes through is what FuxiCTR's own ``load_config`` gives."""
    write("model", "seed", 1)
    paths = [Path("config/model_config.yaml"), Path("config/dataset_config.yaml")]
    whole, rng, refused = [path.read_text() for path in paths], random.Random(seed), 0
    for _ in range(times):
        for path, text in zip(paths, whole, strict=True):
            path.write_text(text)
        path, text = rng.choice(list(zip(paths, whole, strict=True)))
        at = rng.randrange(len(text))
        change = rng.choice(
            ["", text[at] * 2, ":", "\t", "&a *a", "\n", "- ", "'", "{", "!!python/name:os.system ", "9" * 50]
        )
        path.write_text(text[:at] + change + text[at + rng.randrange(2) :])
        try:
            params = read_params("config", "x")
        except UsageError:
            refused += 1
            continue
        expected = load_config("config", "x")
        for column in expected["feature_cols"]:
            column.setdefault("active", True)
        assert params == expected
    assert refused > times / 10


def test_a_number_is_never_read_as_another(folder):
    """Texts that YAML 1.1 does not read as the number that they look like are refused where a number is needed."""
    for text, key in itertools.product(("1e3", "1_0e1", "0x", "1,000", "12 "), ("epochs", "learning_rate")):
        write("model", key, text.strip() if text != "12 " else "12")
        with pytest.raises(UsageError, match=key):
            read_params("config", "x")
