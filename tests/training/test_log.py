"""The callback ``Log``: its values against plain computations, and what each destination holds after a run."""

import csv
import importlib.util
import logging
import struct
import sys
import time

import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.families import build as build_family

from fuxictr_me import DCNv2_ME, Log, UsageError, attach, information_abundance
from fuxictr_me.training.callbacks import build
from fuxictr_me.training.callbacks.base import ForeignTrainingLoop
from fuxictr_me.training.cuda_graph import CallRecorder
from fuxictr_me.training.step import Step

MAX_NORM = 0.05  # below the norms here, so that gradients are clipped
FIELDS = [f"ia/embedding_layer/{field}" for field in ("user", "item", "place")]
NAMES = [
    *("train/loss", "train/learning_rate", "train/gradient_norm", "valid/AUC", "ia/mean", "ia/mean_ratio"),
    *FIELDS,
]


class Foreign(BaseModel):
    """A FuxiCTR model without callbacks of its own."""

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, metrics=["AUC"], **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, 4)
        self.fc = torch.nn.Linear(12, 1)
        self.compile("adam", "binary_crossentropy", 1e-2)
        self.reset_parameters()

    def forward(self, inputs):
        return {"y_pred": self.fc(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)).sigmoid()}


class Unclipped(Foreign):
    """A FuxiCTR model whose step does not clip."""

    def train_step(self, batch_data):
        self.optimizer.zero_grad()
        loss = self.compute_loss(self.forward(batch_data), self.get_labels(batch_data))
        loss.backward()
        self.optimizer.step()
        return loss


def make_ours(feature_map, folder, model_class=DCNv2_ME, **settings):
    settings = {"num_sets": 2, "batch_norm": False, "learning_rate": 1e-2, "metrics": ["AUC"], **settings}
    return build_family(model_class, feature_map, model_id="m", model_root=str(folder), **settings)


def make_foreign(feature_map, folder, **settings):
    (folder / "made").mkdir(exist_ok=True)
    return Foreign(feature_map, model_id="m", model_root=str(folder), verbose=0, **settings)


@pytest.fixture
def data(plain_map):
    return [make_batch(plain_map, seed=seed) for seed in range(4)]


def read_rows(folder):
    with (folder / "made" / "m.log.csv").open() as file:
        return list(csv.DictReader(file))


def fit(model, data, epochs=2):
    model.fit(data, epochs=epochs, validation_data=data, max_gradient_norm=MAX_NORM)


def train_plainly(model, data, epochs):
    """Train by autograd; return per epoch (mean loss, norm of the last gradient, IA of the field ``user``)."""
    optimizer, results = torch.optim.Adam(model.parameters(), lr=1e-2), []
    model.train()
    for _ in range(epochs):
        losses = []
        for batch in data:
            optimizer.zero_grad()
            loss = model.compute_loss(model.forward(batch), model.get_labels(batch))
            loss.backward()
            norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            losses.append(loss.item())
        results.append((sum(losses) / len(losses), norm.item()))
    return results


class OwnLoss(DCNv2_ME):
    """A fuxictr-me model with its own loss, which takes FuxiCTR's training step."""

    def compute_loss(self, return_dict, y_true):
        return 2 * super().compute_loss(return_dict, y_true)


def make_own_loss(feature_map, folder, **settings):
    return make_ours(feature_map, folder, OwnLoss, **settings)


@pytest.mark.parametrize("make", [make_ours, make_own_loss, make_foreign])
@pytest.mark.usefixtures("exact")
def test_values_equal_a_plain_loop(plain_map, data, tmp_path, make):
    torch.manual_seed(1)
    model = make(plain_map, tmp_path, embedding_regularizer=0.01, net_regularizer=0.001)
    torch.manual_seed(1)
    plain = make(plain_map, tmp_path, embedding_regularizer=0.01, net_regularizer=0.001)
    plain.load_state_dict(model.state_dict())
    fit(attach(model, [Log("csv")]), data)
    rows = read_rows(tmp_path)
    assert list(rows[0]) == ["epoch", "step", *NAMES]
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8")]
    for row, (loss, norm) in zip(rows, train_plainly(plain, data, epochs=2), strict=True):
        assert norm > MAX_NORM
        assert float(row["train/loss"]) == pytest.approx(loss, rel=1e-9)
        assert float(row["train/gradient_norm"]) == pytest.approx(norm, rel=1e-9)
    assert [float(row["train/learning_rate"]) for row in rows] == pytest.approx([0.01, 0.01])
    assert 0 <= float(rows[0]["valid/AUC"]) <= 1
    if make is not make_foreign:
        tables = plain.embedding_layer.tables()["user"]
        abundance = information_abundance([table[1:] for table in tables])
    else:
        abundance = information_abundance(plain.embedding_layer.embedding_layer.embedding_layers["user"].weight[1:])
    assert float(rows[1][FIELDS[0]]) == pytest.approx(abundance, rel=1e-6)
    mean = sum(float(rows[1][name]) for name in FIELDS) / 3
    assert float(rows[1]["ia/mean"]) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("updates", ["lazy", "catch_up"])
