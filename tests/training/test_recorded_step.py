"""Recorded steps against eager ones. Without CUDA graphs, on a CPU, a replay calls the recorded function again."""

import copy
import logging

import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import MODEL

from fuxictr_me import DNN_ME, Callback, DCNv2_ME, FinalMLP_ME, UsageError, attach
from fuxictr_me.training import catch_up, training_state
from fuxictr_me.training.cuda_graph import CallRecorder
from fuxictr_me.training.recorded_step import WARM_UP, SelectedRows
from fuxictr_me.training.step import Step

pytestmark = pytest.mark.usefixtures("double")
PENALTIES = {"space_similarity_regularizer": 0.1, "set_covariance_regularizer": 0.1}


class Counting(CallRecorder):
    """A recorder that counts recordings and replays."""

    def __init__(self, replay=lambda function: function()):
        self.recordings, self.replays, self.replay = 0, 0, replay

    def record(self, function):
        self.recordings += 1

        def replay():
            self.replays += 1
            return self.replay(function)

        return replay


def two_models(model_class, feature_map, recorder=None, **settings):
    """Return an eager model and an equal one whose steps are recorded. Both use the code paths of a GPU."""
    settings = {"dropout": 0.2, "embedding_regularizer": 0.01, "net_regularizer": 0.001, **settings}
    eager, recorded = (build(model_class, feature_map, **settings).double() for _ in range(2))
    recorded.load_state_dict(eager.state_dict())
    recorded.recorder = recorder or Counting()
    for model in (eager, recorded):
        model.train()
        model._max_gradient_norm = 0.5
        model._step = Step(model, model.embedding_updates, on_cpu=False)
    return eager, recorded


def step_both(models, batch, seed):
    losses = []
    for model in models:
        torch.manual_seed(seed)
        losses.append(model.train_step(batch).item())
    return losses


def largest_difference(eager, recorded):
    mine, theirs = recorded.state_dict(), eager.state_dict()
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in theirs)


@EVERY_FAMILY
def test_recorded_steps_equal_eager_ones(plain_map, model_class):
    eager, recorded = models = two_models(model_class, plain_map)
    for step in range(50):
        rows = 7 if step % 10 == 9 else 16  # the last batch of an epoch
        losses = step_both(models, make_batch(plain_map, rows=rows, seed=step), seed=step)
        assert losses[1] == pytest.approx(losses[0], abs=1e-12), step
        if step == 25:
            for model in models:
                model.lr_decay(0.3)
        if step == 35:
            evaluations = [model.evaluate([make_batch(plain_map, seed=99)]) for model in models]
            assert evaluations[0] == evaluations[1]
            for model in models:
                model.train()
    assert recorded.recorder.recordings == 1
    assert recorded.recorder.replays == 50 - WARM_UP - 5
    assert largest_difference(eager, recorded) < 1e-10


def test_steps_with_mutual_learning_are_recorded(plain_map):
    settings = {"aggregation": "confidence", "mutual_learning_regularizer": 0.3}
    eager, recorded = models = two_models(FinalMLP_ME, plain_map, **settings)
    for step in range(12):
        losses = step_both(models, make_batch(plain_map, rows=16, seed=step), seed=step)
        assert losses[1] == pytest.approx(losses[0], abs=1e-12), step
    assert recorded.recorder.replays == 12 - WARM_UP
    assert largest_difference(eager, recorded) < 1e-10


@pytest.mark.parametrize("updates", ["catch_up", "lazy"])
def test_updates_by_rows_are_recorded(plain_map, updates, monkeypatch):
    monkeypatch.setattr(catch_up, "FIRST_STEPS", 8)  # then a step is another one, which is recorded anew
    eager, recorded = models = two_models(DNN_ME, plain_map, embedding_updates=updates, embedding_regularizer=None)
    for step in range(24):
        losses = step_both(models, make_batch(plain_map, rows=4, seed=step), seed=step)
        assert losses[1] == pytest.approx(losses[0], abs=1e-12), step
        if step == 18:
            for model in models:
                model.lr_decay(0.3)
    assert recorded.recorder.recordings == (2 if updates == "catch_up" else 1)
    assert recorded.recorder.replays > 10
    assert largest_difference(eager, recorded) < 1e-10


