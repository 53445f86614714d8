"""``fuxictr-me predict``: raw rows of every format get the numbers of evaluation; other rows are one line."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from fuxictr_me.data import H5DataLoader
from fuxictr_me.errors import UsageError
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained
from fuxictr_me.serving import score_file as module
from fuxictr_me.serving.score_file import score_file

CONFIG = """
shop:
    data_root: ./data/
    data_format: h5
    train_data: raw/train.csv
    valid_data: raw/valid.csv
    test_data: raw/test.csv
    min_categr_count: 2
    feature_cols:
        - {name: user, type: categorical, dtype: int}
        - {name: item, type: categorical, dtype: str, preprocess: missing_as_value}
        - {name: price, type: numeric, dtype: float, normalizer: StandardScaler, fill_na: 3.5}
        - {name: kind, type: categorical, dtype: str, preprocess: copy_from(type)}
        - {name: history, type: sequence, dtype: str, splitter: '|', max_len: 3, padding: pre, share_embedding: item,
           feature_encoder: layers.MaskedAveragePooling()}
        - {name: session, type: meta, dtype: str}
    label_col: {name: click, dtype: float}
"""
MODEL = """
Base: {model_root: ./checkpoints/, dataset_id: shop, task: binary_classification, loss: binary_crossentropy,
       metrics: [AUC, logloss], monitor: AUC, monitor_mode: max, optimizer: adam, learning_rate: 1.e-2, batch_size: 64,
       epochs: 1, seed: 1, verbose: 0, early_stop_patience: 2, embedding_dim: 4}
