"""Callbacks: when they are called, what they write, and that they do not affect training."""

import csv
import logging

import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map

from fuxictr_me import (
    Callback,
    DCNv2_ME,
    InformationAbundance,
    MultiEmbedding,
    MultiEmbeddingOf,
    RankAlongDepth,
    UsageError,
    attach,
    information_abundance,
)
from fuxictr_me.io.atomic import append_atomically
from fuxictr_me.representations import measure_rank_along_depth
from fuxictr_me.training.callbacks import build
from fuxictr_me.training.callbacks.information_abundance import ALL, COLUMNS
from fuxictr_me.training.callbacks.rank_along_depth import DEPTH_COLUMNS


class Loader(list):
    """Two batches, as FuxiCTR iterates them."""


@pytest.fixture
def data(plain_map):
    return Loader([make_batch(plain_map, seed=s) for s in (1, 2)])


class Theirs(BaseModel):
    """A model as FuxiCTR's users write them. Its training loop has no callbacks."""

    def __init__(self, feature_map, model_root, **kwargs):
        super().__init__(feature_map, model_id="Theirs", model_root=str(model_root), metrics=["AUC"], **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.fc = torch.nn.Linear(12, 1)
        self.compile("adam", "binary_crossentropy", 1e-2)
        self.reset_parameters()

    def forward(self, inputs):
        return {"y_pred": self.fc(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)).sigmoid()}


def theirs(feature_map, folder):
    (folder / "made").mkdir(exist_ok=True)
    return Theirs(feature_map, folder, verbose=0)


def ours(feature_map, folder, **more):
    return DCNv2_ME(
        feature_map,
        model_id="ours",
        model_root=str(folder),
        num_sets=2,
        embedding_dim=4,
        stacked_dnn_hidden_units=[8, 4],
        **MODEL,
        **more,
    )


class Recorder(Callback):
    def __init__(self):
        self.calls = []

    def on_fit_start(self, model):
        self.calls.append("fit_start")

    def on_epoch_start(self, model):
        self.calls.append(("epoch_start", model._epoch_index))

    def on_evaluation_end(self, model, logs):
        assert not torch.is_grad_enabled()
        self.calls.append(("evaluation", sorted(logs), model.training))

    def on_epoch_end(self, model):
        self.calls.append("epoch_end")

    def on_fit_end(self, model):
        self.calls.append("fit_end")


@pytest.mark.parametrize("make", [theirs, ours])
def test_hooks_are_called_in_order_for_any_model(plain_map, data, tmp_path, make):
    model, recorder = make(plain_map, tmp_path), Recorder()
    cls = type(model)
    assert attach(model, [recorder]) is model
    assert isinstance(model, cls) and type(model).__name__ == cls.__name__
    assert (type(model) is cls) == (make is ours)  # only the class of a foreign model is extended
    model.fit(data, epochs=2, validation_data=data)
    evaluation = ("evaluation", ["AUC"], True)
    first, second = [[("epoch_start", e), evaluation, "epoch_end"] for e in (0, 1)]
    assert recorder.calls == ["fit_start", *first, *second, "fit_end"]


def test_base_hooks_do_nothing_and_attaching_no_callback_changes_nothing(plain_map, data, tmp_path):
    model = theirs(plain_map, tmp_path)
    assert type(attach(model, [])) is Theirs
    attach(attach(model, [Callback()]), [Callback()])
    model.fit(data, epochs=1, validation_data=data)


class Failing(Callback):
    def on_evaluation_end(self, model, logs):
        raise ZeroDivisionError("nothing to divide by")


def test_a_failing_callback_is_named_in_the_log_and_training_continues(plain_map, data, tmp_path, caplog):
    model, recorder = theirs(plain_map, tmp_path), Recorder()
    attach(model, [Failing(), recorder])
    with caplog.at_level(logging.ERROR):
        model.fit(data, epochs=2, validation_data=data)
    errors = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "callback Failing failed in on_evaluation_end (test_callbacks.py:" in errors[0]
    assert "ZeroDivisionError: nothing to divide by" in errors[0]
    assert recorder.calls[-1] == "fit_end" and (tmp_path / "made" / "Theirs.model").exists()


