"""Optimizer arguments, learning-rate schedules and accumulated gradients against plain PyTorch loops, in float64."""

import copy
import logging
import re

import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.families import build
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR, StepLR

from fuxictr_me import DNN_ME, DCNv2_ME, UsageError
from fuxictr_me.config.optimizer_options import check_lr_schedule, check_not_for_fuxictr, check_optimizer_args
from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.training.cuda_graph import CallRecorder
from fuxictr_me.training.lr_schedule import build_schedule
from fuxictr_me.training.recorded_step import WARM_UP
from fuxictr_me.training.step import Step

pytestmark = pytest.mark.usefixtures("exact")
MAX_NORM = 0.05  # small enough that gradients are clipped
REGULARISERS = {"embedding_regularizer": 0.01, "net_regularizer": 0.001}


class Rates(list):
    """A hook of an optimizer that notes the learning rate of each step."""

    def __call__(self, optimizer, args, kwargs):
        self.append(optimizer.param_groups[0]["lr"])


def make_model(feature_map, tmp_path, model_class=DCNv2_ME, **settings):
    torch.manual_seed(1)
    settings = {"num_sets": 2, "batch_norm": False, "model_id": "m", "model_root": str(tmp_path), **settings}
    return build(model_class, feature_map, **settings)


def batches_of(feature_map, sizes):
    return [make_batch(feature_map, rows=rows, seed=seed) for seed, rows in enumerate(sizes)]


def train_plainly(model, batches, optimizer, schedule=None, regulariser=0.01, net=0.001, max_norm=MAX_NORM):
    """Train by autograd alone: forward, the loss with its penalties, clipping, a step of PyTorch's optimizer."""
    model.train()
    tables = {id(model.embedding_layer.table.weight)}
    for batch in batches:
        optimizer.zero_grad()
        y = model.forward(batch)["y_pred"]
        loss = torch.nn.functional.binary_cross_entropy(y, batch["label"].view(-1, 1))
        for parameter in model.parameters():
            loss = loss + (regulariser if id(parameter) in tables else net) / 2 * parameter.square().sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        if schedule:
            schedule.step()


def step_through(model, batches, epochs=1):
    """Train with the model's own steps, as ``fit`` does, without evaluations."""
    model.train()
    model._max_gradient_norm, model._steps_per_epoch = MAX_NORM, len(batches)
    model.start_schedule(epochs, len(batches))
    for _ in range(epochs):
        for index, batch in enumerate(batches):
            model._batch_index = index
            model.train_step(batch)


def assert_equal_weights(model, other, tolerance=1e-12):
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("adamw", {"betas": [0.8, 0.9], "weight_decay": 0.1, "eps": 0.001}),
        ("adam", {"betas": [0.7, 0.95], "amsgrad": True}),
        ("adam", {"weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("Adagrad", {"initial_accumulator_value": 0.1}),
        ("rmsprop", {"alpha": 0.8}),
    ],
)
def test_optimizers_with_arguments_equal_a_plain_loop(plain_map, tmp_path, name, arguments):
    model = make_model(
        plain_map, tmp_path, optimizer=name, optimizer_args=arguments, learning_rate=0.01, **REGULARISERS
    )
    plain, batches = copy.deepcopy(model), batches_of(plain_map, [16] * 6)
    cls = {n.lower(): getattr(torch.optim, n) for n in ("AdamW", "Adam", "SGD", "Adagrad", "RMSprop")}[name.lower()]
    keywords = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    train_plainly(plain, batches, cls(plain.parameters(), lr=0.01, **keywords))
    step_through(model, batches)
    assert_equal_weights(model, plain)


def test_adam_with_decoupled_weight_decay_is_adamw(plain_map, tmp_path):
    if "decoupled_weight_decay" not in torch.optim.Adam([torch.zeros(1)]).defaults:
        pytest.skip("this version of PyTorch has no such argument")
    arguments = {"weight_decay": 0.1, "decoupled_weight_decay": True}
    model = make_model(plain_map, tmp_path, optimizer="adam", optimizer_args=arguments, **REGULARISERS)
    plain, batches = copy.deepcopy(model), batches_of(plain_map, [16] * 4)
    train_plainly(plain, batches, torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.1))
    step_through(model, batches)
    assert_equal_weights(model, plain)


