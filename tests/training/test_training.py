"""The training loop and evaluation against FuxiCTR's; torch.compile and precisions."""

import logging

import numpy as np
import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import MODEL

from fuxictr_me import DNN_ME, DCNv2_ME, UsageError
from fuxictr_me.nn import padded_widths as widths
from fuxictr_me.training import build_optimizer
from fuxictr_me.training.precision import matmul_precision


def batches_of(feature_map, count=5, rows=16):
    return [make_batch(feature_map, rows=rows, seed=seed) for seed in range(count)]


def test_epochs_log_what_fuxictrs_loop_logs(plain_map, tmp_path, caplog):
    class Theirs(DNN_ME):
        train_epoch, evaluate = BaseModel.train_epoch, BaseModel.evaluate
        evaluate_metrics = BaseModel.evaluate_metrics

    settings = {"model_root": str(tmp_path), "embedding_regularizer": 0.01, "eval_steps": 2, "hidden_units": [6, 5]}
    weights, logs = build(DNN_ME, plain_map).state_dict(), []
    for cls in (DNN_ME, Theirs):
        model = build(cls, plain_map, **settings)
        model.load_state_dict(weights)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            model.fit(batches_of(plain_map), epochs=3, validation_data=batches_of(plain_map, 3, 40))
        logs.append([r.message for r in caplog.records if r.message.startswith(("Train loss", "[Metrics]", "Monitor"))])
    assert len(logs[0]) >= 6
    assert logs[0] == logs[1]


def test_predictions_equal_fuxictrs(plain_map):
    model, batches = build(DCNv2_ME, plain_map), batches_of(plain_map, 3)
    mine, theirs = model.predict(batches), BaseModel.predict(model, batches)
    assert mine.dtype == np.float64 and np.array_equal(mine, theirs)


def test_ids_past_the_table_are_named_after_an_epoch_on_a_gpu(plain_map):
    model = build(DNN_ME, plain_map)
    model.evaluate(batches_of(plain_map))
    model.embedding_layer.table.out_of_range[1] = True  # as a GPU leaves it, which is read once per epoch
    with pytest.raises(UsageError, match="past the table were read, in the fields item"):
        model.evaluate(batches_of(plain_map))
    model.evaluate(batches_of(plain_map))


# --- optimizers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "Adam", "AdamW", "SGD"])
def test_fused_optimizers_equal_the_plain_ones(name):
    parameters = [[torch.nn.Parameter(torch.arange(6.0, dtype=torch.float64) - 2)] for _ in range(2)]
    fused = build_optimizer(name, parameters[0], 0.1)
    plain = getattr(torch.optim, name.capitalize() if name == "adam" else name)(parameters[1], lr=0.1)
    assert type(fused) is type(plain) and fused.defaults["fused"] and not plain.defaults.get("fused")
    for step in range(5):
        for optimizer, (p,) in zip((fused, plain), parameters, strict=True):
            p.grad = torch.cos(p.detach() + step)
            optimizer.step()
    torch.testing.assert_close(*[p for (p,) in parameters], rtol=0, atol=1e-14)


def test_other_optimizers_come_from_fuxictr():
    optimizer = build_optimizer("RMSprop", [torch.nn.Parameter(torch.ones(2))], 0.1)
    assert type(optimizer) is torch.optim.RMSprop and optimizer.defaults["lr"] == 0.1
    with pytest.raises(NotImplementedError, match="Nonsense"):
        build_optimizer("Nonsense", [torch.nn.Parameter(torch.ones(2))], 0.1)


# --- compile and precision -------------------------------------------------------------------------