def test_callbacks_are_built_from_a_config():
    built = build([{"InformationAbundance": {"tensorboard": True}}, "test_callbacks.Failing"])
    assert [type(c).__name__ for c in built] == ["InformationAbundance", "Failing"]
    assert built[0].tensorboard and build(None) == []
    assert not build("InformationAbundance")[0].tensorboard


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_abundance_file_of_a_fuxictr_me_model(plain_map, data, tmp_path):
    model = ours(plain_map, tmp_path, callbacks=["InformationAbundance"])
    model.fit(data, epochs=2, validation_data=data)
    rows = rows_of(tmp_path / "made" / "ours.ia.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [r["event"] for r in rows] == ["evaluation"] * 18 + ["best"] * 9  # 3 fields x (2 sets + all)
    assert [r["step"] for r in rows[:18]] == ["2"] * 9 + ["4"] * 9
    for row in rows[18:]:
        tables = [table[1:] for table in model.embedding_layer.tables()[row["field"]]]
        chosen = tables if row["set"] == ALL else tables[int(row["set"])]
        assert float(row["ia"]) == pytest.approx(information_abundance(chosen), rel=1e-9)
        dim = 8 if row["set"] == ALL else 4
        num_ids = {"user": 10, "item": 6, "place": 4}[row["field"]]
        assert (int(row["dim"]), int(row["num_ids"])) == (dim, num_ids)
        assert float(row["ia_ratio"]) == pytest.approx(float(row["ia"]) / min(dim, num_ids), rel=1e-9)
        assert 1 <= float(row["ia_random"]) <= min(dim, num_ids)


def test_abundance_file_of_a_fuxictr_model(plain_map, data, tmp_path):
    model = attach(theirs(plain_map, tmp_path), [InformationAbundance()])
    model.fit(data, epochs=1, validation_data=data)
    rows = rows_of(tmp_path / "made" / "Theirs.ia.csv")
    weight = model.embedding_layer.embedding_layer.embedding_layers["user"].weight[1:]
    best = next(r for r in rows if r["event"] == "best" and r["field"] == "user" and r["set"] == ALL)
    assert float(best["ia"]) == pytest.approx(information_abundance(weight), rel=1e-9)


class TheirsWithTwoSets(Theirs):
    """A user's model with a ``MultiEmbedding`` of two sets in it."""

    def __init__(self, feature_map, model_root, **kwargs):
        super().__init__(feature_map, model_root, **kwargs)
        self.embedding_layer, self.fc = MultiEmbedding(feature_map, [4, 2]), torch.nn.Linear(18, 1)
        self.compile("adam", "binary_crossentropy", 1e-2)

    def forward(self, inputs):
        e = torch.cat(self.embedding_layer.per_set(self.get_inputs(inputs), flatten_emb=True), dim=1)
        return {"y_pred": self.fc(e).sigmoid()}


@pytest.mark.parametrize("make", [theirs, ours])
def test_depth_file_of_any_model(plain_map, data, tmp_path, caplog, make):
    model = attach(make(plain_map, tmp_path), [RankAlongDepth(rows=40)])
    with caplog.at_level(logging.INFO):
        model.fit(data, epochs=2, validation_data=data)
    rows = rows_of(tmp_path / "made" / f"{model.model_id}.depth.csv")
    assert list(rows[0]) == list(DEPTH_COLUMNS)
    assert list(dict.fromkeys((r["event"], r["epoch"], r["step"]) for r in rows)) == [
        ("evaluation", "1", "2"), ("evaluation", "2", "4"), ("best", "2", "4")
    ]  # fmt: skip
    measured = measure_rank_along_depth(model, data, 40)  # the best weights are loaded
    best = [r for r in rows if r["event"] == "best"]
    expected = [(one, part) for one in measured["representations"] for part in one["parts"]]
    assert len(best) == len(expected) > 1 and {r["rows"] for r in rows} == {"40"}
    for row, (one, part) in zip(best, expected, strict=True):
        assert (row["representation"], row["after"], row["set"]) == (one["name"], one["after"] or "", str(part["set"]))
        for key in ("width", "ceiling", "ia", "ia_ratio", "effective_rank", "effective_rank_ratio"):
            assert float(row[key]) == pytest.approx(part[key], rel=1e-9)
    lines = [r.message for r in caplog.records if r.message.startswith("[rank along the depth]")]
    assert len(lines) == 3 and f"% {best[0]['representation']}" in lines[0]


def test_rows_of_the_depth_callback_are_checked():
    assert build([{"RankAlongDepth": {"rows": 7}}])[0].rows == 7
    for rows in (0, "many"):
        with pytest.raises(UsageError, match="rows"):
            build([{"RankAlongDepth": {"rows": rows}}])
        with pytest.raises(UsageError, match="rows of RankAlongDepth"):
            RankAlongDepth(rows)


@pytest.mark.parametrize(("backbone", "inner"), [(Theirs, None), (TheirsWithTwoSets, 2)])
def test_abundance_file_of_a_wrapped_model(plain_map, data, tmp_path, backbone, inner):
    (tmp_path / "made").mkdir()
    wrapped = MultiEmbeddingOf(backbone, num_sets=2)
    model = wrapped(plain_map, tmp_path, verbose=0, callbacks=["InformationAbundance"])
    model.fit(data, epochs=1, validation_data=data)
    weights = model.state_dict()
    rows = [row for row in rows_of(tmp_path / "made" / "Theirs.ia.csv") if row["event"] == "best"]
    inside = [f"sets.{m}." for m in range(inner)] if inner else [""]
    paths = [f"{of_model}embedding_layer.{of_layer}" for of_model in ("", "sets.1.") for of_layer in inside]
    assert [(r["layer"], r["field"], r["set"]) for r in rows] == [
        ("embedding_layer", field, part)
        for field in ("user", "item", "place")
        for part in [*map(str, range(len(paths))), ALL]
    ]
    for row in rows:
        tables = [weights[f"{path}embedding_layer.embedding_layers.{row['field']}.weight"][1:] for path in paths]
        chosen = tables if row["set"] == ALL else tables[int(row["set"])]
        assert float(row["ia"]) == pytest.approx(information_abundance(chosen), rel=1e-9)


def test_the_callbacks_do_not_change_training(plain_map, data, tmp_path):
    states = []
    for callbacks in (None, ["InformationAbundance", "RankAlongDepth"]):
        torch.manual_seed(5)
        model = ours(plain_map, tmp_path, callbacks=callbacks, net_dropout=0.3)
        model.fit(data, epochs=3, validation_data=data)
        states.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_each_evaluation_logs_one_line(plain_map, data, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        ours(plain_map, tmp_path, callbacks=["InformationAbundance"]).fit(data, epochs=1, validation_data=data)
    lines = [r.message for r in caplog.records if r.message.startswith("[IA]")]
    assert len(lines) == 2  # the evaluation and the best weights
    assert "over 3 fields; of one set" in lines[0] and "lowest" in lines[0]


def test_a_table_with_nan_is_reported_and_gets_empty_values(plain_map, data, tmp_path, caplog):
    model = attach(theirs(plain_map, tmp_path), [InformationAbundance()])
    callback = model._callbacks[0]
    callback.on_fit_start(model)
    model._epoch_index = model._total_steps = 0
    with torch.no_grad():
        model.embedding_layer.embedding_layer.embedding_layers["item"].weight[2] = float("nan")
    callback.on_evaluation_end(model, {})
    assert "[IA] field item: 1 rows of the table hold NaN" in caplog.text
    assert [r["ia"] == "" for r in rows_of(callback.path)] == [False, False, True, True, False, False]


def test_tensorboard_files_hold_the_curves(plain_map, data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callbacks = [{"InformationAbundance": {"tensorboard": True}}]
    ours(plain_map, tmp_path, callbacks=callbacks).fit(data, epochs=2, validation_data=data)
    events = EventAccumulator(str(tmp_path / "made" / "ours.tensorboard")).Reload()
    curve = events.Scalars("ia/embedding_layer/user/all")
    rows = [r for r in rows_of(tmp_path / "made" / "ours.ia.csv") if r["event"] == "evaluation"]
    rows = [r for r in rows if r["field"] == "user" and r["set"] == ALL]
    assert [(s.step, s.value) for s in curve] == [(int(r["step"]), pytest.approx(float(r["ia"]))) for r in rows]


def test_an_append_that_is_cut_short_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_bytes(b"whole\n")
    real_open = open

    def short(*args, **kwargs):
        file = real_open(*args, **kwargs)

        class Short:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, block):
                return file.write(block[:2])

            fileno, truncate = file.fileno, file.truncate

        return Short()

    monkeypatch.setattr("builtins.open", short)
    with pytest.raises(OSError, match="no space left"):
        append_atomically(path, b"lost\n")
    monkeypatch.undo()
    assert path.read_bytes() == b"whole\n"


def test_fields_that_share_a_table_are_measured_once(tmp_path):
    """The rows have the name of the first field."""
    feature_map = make_feature_map({"item": categorical(9), "last": categorical(9, share_embedding="item")})
    data = Loader([make_batch(feature_map)])
    ours(feature_map, tmp_path, callbacks=["InformationAbundance"]).fit(data, epochs=1, validation_data=data)
    assert {r["field"] for r in rows_of(tmp_path / "made" / "ours.ia.csv")} == {"item"}