def warm_up_then(optimizer, steps, schedule):
    """Return PyTorch's own schedule: a linear warm-up of ``steps``, then another schedule."""
    warm_up = LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
    return SequentialLR(optimizer, [warm_up, schedule], milestones=[steps])


SCHEDULES = {
    "cosine": lambda o: warm_up_then(o, 4, CosineAnnealingLR(o, T_max=8, eta_min=0.001)),
    "linear": lambda o: warm_up_then(o, 4, LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=8)),
    "step": lambda o: warm_up_then(o, 4, StepLR(o, step_size=3, gamma=0.5)),
}
SPECS = {
    "cosine": {"end_factor": 0.1},
    "linear": {"end_factor": 0.1},
    "step": {"step_size": 3, "gamma": 0.5},
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # in SequentialLR of PyTorch itself
@pytest.mark.parametrize("updates", ["dense", "lazy"])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_are_pytorchs(plain_map, tmp_path, name, updates):
    spec = {"name": name, "warmup_steps": 4, **SPECS[name]}
    model = make_model(plain_map, tmp_path, learning_rate=0.01, lr_schedule=spec, embedding_updates=updates)
    plain, batches, rates, expected = copy.deepcopy(model), batches_of(plain_map, [16] * 6), Rates(), Rates()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    optimizer.register_step_pre_hook(expected)
    train_plainly(plain, batches * 2, optimizer, SCHEDULES[name](optimizer), regulariser=0, net=0)
    model.optimizer.register_step_pre_hook(rates)
    step_through(model, batches, epochs=2)
    assert len(rates) == 12 and rates[0] == pytest.approx(0.0025) and rates[3] == rates[4] == pytest.approx(0.01)
    assert rates == pytest.approx(expected, rel=1e-9)
    if updates == "dense":
        assert_equal_weights(model, plain, 1e-10)


def test_a_schedule_ends_at_its_factor_and_starts_anew(plain_map, tmp_path):
    spec = {"name": "cosine", "total_steps": 3, "end_factor": 0.2}
    model = make_model(plain_map, tmp_path, learning_rate=0.01, lr_schedule=spec)
    for _ in range(2):
        rates = Rates()
        handle = model.optimizer.register_step_pre_hook(rates)
        step_through(model, batches_of(plain_map, [8] * 5))
        handle.remove()
        assert rates[0] == 0.01 and rates[3:] == pytest.approx([0.002, 0.002])


def test_reduction_on_plateau_lowers_the_base_of_a_schedule(plain_map, tmp_path):
    model = make_model(plain_map, tmp_path, learning_rate=0.01, lr_schedule={"name": "linear"})
    model.start_schedule(1, 4)
    model.optimizer.step()
    model.schedule.step()
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.0075)
    assert model.lr_decay() == pytest.approx(0.00075)
    model.schedule.step()
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.0005)


def test_a_schedule_continues_from_its_state(plain_map, tmp_path):
    spec, rates = {"name": "cosine", "warmup_steps": 2}, []
    models = [make_model(plain_map, tmp_path, learning_rate=0.01, lr_schedule=spec) for _ in range(2)]
    for model in models:
        model.start_schedule(1, 8)
        model.optimizer.step()
    for _ in range(5):
        models[0].schedule.step()
    models[1].schedule.load_state_dict(models[0].schedule.state_dict())
    for model in models:
        model.schedule.step()
        rates.append(model.optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1]


class CountingRecorder(CallRecorder):
    replays = 0

    def record(self, function):
        def replay():
            self.replays += 1
            return function()

        return replay


def test_recorded_steps_follow_a_schedule(plain_map, tmp_path):
    spec = {"name": "cosine", "warmup_steps": 3}
    eager, recorded = (make_model(plain_map, tmp_path, DNN_ME, lr_schedule=spec, **REGULARISERS) for _ in range(2))
    recorded.recorder = CountingRecorder()
    for model in (eager, recorded):
        model._step = Step(model, on_cpu=False)
        step_through(model, batches_of(plain_map, [16] * 12))
    assert recorded.recorder.replays == 12 - WARM_UP
    assert_equal_weights(recorded, eager)