def test_if_compiling_fails_the_log_says_why_and_training_continues(plain_map, monkeypatch, caplog):
    def no_compiler(function, **_):
        def fail(*_):
            raise RuntimeError("no C++ compiler\nwas found")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    compiled, plain = (build(DNN_ME, plain_map, compile=choice) for choice in (True, False))
    compiled.load_state_dict(plain.state_dict())
    batch = make_batch(plain_map)
    with caplog.at_level(logging.WARNING):
        losses = [model.train_step(batch).item() for model in map(ready, (compiled, plain))]
        compiled.train_step(batch)
    assert losses[0] == losses[1]
    messages = [r.message for r in caplog.records if "compile" in r.message]
    assert messages == ["compile: True has no effect, torch.compile failed: RuntimeError: no C++ compiler was found"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler
@EVERY_FAMILY
def test_compiled_models_compute_the_same(plain_map, model_class):
    torch._dynamo.reset()
    compiled, plain = (build(model_class, plain_map, compile=choice) for choice in (True, False))
    compiled.load_state_dict(plain.state_dict())
    for rows in (32, 7):  # the last batch of an epoch is smaller
        batch = make_batch(plain_map, rows=rows)
        losses = [model.train_step(batch).item() for model in map(ready, (compiled, plain))]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    compiled.load_state_dict(plain.state_dict())
    predictions = [model.eval()(batch)["y_pred"] for model in (compiled, plain)]
    torch.testing.assert_close(*predictions, rtol=0, atol=1e-6)
    assert compiled._compiled_forward.works


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler
def test_compiled_gradients_are_right_without_a_fused_table(plain_map):
    """PyTorch 2.13 compiles a product of a slice of stacked tensors to a wrong gradient of the weight."""
    torch._dynamo.reset()
    options = {"fused_embedding": False, "batch_norm": False}
    models = [build(DCNv2_ME, plain_map, compile=choice, **options).train() for choice in (True, False)]
    models[0].load_state_dict(models[1].state_dict())
    batch = make_batch(plain_map)
    for model in models:
        model.add_loss(model(batch), model.get_labels(batch)).backward()
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_only_training_batches_of_the_first_size_are_compiled(plain_map, monkeypatch):
    """Another size or mode would need another compilation, which takes longer than it saves."""
    compiled = []

    def compile_nothing(function, **options):
        compiled.append(options)

        def call(e, X):
            compiled.append(e[0].shape[0])
            return function(e, X)

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    model, plain = (ready(build(DNN_ME, plain_map, compile=choice)) for choice in (True, False))
    model.load_state_dict(plain.state_dict())
    for rows in (16, 16, 7, 16):
        model.train_step(make_batch(plain_map, rows=rows))
        plain.train_step(make_batch(plain_map, rows=rows))
    assert np.array_equal(model.predict(batches_of(plain_map)), plain.predict(batches_of(plain_map)))
    options = {"unroll_reductions_threshold": 16, "triton.cudagraphs": False}
    assert compiled == [{"options": options, "dynamic": False}, 16, 16, 16]


def test_a_compiled_model_uses_an_overridden_embed(plain_map, monkeypatch):
    class Doubled(DNN_ME):
        def embed(self, X):
            return [2 * e for e in super().embed(X)]

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compiled, plain = (ready(build(Doubled, plain_map, compile=choice)) for choice in (True, False))
    compiled.load_state_dict(plain.state_dict())
    batch = make_batch(plain_map)
    assert compiled.train_step(batch).item() == plain.train_step(batch).item()


@EVERY_FAMILY
def test_bf16_is_near_float32_and_leaves_the_weights_in_float32(plain_map, model_class):
    rounded, plain = (build(model_class, plain_map, precision=choice) for choice in ("bf16", "float32"))
    rounded.load_state_dict(plain.state_dict())
    batch = make_batch(plain_map)
    losses = [model.train_step(batch).item() for model in map(ready, (rounded, plain))]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    assert all(tensor.dtype == torch.float32 for tensor in rounded.state_dict().values() if tensor.is_floating_point())


def test_tf32_applies_to_the_step_only(plain_map):
    before = torch.get_float32_matmul_precision()
    with matmul_precision("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    model = ready(build(DNN_ME, plain_map, precision="tf32"))
    seen = []
    model.head.register_forward_hook(
        lambda *_: seen.append((torch.get_float32_matmul_precision(), widths.HAS_TENSOR_CORES))
    )
    model.train_step(make_batch(plain_map))
    model.predict([make_batch(plain_map)])
    assert seen == [("high", True)] * 2 and torch.get_float32_matmul_precision() == before
    assert not widths.HAS_TENSOR_CORES


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"precision": "bf61"}, "unknown precision 'bf61'; did you mean 'bf16'"),
        ({"compile": "yes"}, "compile must be True or False, got 'yes'"),
        ({"fused_embedding": 1}, "fused_embedding must be True or False, got 1"),
    ],
)
def test_wrong_choices_are_named(plain_map, setting, message):
    with pytest.raises(UsageError, match=message):
        DCNv2_ME(plain_map, num_sets=2, model_root="unused", **MODEL, **setting)


def ready(model):
    model._max_gradient_norm = 10.0
    return model.train()