def test_batches_given_by_row_numbers_equal_whole_batches(plain_map):
    class Data:
        """What H5DataLoader is when its rows lie on the device."""

        holds_rows_on_device = True

        def __init__(self):
            self.columns = make_batch(plain_map, rows=53, seed=3)
            self.by_rows = 0

        def __len__(self):
            return 4

        def __iter__(self):
            return map(self.select, torch.arange(53).split(16))

        def row_batches(self):
            self.by_rows += 1
            return iter(torch.arange(53).split(16))

        def select(self, rows):
            return {name: x[rows] for name, x in self.columns.items()}

    eager, recorded = models = two_models(DCNv2_ME, plain_map, dropout=0)
    data = [Data(), Data()]
    for model, of_model in zip(models, data, strict=True):
        model._eval_steps = 1000
        model._total_steps, model._stop_training = 0, False
        for _ in range(6):
            model.train_epoch(of_model)
    assert [of_model.by_rows for of_model in data] == [0, 6]
    assert recorded.recorder.replays == 3 * 6 - WARM_UP
    assert largest_difference(eager, recorded) < 1e-10


def test_steps_on_another_data_set_are_recorded_again(plain_map):
    class Other:
        def __init__(self, seed):
            self.columns = make_batch(plain_map, rows=64, seed=seed)

        def select(self, rows):
            return {name: x[rows] for name, x in self.columns.items()}

    _eager, recorded = models = two_models(DNN_ME, plain_map)
    for data in (Other(1), Other(2)):
        for step in range(6):
            rows = torch.arange(step, step + 16)
            losses = step_both(models, SelectedRows(rows, data.select), seed=step)
            assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    assert recorded.recorder.recordings == 2


def test_steps_of_a_loaded_optimizer_are_recorded_again(plain_map):
    eager, recorded = models = two_models(DNN_ME, plain_map)
    for step in range(16):
        if step in (2, 8):
            for model in models:
                model.optimizer.load_state_dict(copy.deepcopy(model.optimizer.state_dict()))  # in other tensors
                state = model.optimizer.state[next(model.parameters())]
                assert float(state["step"]) == step
        losses = step_both(models, make_batch(plain_map, rows=16, seed=step), seed=step)
        assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    assert recorded.recorder.recordings == 2
    assert largest_difference(eager, recorded) < 1e-10


def test_fit_logs_the_same_with_penalties_callbacks_and_early_stopping(plain_map, tmp_path, caplog):
    class Notes(Callback):
        def __init__(self):
            self.seen = []

        def on_evaluation_end(self, model, logs):
            self.seen.append((model._total_steps, logs["AUC"], model._stopping_steps))

    batches = [make_batch(plain_map, rows=16, seed=seed) for seed in range(7)]
    models = two_models(DCNv2_ME, plain_map, dropout=0, eval_steps=3, early_stop_patience=2, **PENALTIES)
    notes, logs = [Notes(), Notes()], []
    for model, of_model, folder in zip(models, notes, ("eager", "recorded"), strict=True):
        model.checkpoint = str(tmp_path / folder)
        attach(model, [of_model])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            model.fit(batches, epochs=4, validation_data=batches[:3])
        logs.append([r.message for r in caplog.records if "oad" not in r.message])
    assert models[1].recorder.replays > 5
    assert any(line.startswith("Penalties in it: space_similarity") for line in logs[0])
    assert any("lr" in line.lower() or "learning rate" in line for line in logs[0])
    assert logs[0] == logs[1]
    assert notes[0].seen == notes[1].seen and len(notes[0].seen) >= 3


# --- the way back ----------------------------------------------------------------------------------


def twice(function):
    function()
    return function()


def fail(function):
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


class Refusing(CallRecorder):
    def record(self, function):
        fail(function)


class Waiting(CallRecorder):
    def warm_up(self, function):
        return function(), "model.py:7"


def half(function):
    return function() / 2


@pytest.mark.parametrize(
    "recorder, reason",
    [
        (Counting(twice), "the recorded step is not the eager one: the loss is"),
        (Counting(half), "the recorded step is not the eager one: the loss is"),
        (Refusing(), "the recording failed: RuntimeError: operation not permitted when stream is capturing"),
        (Waiting(), "a step waits for the device, in model.py:7"),
    ],
)
def test_if_recording_fails_the_log_says_why_and_training_continues(plain_map, recorder, reason, caplog):
    eager, recorded = models = two_models(DNN_ME, plain_map, recorder)
    with caplog.at_level(logging.INFO):
        for step in range(10):
            losses = step_both(models, make_batch(plain_map, rows=16, seed=step), seed=step)
            assert losses[0] == pytest.approx(losses[1], abs=1e-12), step
    messages = [r.message for r in caplog.records if "cuda_graph" in r.message]
    assert len(messages) == 1 and messages[0].startswith(f"cuda_graph: steps are not recorded: {reason}")
    assert largest_difference(eager, recorded) < 1e-10