@pytest.mark.parametrize(
    "settings",
    [
        {**REGULARISERS},
        {"optimizer": "AdamW", "optimizer_args": {"weight_decay": 0.1}, **REGULARISERS},
        {"optimizer": "SGD", "embedding_regularizer": "l1_l2(0.001,0.01)"},
        {"embedding_updates": "lazy"},
        {"embedding_updates": "catch_up"},
        {"fused_embedding": False, **REGULARISERS},
    ],
    ids=str,
)
def test_accumulated_steps_equal_the_large_batch(plain_map, tmp_path, settings):
    """The last group of an epoch has two batches, the last of which is smaller."""
    settings = {"learning_rate": 0.01, **settings}
    large = make_model(plain_map, tmp_path, **settings)
    accumulating = make_model(plain_map, tmp_path, accumulate_steps=3, **settings)
    batches = batches_of(plain_map, [8, 8, 8, 8, 5])
    groups = [
        {key: torch.cat([batch[key] for batch in group]) for key in group[0]} for group in (batches[:3], batches[3:])
    ]
    step_through(large, groups, epochs=3)
    step_through(accumulating, batches, epochs=3)
    assert_equal_weights(accumulating, large)


def test_catch_up_accumulates_after_its_dense_steps(plain_map, tmp_path, monkeypatch):
    monkeypatch.setattr("fuxictr_me.training.catch_up.FIRST_STEPS", 1)
    test_accumulated_steps_equal_the_large_batch(plain_map, tmp_path, {"embedding_updates": "catch_up"})


def test_fit_with_accumulated_steps_counts_batches_and_logs_the_loss(plain_map, tmp_path, caplog):
    spec = {"name": "linear"}
    model = make_model(plain_map, tmp_path, accumulate_steps=2, lr_schedule=spec, learning_rate=1e-9, **REGULARISERS)
    batches, rates = batches_of(plain_map, [16] * 5), Rates()
    with torch.no_grad():
        model.train()
        losses = [model.compute_loss(model.forward(batch), model.get_labels(batch)).item() for batch in batches]
    model.optimizer.register_step_pre_hook(rates)
    with caplog.at_level(logging.INFO):
        model.fit(batches, epochs=2, validation_data=batches)
    assert model._total_steps == 10 and len(rates) == 6
    assert rates == pytest.approx([1e-9 * (1 - i / 6) for i in range(6)])
    assert f"Train loss: {sum(losses) / 5:.6f}" in caplog.messages


def test_a_group_that_was_cut_off_does_not_reach_the_next_training(plain_map, tmp_path):
    cut_off, other = (make_model(plain_map, tmp_path, accumulate_steps=2, learning_rate=0.01) for _ in range(2))
    batches = batches_of(plain_map, [8] * 4)
    for model in (cut_off, other):
        model.train()
        model._max_gradient_norm, model._steps_per_epoch, model._batch_index = MAX_NORM, 4, 0
    cut_off.train_step(make_batch(plain_map, seed=99))
    for model in (cut_off, other):
        step_through(model, batches)
    assert_equal_weights(cut_off, other)


WRONG = [
    (
        {"optimizer_args": {"beta": 1}},
        "unknown argument of optimizer Adam in optimizer_args 'beta'; did you mean 'betas'?",
    ),
    ({"optimizer_args": {"lr": 1}}, "the learning rate is set by learning_rate"),
    ({"optimizer_args": {"eps": "1e-8"}}, "YAML reads 1e-3 as text"),
    ({"optimizer_args": {"betas": [0.9, 1.5]}}, "not possible with Adam: Invalid beta parameter"),
    ({"optimizer_args": ["betas"]}, "optimizer_args must be like"),
    ({"optimizer_args": {"fused": True}}, "argument of optimizer Adam"),
    ({"optimizer_args": {"weight_decay": 0.1}, "weight_decay": 0.1}, "weight_decay is set twice"),
    ({"optimizer_args": {"weight_decay": 0.1}, "embedding_updates": "lazy"}, "weight_decay gives every row a gradient"),
    ({"optimizer_args": {"amsgrad": True}, "embedding_updates": "catch_up"}, "adam without amsgrad"),
    ({"optimizer": "sgd", "embedding_updates": "catch_up"}, "the optimizer must be adam, got SGD"),
    ({"optimizer": "lbfgs"}, "cannot train these models"),
    ({"optimizer": "adamm"}, "did you mean"),
    ({"lr_schedule": "cosine"}, "lr_schedule must be like"),
    ({"lr_schedule": {"name": "cos"}}, "did you mean 'cosine'"),
    ({"lr_schedule": {"name": "cosine", "gamma": 0.1}}, "unknown key of lr_schedule cosine 'gamma'"),
    ({"lr_schedule": {"name": "step"}}, "needs step_size"),
    ({"lr_schedule": {"name": "cosine", "warmup_steps": 5, "total_steps": 5}}, "must be more than its warmup_steps 5"),
    ({"lr_schedule": {"name": "cosine"}, "embedding_updates": "catch_up"}, "catch_up does not fit lr_schedule cosine"),
    ({"accumulate_steps": 0}, "accumulate_steps must be an integer of 1 or more"),
]


