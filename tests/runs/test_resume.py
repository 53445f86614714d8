"""A run in one process that is stopped and resumed equals one that was never stopped, bit for bit."""

import json
import time
from pathlib import Path

import pytest
import torch
from helpers.command_line import fails
from helpers.forked_processes import Forked, run_forked
from helpers.own_models import MINE
from helpers.run_configs import write_config

from fuxictr_me.commands.main import main
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.runs import resume_file
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.runtime import Runtime
from fuxictr_me.training import catch_up

pytestmark = pytest.mark.usefixtures("own_folder")
STEPS, EPOCHS = 8, 4  # 2,000 rows in batches of 256
# ``eval_steps`` divides no epoch, so that the best weights are mostly older than the state. The rate decays.
NOISY = """


class Noisy(WideDNN):
    # Its learning rate follows a schedule and every random generator, which no parameter remembers.
    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 5, 0.9)

    def train_step(self, batch):
        noise = 1 + random.random() / 100 + np.random.rand() / 100 + float(torch.rand(())) / 100
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.param_groups[0]["lr"] = rate * noise
        loss = super().train_step(batch)
        self.optimizer.param_groups[0]["lr"] = rate
        self.schedule.step()
        return loss
"""
SETTINGS = {
    "epochs": EPOCHS,
    "batch_size": 256,
    "early_stop_patience": 99,
    "reduce_lr_on_plateau": True,
    "eval_steps": 3,
}
DROPOUT = {"net_dropout": 0.2, "monitor": {"AUC": -1}, "learning_rate": 0.01}


class Stopped(BaseException):
    """What ends a run in these tests, at any place."""


class Watched(Runtime):
    """A run that notes its losses, and that is stopped before a step, or before an evaluation, if one is named."""

    def __init__(self, resume=True, step=None, evaluation=None):
        super().__init__(resume=resume)
        self.step, self.evaluation, self.losses, self.evaluations = step, evaluation, {}, 0

    def prepare_training(self, model, params, started):
        super().prepare_training(model, params, started)
        train_step, evaluate = model.train_step, model.evaluate

        def watched_step(batch):
            if model._total_steps == self.step:
                raise Stopped
            loss = train_step(batch)
            self.losses[model._total_steps] = loss.item()
            return loss

        def watched_evaluation(*args, **kwargs):
            self.evaluations += 1
            if self.evaluations == self.evaluation:
                raise Stopped
            return evaluate(*args, **kwargs)

        model.train_step, model.evaluate = watched_step, watched_evaluation