ME: {model: DNN_ME, num_sets: 2, hidden_units: [8]}
"""
COLUMNS = ("user", "item", "price", "type", "history", "session", "click")


def draw_rows(count, seed):
    """Rows with ids that training has not seen, empty values and lists of every length."""
    random = np.random.default_rng(seed)
    items = [f"i{item}" for item in range(12 + seed)]
    return pl.DataFrame(
        {
            "user": 2**53 + random.integers(0, 20 + seed, count),
            "item": [None if row % 11 == 0 else items[random.integers(len(items))] for row in range(count)],
            "price": [None if row % 7 == 0 else round(float(random.normal()), 3) for row in range(count)],
            "type": ["ab"[row % 2] for row in range(count)],
            "history": ["|".join(random.choice(items, row % 6)) or None for row in range(count)],
            "session": [f"s{row // 5}" for row in range(count)],
            "click": random.integers(0, 2, count),
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run, and its predictions for the built test split."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("raw", "config"):
            Path(name).mkdir()
        for seed, (split, rows) in enumerate((("train", 400), ("valid", 100), ("test", 150))):
            draw_rows(rows, seed).write_csv(f"raw/{split}.csv")
        Path("config/dataset_config.yaml").write_text(CONFIG)
        Path("config/model_config.yaml").write_text(MODEL)
        run_expid("ME", "config")
        model = load_trained("ME", "config")
        loader = H5DataLoader(model.feature_map, "data/shop/test.h5", split="test", batch_size=64)
        return folder, model.predict(loader)


@pytest.fixture
def rows(trained, monkeypatch):
    """The raw rows of the test split, in the folder of the run; what a test writes there is its own."""
    monkeypatch.chdir(trained[0])
    before = set(Path().iterdir())
    yield pl.read_csv("raw/test.csv", schema_overrides={"history": pl.String})
    for path in set(Path().iterdir()) - before:
        path.unlink()


def write_csv(rows):
    rows.write_csv("new.csv")
    return "new.csv"


def write_tsv_in_another_order(rows):
    rows.select(rows.columns[::-1]).write_csv("new.tsv", separator="\t")
    return "new.tsv"


def write_csv_with_blank_lines_at_the_end(rows):
    Path("blank.csv").write_text(rows.write_csv() + "\n\n")
    return "blank.csv"


def write_parquet_with_lists(rows):
    rows.with_columns(pl.col("history").str.split("|")).write_parquet("new.parquet")
    return "new.parquet"


def write_json_lines(rows):
    rows.with_columns(pl.col("history").str.split("|")).write_ndjson("new.jsonl")
    return "new.jsonl"


@pytest.mark.parametrize(
    "write",
    [
        write_csv,
        write_tsv_in_another_order,
        write_csv_with_blank_lines_at_the_end,
        write_parquet_with_lists,
        write_json_lines,
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("with_label", [True, False])
@pytest.mark.parametrize("out", ["scores.parquet", "scores.csv"])
def test_scores_are_those_of_evaluation(trained, rows, monkeypatch, write, with_label, out):
    monkeypatch.setattr(module, "CHUNK_ROWS", 64)  # 150 rows: two whole chunks and a short one
    data = write(rows if with_label else rows.drop("click"))
    text = score_file("ME", "config", data, out, keep=["session", "user"], batch_size=50)
    scores = pl.read_csv(out) if out.endswith("csv") else pl.read_parquet(out)
    assert scores.columns == ["session", "user", "prediction"]
    np.testing.assert_allclose(scores["prediction"].to_numpy(), trained[1], rtol=1e-6)
    assert scores["session"].to_list() == rows["session"].to_list()
    assert scores["user"].cast(pl.Int64).to_list() == rows["user"].to_list()
    assert "150 rows" in text
    clicks = rows["click"].to_numpy()
    metrics = f"AUC {roc_auc_score(clicks, trained[1]):.6f}, logloss {log_loss(clicks, trained[1]):.6f}"
    assert (metrics in text) == with_label


def test_groups_are_not_needed(trained, rows):
    score_file("ME", "config", write_csv(rows.drop("session")), "scores.parquet")
    scores = pl.read_parquet("scores.parquet")
    np.testing.assert_allclose(scores["prediction"].to_numpy(), trained[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda rows: rows.drop("item"), {}, "unknown column"),
        (lambda rows: rows.head(0), {}, "has no rows"),
        (lambda rows: rows.with_columns(price=pl.lit("dear")), {}, "price"),
        (lambda rows: rows.with_columns(price=pl.lit("nan")), {}, "price"),
        (lambda rows: rows.with_columns(click=pl.lit(0.25)), {}, "click"),
        (lambda rows: rows, {"keep": ["sesion"]}, "did you mean 'session'?"),
        (lambda rows: rows, {"keep": ["user", "user"]}, "--keep names 'user' twice"),
        (
            lambda rows: rows.rename({"session": "prediction"}),
            {"keep": ["prediction"]},
            "--keep cannot copy 'prediction'",
        ),
        (lambda rows: rows, {"out": "scores.txt"}, "--out must end in .parquet or .csv"),
        (lambda rows: rows, {"out": "raw/test.csv"}, "raw/test.csv exists already"),
        (lambda rows: rows, {"data": "nowhere.csv"}, "nowhere.csv"),
        (lambda rows: rows, {"data": "nowhere.jsonl"}, "no file nowhere.jsonl"),
        (lambda rows: rows, {"expid": "MF"}, "did you mean 'ME'?"),
        (lambda rows: rows, {"batch_size": 0}, "--batch-size"),
    ],
)
def test_rows_that_do_not_fit_are_one_line_and_leave_nothing(rows, change, arguments, message):
    write_csv(change(rows))
    given = {"expid": "ME", "config": "config", "data": "new.csv", "out": "scores.parquet", **arguments}
    before = sorted(Path().iterdir())
    with pytest.raises(UsageError) as error:
        score_file(given.pop("expid"), **given)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert sorted(Path().iterdir()) == before


def test_labels_of_one_class_give_scores_without_metrics(trained, rows):
    text = score_file("ME", "config", write_csv(rows.with_columns(click=pl.lit(1))), "scores.parquet")
    assert "click is 1 in every row: no metrics" in text
    np.testing.assert_allclose(pl.read_parquet("scores.parquet")["prediction"].to_numpy(), trained[1], rtol=1e-6)