@pytest.mark.usefixtures("exact")
def test_updates_by_rows_have_the_norm_of_the_batchs_rows(plain_map, data, tmp_path, updates):
    """Without a regulariser all other rows have no gradient, so this is the norm of the whole gradient."""
    models = [make_ours(plain_map, tmp_path, embedding_updates=u) for u in (updates, "dense")]
    models[1].load_state_dict(models[0].state_dict())
    norms = []
    for model in models:
        fit(attach(model, [Log("csv")]), data[:1], epochs=1)
        norms.append(float(read_rows(tmp_path)[0]["train/gradient_norm"]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)


@pytest.mark.usefixtures("exact")
def test_a_recorded_step_keeps_the_norm(plain_map, data, tmp_path):
    models = [make_ours(plain_map, tmp_path) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].recorder = CallRecorder()
    norms = []
    for model in models:
        model._step = Step(model, on_cpu=False)
        fit(attach(model, [Log("csv")]), data, epochs=3)
        norms.append([row["train/gradient_norm"] for row in read_rows(tmp_path)])
    assert models[1]._steps.replay is not None
    assert [float(x) for x in norms[1]] == pytest.approx([float(x) for x in norms[0]], rel=1e-9)


def test_training_is_the_same_with_and_without_the_callback(plain_map, data, tmp_path):
    for make in (make_ours, make_foreign):
        weights = []
        for callbacks in ([], [Log("csv")]):
            torch.manual_seed(1)
            model = attach(make(plain_map, tmp_path), callbacks)
            torch.manual_seed(2)
            fit(model, data)
            assert model.step_record is None if callbacks else True
            weights.append(model.state_dict())
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_nothing_is_recorded_without_the_callback(plain_map, data, tmp_path):
    model = make_ours(plain_map, tmp_path, callbacks=["InformationAbundance"])
    fit(model, data)
    assert model.step_record is None and model._step.gradient_norm is None
    assert not (tmp_path / "made" / "m.log.csv").exists()


def test_clipping_is_watched_in_steps_before_an_evaluation_only(plain_map, data, tmp_path, monkeypatch):
    original, seen = torch.nn.utils.clip_grad_norm_, []
    model = attach(make_foreign(plain_map, tmp_path), [Log("csv")])
    assert isinstance(model, ForeignTrainingLoop)
    step = Foreign.train_step

    def train_step(self, batch):
        seen.append(torch.nn.utils.clip_grad_norm_ is original)
        return step(self, batch)

    monkeypatch.setattr(Foreign, "train_step", train_step)
    fit(model, data, epochs=1)
    assert seen == [True, True, True, False] and torch.nn.utils.clip_grad_norm_ is original


def test_a_norm_that_is_not_computed_is_left_out(plain_map, data, tmp_path):
    (tmp_path / "made").mkdir()
    model = Unclipped(plain_map, model_id="m", model_root=str(tmp_path), verbose=0)
    fit(attach(model, [Log("csv")]), data)
    rows = read_rows(tmp_path)
    assert [row["train/gradient_norm"] for row in rows] == ["", ""] and float(rows[1]["train/loss"]) > 0


def test_a_second_run_replaces_the_file(plain_map, data, tmp_path):
    for _ in range(2):
        fit(make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": "csv"}}]), data, epochs=1)
    assert len(read_rows(tmp_path)) == 1


def expected_values(folder):
    return {name: [float(row[name]) for row in read_rows(folder)] for name in NAMES}


def test_tensorboard_reads_the_values(plain_map, data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": ["csv", "tensorboard"]}}]), data)
    events = EventAccumulator(str(tmp_path / "made" / "m.tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(NAMES)
    for name, values in expected_values(tmp_path).items():
        assert [event.step for event in events.Scalars(name)] == [4, 8]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # in MLflow and what it imports
def test_mlflow_reads_the_values(plain_map, data, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    fit(make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": ["mlflow", "csv"]}}]), data)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("made").experiment_id])
    assert (run.info.run_name, run.info.status) == ("m", "FINISHED")
    for name, values in expected_values(tmp_path).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == [4, 8]
        assert [metric.value for metric in history] == pytest.approx(values, rel=1e-12)


def read_wandb_history(path):
    """Read the history of a run's file: a log of protobuf records after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, history = path.read_bytes(), 7, []
    while position + 7 <= len(content):
        _, length, _ = struct.unpack("<IHB", content[position : position + 7])
        if position + 7 + length > len(content):
            break
        record = Record.FromString(content[position + 7 : position + 7 + length])
        position += 7 + length
        if record.WhichOneof("record_type") == "history":
            history.append({item.key or item.nested_key[0]: float(item.value_json) for item in record.history.item})
    return history


@pytest.mark.filterwarnings("ignore")  # in W&B and what it imports
def test_wandb_writes_the_values_offline(plain_map, data, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("CONSOLE", "off"), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    fit(make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": ["wandb", "csv"]}}]), data)
    (path,) = (tmp_path / "made" / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 30
    while len(history := read_wandb_history(path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # W&B's service writes the file in a process of its own
    assert [row["_step"] for row in history] == [4, 8] and [row["epoch"] for row in history] == [1, 2]
    for name, values in expected_values(tmp_path).items():
        assert [row[name] for row in history] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("package", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_one_line_before_training(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "fuxictr_me.training.callbacks.log_writers.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(UsageError) as caught:
        build([{"Log": {"to": ["csv", package]}}])
    assert str(caught.value) == (
        f"callback Log with to: {package} needs the package {package}, which is not installed: "
        f"pip install 'fuxictr-me[{package}]'"
    )
    if package == "tensorboard":
        with pytest.raises(UsageError, match=r"InformationAbundance .* pip install 'fuxictr-me\[tensorboard\]'"):
            build([{"InformationAbundance": {"tensorboard": True}}])


def test_trackers_are_not_imported_for_a_csv_file(plain_map, data, tmp_path):
    before = set(sys.modules)
    fit(make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": "csv"}}]), data, epochs=1)
    new = set(sys.modules) - before
    assert not [name for name in new if name.split(".")[0] in ("tensorboard", "mlflow", "wandb")]


@pytest.mark.parametrize(
    "spec, error",
    [
        ("Log", "callback Log needs the argument to: "),
        ({"Log": {"to": "tensorbord"}}, "did you mean 'tensorboard'"),
        ({"Log": {"to": []}}, "to of callback Log must be"),
        ({"Log": {"to": ["csv", "csv"]}}, "callback Log names a destination twice: csv, csv"),
        ({"Log": {"path": "x"}}, "unknown argument of callback Log 'path'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(spec, error):
    with pytest.raises(UsageError) as caught:
        build([spec])
    assert error in str(caught.value) and "\n" not in str(caught.value)


def test_a_writer_that_fails_does_not_stop_training(plain_map, data, tmp_path, caplog):
    model = make_ours(plain_map, tmp_path, callbacks=[{"Log": {"to": "csv"}}])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "m.log.csv").mkdir()
    with caplog.at_level(logging.ERROR):
        fit(model, data, epochs=1)
    assert any("callback Log failed in on_fit_start" in message for message in caplog.messages)


@pytest.mark.parametrize("callbacks", [["InformationAbundance"], [{"Log": {"to": "csv"}}]], ids=["ia", "log"])
def test_a_resumed_run_keeps_the_rows_of_its_first_part(plain_map, data, tmp_path, callbacks):
    model = make_ours(plain_map, tmp_path, callbacks=callbacks)
    (callback,) = model._callbacks
    fit(model, data, epochs=1)
    path = next((tmp_path / "made").glob("*.csv"))
    rows, state = path.read_text(), callback.save_state()
    callback.on_fit_start(model)  # of another process, which replaces the file
    callback.load_state(state)
    assert path.read_text() == rows
    callback.on_evaluation_end(model, {"AUC": 0.5})
    assert path.read_text().startswith(rows) and path.read_text().count("epoch") == 1