@pytest.fixture
def float64_runs(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def outcome():
    """Return what the last run left: weights, results without times, and rows of information abundance."""
    folder = Path("checkpoints/tiny_flights")
    result = json.loads((folder / "mine.json").read_text())
    kept = {key: result[key] for key in ("valid", "test", "steps", "settings_digest", "data_digest")}
    return load_state_dict(folder / "mine.model"), kept, (folder / "mine.ia.csv").read_text()


def run_to_the_end(config, **options):
    runtime = Watched(**options)
    run_expid("mine", config, runtime=runtime)
    return runtime.losses, outcome()


def assert_equal_runs(one, other):
    (weights, result, abundance), (other_weights, other_result, other_abundance) = one, other
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert result == other_result and abundance == other_abundance


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({**DROPOUT, "seed": 1}, {}),
        ({**DROPOUT, "seed": 2, "embedding_regularizer": 1e-4, "batch_norm": True}, {"data_format": "h5"}),
        (
            {**DROPOUT, "embedding_updates": "catch_up", "embedding_regularizer": 0},
            {"data_format": "h5", "data_placement": "stream"},
        ),
        ({"model": "own_models_resumed:WideDNN", "num_sets": 2, "optimizer": "Adagrad"}, {}),
        ({"model": "own_models_resumed:Noisy", "num_sets": None, "reduce_lr_on_plateau": False}, {}),
    ],
    ids=["dense", "dense-h5", "catch_up", "wrapped", "foreign"],
)
def test_a_run_that_is_stopped_anywhere_equals_one_that_is_not(model, data, float64_runs, monkeypatch):
    monkeypatch.setattr(catch_up, "FIRST_STEPS", STEPS // 2)
    Path("own_models_resumed.py").write_text(
        "import random\n\nimport numpy as np\n"
        + MINE.replace("list(hidden_units), output_dim=1)", "list(hidden_units), output_dim=1, dropout_rates=0.2)")
        + NOISY
    )
    config = write_config({**SETTINGS, **model}, data)
    losses, expected = run_to_the_end(config, resume=False)
    assert not list(Path("checkpoints/tiny_flights").glob("*.resume"))
    assert len(losses) == STEPS * EPOCHS and len(set(losses.values())) == len(losses)
    again = {}
    # in an evaluation of the second epoch, before the first step of the third, in the last step, and after training
    stops = [{"evaluation": 5}, {"step": 2 * STEPS + 1}, {"step": 4 * STEPS}, {"evaluation": 4}]
    for stop in stops:
        runtime = Watched(**stop)
        with pytest.raises(Stopped):
            run_expid("mine", config, runtime=runtime)
        again |= runtime.losses
    last, found = run_to_the_end(config)
    assert not last  # all epochs were completed: only the evaluations were left
    assert again == losses
    assert_equal_runs(found, expected)
    result = json.loads(Path("checkpoints/tiny_flights/mine.json").read_text())
    assert result["resumed_after_epochs"] == EPOCHS


def test_a_run_that_is_killed_continues_from_what_is_on_disk():
    config = write_config(
        {**SETTINGS, **DROPOUT, "epochs": 6, "embedding_updates": "catch_up", "embedding_regularizer": 0}
    )
    assert main(["run_expid", "--config", config, "--expid", "mine"]) == 0
    expected = outcome()
    state = Path("checkpoints/tiny_flights/mine.resume")
    for wait in (0.0, 0.03):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = Forked("run_expid", "--config", config, "--expid", "mine", "--resume")
        deadline = time.monotonic() + 120
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
    assert 1 <= resume_file.read_resume_file(state)["epoch"] <= 6
    assert run_forked("run_expid", "--config", config, "--expid", "mine", "--resume").returncode == 0
    assert_equal_runs(outcome(), expected)


def test_a_checkpoint_that_another_run_replaced_is_restored():
    config = write_config({**SETTINGS, **DROPOUT})
    _, expected = run_to_the_end(config)
    run_expid("mine", write_config({**SETTINGS, **DROPOUT, "seed": 5, "num_sets": 3}))
    write_config({**SETTINGS, **DROPOUT})
    assert_equal_runs(run_to_the_end(config)[1], expected)


def test_a_state_that_a_gpu_wrote_is_read_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    digests = {"settings_digest": "", "data_digest": "", "settings": "{}"}
    content = {"format": 1, "epoch": 1, "seconds": 1.0, **digests, "best": None, "state": {"weight": torch.arange(3)}}
    torch.save(content, "m.resume")
    for device in (torch.device("cpu"), None):
        weight = resume_file.read_resume_file(Path("m.resume"), device)["state"]["weight"]
        assert weight.device.type == "cpu" and weight.tolist() == [0, 1, 2]


def test_a_state_of_other_settings_or_data_is_refused(capsys):
    config = write_config({**SETTINGS})
    arguments = ("run_expid", "--config", config, "--expid", "mine", "--resume")
    assert main(list(arguments)) == 0
    checkpoint = Path("checkpoints/tiny_flights/mine.model").read_bytes()
    message = fails(capsys, *arguments, "--set", "learning_rate=0.5", "--set", "epochs=9")
    assert "is the state of a run with other settings or data: epochs was 4 and is 9; learning_rate was " in message
    message = fails(capsys, *arguments, "--set", "min_categr_count=2")
    assert "other settings or data: the data set has other rows or features. Restore them, or remove" in message
    assert Path("checkpoints/tiny_flights/mine.model").read_bytes() == checkpoint


def test_a_damaged_or_foreign_state_is_refused(capsys):
    config, state = write_config({**SETTINGS, "epochs": 1}), Path("checkpoints/tiny_flights/mine.resume")
    arguments = ("run_expid", "--config", config, "--expid", "mine", "--resume")
    assert main(list(arguments)) == 0
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    assert "is not the state of a run to resume" in fails(capsys, *arguments)
    torch.save({"format": 1}, state)
    assert "is not the state of a run to resume, or of another version" in fails(capsys, *arguments)
    torch.save(Path, state)  # a class: loading it would import code
    assert "it also holds objects that could run code" in fails(capsys, *arguments)
    state.write_bytes(whole)
    content = torch.load(state, weights_only=True)
    content["state"]["weights"].popitem()
    torch.save(content, state)
    assert "cannot be resumed from: it is of another model: " in fails(capsys, *arguments)
    state.unlink()
    state.mkdir()
    assert "is a folder, as a run with --engine writes it" in fails(capsys, *arguments)
    assert state.is_dir()