@pytest.mark.parametrize("settings, error", WRONG, ids=str)
def test_settings_that_cannot_work_are_refused(plain_map, tmp_path, settings, error):
    with pytest.raises(UsageError) as caught:
        make_model(plain_map, tmp_path, **settings)
    assert error in str(caught.value) and "\n" not in str(caught.value)


def test_a_warm_up_longer_than_training_is_refused(plain_map, tmp_path):
    model = make_model(plain_map, tmp_path, lr_schedule={"name": "constant", "warmup_steps": 5})
    batches = batches_of(plain_map, [8] * 5)
    with pytest.raises(UsageError, match="warmup_steps is 5, but there are only 5 optimizer steps"):
        model.fit(batches, epochs=1, validation_data=batches)


NEEDED = {"metrics": ["AUC"], "model_root": "unused", "verbose": 0}  # by FuxiCTR's base class


class Foreign(BaseModel):
    """A model of another package."""


class Accumulating(BaseModel):
    """A model of another package that takes the setting itself."""

    def __init__(self, feature_map, accumulate_steps=1, **kwargs):
        super().__init__(feature_map, **kwargs)


class OwnLoss(DNN_ME):
    def compute_loss(self, return_dict, y_true):
        return super().compute_loss(return_dict, y_true)


def test_a_loss_of_ones_own_cannot_accumulate(plain_map, tmp_path):
    model = make_model(plain_map, tmp_path, OwnLoss, accumulate_steps=2)
    batches = batches_of(plain_map, [8] * 2)
    with pytest.raises(UsageError, match="accumulate_steps needs FuxiCTR's loss"):
        model.fit(batches, epochs=1, validation_data=batches)


@pytest.mark.parametrize(
    "settings, error",
    [
        (
            {"lr_schedule": {"name": "linear"}},
            "lr_schedule is an option of fuxictr-me's models, and Foreign is not one",
        ),
        ({"accumulate_steps": 2}, "accumulate_steps is an option of fuxictr-me's models"),
        ({"optimizer_args": {"eps": 1e-4}}, "optimizer_args is an option of fuxictr-me's models"),
        ({"optimizer": "adamw"}, "must be written as in torch.optim: AdamW"),
    ],
    ids=str,
)
def test_models_of_fuxictr_refuse_what_their_code_ignores(settings, error):
    for check in (check_model_settings, check_not_for_fuxictr):
        with pytest.raises(UsageError, match=re.escape(error)):
            check(Foreign, {**NEEDED, **settings})


def test_models_of_fuxictr_accept_defaults_and_their_own_arguments():
    check_model_settings(Foreign, {**NEEDED, "accumulate_steps": 1, "lr_schedule": None, "optimizer": "AdamW"})
    check_not_for_fuxictr(Accumulating, {"accumulate_steps": 4, "optimizer": "Adam"})


def test_checks_accept_what_is_right():
    check_lr_schedule("lr_schedule", {"name": "step", "step_size": 5})
    check_optimizer_args("nadam", {"momentum_decay": 0.01})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = build_schedule(optimizer, {"name": "constant"}, 5)
    assert schedule.get_last_lr() == [2.0]