@pytest.mark.parametrize("group", ["weights", "buffers", "exp_avg", "exp_avg_sq", "step"])
def test_the_comparison_detects_a_change_of_any_part_of_the_state(plain_map, group, caplog, monkeypatch):
    monkeypatch.setattr(training_state, "SAMPLE", 20)  # of large tensors a part is compared

    def change(function):
        loss = function()
        with torch.no_grad():
            state = recorded.optimizer.state[recorded.embedding_layer.table.weight]
            of_norms = next(b for name, b in recorded.named_buffers() if "running_mean" in name)
            tensor = {"weights": recorded.embedding_layer.table.weight, "buffers": of_norms, **state}[group]
            tensor += 1
        return loss

    eager, recorded = models = two_models(DNN_ME, plain_map, Counting(change))
    with caplog.at_level(logging.INFO):
        for step in range(8):
            step_both(models, make_batch(plain_map, rows=16, seed=step), seed=step)
    messages = [r.message for r in caplog.records if "cuda_graph" in r.message]
    assert len(messages) == 1 and f"not the eager one: {group} differ by" in messages[0]
    assert largest_difference(eager, recorded) < 1e-10


def test_hooks_run_in_every_step(plain_map, caplog):
    _, recorded = two_models(DNN_ME, plain_map)
    seen = []
    with caplog.at_level(logging.INFO):
        for step in range(9):
            if step == 6:
                recorded.head.register_forward_hook(lambda *_: seen.append(1))
            recorded.train_step(make_batch(plain_map, rows=16, seed=step))
    assert len(seen) == 3
    assert [r.message for r in caplog.records if "cuda_graph" in r.message] == [
        "cuda_graph: steps are not recorded: a hook is registered on a module or on the optimizer"
    ]


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"optimizer": "RMSprop"}, "the optimizer is RMSprop, not Adam or AdamW in its fused form"),
        ({"cuda_graph": True, "recorder": None}, "the model is not on a GPU"),
    ],
)
def test_unsuitable_steps_are_not_recorded(plain_map, settings, reason, caplog):
    settings = dict(settings)
    recorder = settings.pop("recorder", Counting())
    _eager, recorded = two_models(DNN_ME, plain_map, **settings)
    recorded.recorder = recorder
    with caplog.at_level(logging.INFO):
        for step in range(8):
            recorded.train_step(make_batch(plain_map, rows=16, seed=step))
    messages = [r.message for r in caplog.records if "cuda_graph" in r.message]
    assert messages == [f"cuda_graph: steps are not recorded: {reason}"]


def test_without_a_gpu_nothing_is_logged_and_false_records_nothing(plain_map, caplog):
    with caplog.at_level(logging.INFO):
        model = build(DNN_ME, plain_map).double()
        model.train()._max_gradient_norm = 1.0
        model.train_step(make_batch(plain_map))
        _, recorded = two_models(DNN_ME, plain_map, cuda_graph=False)
        for step in range(8):
            recorded.train_step(make_batch(plain_map, rows=16, seed=step))
    assert recorded.recorder.recordings == 0
    assert not [r for r in caplog.records if "cuda_graph" in r.message]


@pytest.mark.parametrize("choice", ["True", "yes", 1, None])
def test_wrong_choices_are_named(plain_map, choice):
    with pytest.raises(UsageError, match=f"cuda_graph must be auto, True or False, got {choice!r}"):
        DNN_ME(plain_map, num_sets=2, cuda_graph=choice, **MODEL)


def test_losses_of_earlier_steps_are_not_overwritten(plain_map):
    _, recorded = two_models(DNN_ME, plain_map)
    losses = [recorded.train_step(make_batch(plain_map, rows=16, seed=step)) for step in range(8)]
    assert len({loss.item() for loss in losses}) == 8


@pytest.mark.parametrize("shape", [(50, 100), (1000, 12), (7,)])
def test_the_sample_of_a_tensor_has_entries_of_every_column(plain_map, shape, monkeypatch):
    monkeypatch.setattr(training_state, "SAMPLE", 400)
    model, _ = two_models(DNN_ME, plain_map)
    state = training_state.TrainingState(model)
    state.tensors = [torch.arange(shape[-1]).expand(shape)]
    (sample,) = state.sample()
    assert set(sample.tolist()) == set(range(shape[-1]))
    assert len(sample) <= 400
