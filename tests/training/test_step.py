"""The fast step against FuxiCTR's own train_step on FuxiCTR's layers: losses and weights, step after step."""

import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY
from helpers.families import build as build_one
from helpers.feature_maps import categorical, make_feature_map, sequence, write_pretrained
from helpers.plain_models import PAIRS, SETTINGS
from helpers.step_pairs import difference, rare_batches, two_models

from fuxictr_me import DCNv2_ME, UsageError
from fuxictr_me.training import catch_up
from fuxictr_me.training.catch_up import FIRST_STEPS, MissedSteps
from fuxictr_me.training.step import Step
from fuxictr_me.training.table_updates import DenseRows


@pytest.fixture
def kinds(tmp_path):
    """Fields that go into the fused table, and others: own dimension, numeric, sequence, shared, pretrained."""
    write_pretrained(tmp_path, 9, 6)
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 6, "oov_idx": 8, "pretrain_usage": "init"}
    features = {
        "user": categorical(40),
        "item": categorical(7),
        "place": categorical(5, embedding_dim=6),
        "price": {"source": "", "type": "numeric"},
        "clicks": sequence(7, 3, share_embedding="item"),
        "tags": sequence(9, 2),
        "pre": categorical(9, freeze_emb=False, **pretrained),
        "hour": categorical(25),
    }
    return make_feature_map(features, tmp_path, embedding_dim=4)


PENALTIES = {"embedding_regularizer": 0.01, "net_regularizer": 0.001}
# without batch norm: before one, biases have no gradient but rounding, and L1 would take its sign
L1_TOO = {"embedding_regularizer": "l1_l2(0.001,0.01)", "net_regularizer": "l1(0.001)", "batch_norm": False}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, settings, max_norm",
    [
        ("DCNv2", PENALTIES, 10.0),  # biases before batch norm, moved by rounding at first, take 200 steps to agree
        ("DCNv2", {"embedding_regularizer": 0.01}, 0.05),  # clipped in every step
        ("DCNv2", {}, 0.05),
        ("DNN", L1_TOO, 0.05),
    ],
)
def test_200_steps_give_fuxictrs_losses(float64, kinds, family, settings, max_norm):
    give_fuxictrs_losses(200, kinds, family, settings, max_norm)


@pytest.mark.parametrize(
    "family, settings, max_norm",
    [
        ("DCNv2", {**PENALTIES, "batch_norm": False}, 10.0),
        ("DNN", L1_TOO, 0.05),
        ("FinalMLP", {"embedding_regularizer": "l1(0.001)"}, 10.0),
        ("DNN", {"optimizer": "RMSprop", "embedding_regularizer": 0.01}, 0.05),
        ("DNN", {"optimizer": "SGD"}, 0.05),
    ],
)
def test_30_steps_give_fuxictrs_losses(float64, kinds, family, settings, max_norm):
    give_fuxictrs_losses(30, kinds, family, settings, max_norm)


def give_fuxictrs_losses(steps, kinds, family, settings, max_norm):
    ours, plain = two_models(family, kinds, **settings)
    assert ours.embedding_layer.table.fields == ["user", "hour"]
    ours._max_gradient_norm = plain._max_gradient_norm = max_norm
    for step in range(steps):
        batch = make_batch(kinds, rows=16, seed=step)
        batch["user"][:3] = 0  # padding ids
        mine, theirs = (model.train_step(batch).item() for model in (ours, plain))
        assert mine == pytest.approx(theirs, abs=1e-9), step
    assert difference(ours, plain) < 1e-6


@pytest.mark.parametrize("regularizer", [None, 0.01, "l1_l2(0.001,0.01)"])
def test_the_code_paths_of_a_gpu_give_fuxictrs_losses(float64, kinds, regularizer):
    """These are the gradient of the whole table, and clipping without a comparison on the host."""
    ours, plain = two_models("DNN", kinds, embedding_regularizer=regularizer, batch_norm=False)
    ours._step = Step(ours, on_cpu=False)
    assert [type(rows) for rows in ours._step.rows] == [DenseRows]
    for model in (ours, plain):
        model._max_gradient_norm = 0.05
    for step in range(30):
        batch = make_batch(kinds, rows=16, seed=step)
        mine, theirs = (model.train_step(batch).item() for model in (ours, plain))
        assert mine == pytest.approx(theirs, abs=1e-9), step
    assert difference(ours, plain) < 1e-6


def test_float32_losses_drift_no_further_than_rounding_in_the_plain_model(kinds, fixed_dropout):
    """The distance from plain float32 is at most five times that of plain float32 from float64."""
    ours, plain = two_models("DCNv2", kinds, dtype=torch.float32, embedding_regularizer=0.01)
    exact = PAIRS["DCNv2"][1](kinds, num_sets=3, **SETTINGS, **PAIRS["DCNv2"][2], embedding_regularizer=0.01)
    exact.load_state_dict(plain.state_dict())
    exact.double().train()
    exact._max_gradient_norm = 10.0
    apart, rounding = [], []
    for step in range(40):
        batch = make_batch(kinds, rows=16, seed=step)
        mine, theirs = (model.train_step(batch).item() for model in (ours, plain))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            reference = exact.train_step(batch).item()
        apart.append(abs(mine - theirs)), rounding.append(abs(theirs - reference))
    assert apart[0] < 1e-6
    assert max(apart) < 5 * max(rounding) + 1e-6


# --- updates by rows -------------------------------------------------------------------------------


@pytest.fixture
def rare_map():
    return make_feature_map({"user": categorical(300), "item": categorical(50)})


def test_catch_up_equals_dense_adam(float64, rare_map, monkeypatch):
    monkeypatch.setattr(catch_up, "CHUNK_ROWS_ON_CPU", 128)  # the 350 rows are settled in three chunks
    ours, plain = two_models("DNN", rare_map, 2, embedding_updates="catch_up", batch_norm=False, net_dropout=0)
    plain._max_gradient_norm = ours._max_gradient_norm = 0.05
    for step, batch in rare_batches(rare_map, 620):
        if step == 400:  # as after an evaluation without progress
            for model in (ours, plain):
                model.lr_decay(0.3)
        mine, theirs = (model.train_step(batch).item() for model in (ours, plain))
        assert mine == pytest.approx(theirs, abs=1e-9), step
        if step in (100, 450):  # evaluations and checkpoints settle every row
            assert difference(ours, plain) < 1e-9
    rows = ours.embedding_layer.table.updates
    assert rows.missed is not None and int((rows.last < rows.steps).sum()) > 100  # many rows are behind
    assert torch.allclose(*(model.eval()(batch)["y_pred"] for model in (ours, plain)), rtol=0, atol=1e-9)
    assert difference(ours, plain) < 1e-9
    assert int((rows.last < rows.steps).sum()) == 0


def test_postponed_updates_do_not_change_a_loaded_checkpoint(rare_map):
    ours, _ = two_models("DNN", rare_map, dtype=torch.float32, embedding_updates="catch_up")
    saved = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    for _, batch in rare_batches(rare_map, FIRST_STEPS + 20):
        ours.train_step(batch)
    ours.load_state_dict(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in ours.state_dict().items())


def test_postponed_updates_are_completed_before_another_optimizer_continues(float64, rare_map):
    ours, plain = two_models("DNN", rare_map, embedding_updates="catch_up", batch_norm=False, net_dropout=0)
    for step, batch in rare_batches(rare_map, FIRST_STEPS + 40):
        if step == FIRST_STEPS + 30:
            for model in (ours, plain):
                model.compile("adam", "binary_crossentropy", 1e-3)
        for model in (ours, plain):
            model.train_step(batch)
    assert difference(ours, plain) < 1e-8


LONG = [pytest.param(done, 200, marks=pytest.mark.slow) for done in (1500, 5000)]


@pytest.mark.parametrize("done, first", [(201, 200), (260, 200), (700, 200), *LONG])
def test_sums_over_missed_steps_equal_the_steps_one_by_one(done, first):
    missed = MissedSteps((0.9, 0.999), first, torch.device("cpu"))
    for step in range(first, done + 1):
        missed.go_to(torch.tensor(float(step)))
    for last in {first, first + 1, (first + done) // 2, done - 1, done}:
        B, *sums, decay1, decay2 = missed.coefficients(torch.tensor([last], dtype=torch.int32))[0].tolist()
        assert (decay1, decay2) == pytest.approx((0.9 ** (done - last), 0.999 ** (done - last)), rel=1e-12)
        for root_v, eps in ((1e-3, 1e-8), (1e-8, 1e-8), (1e-11, 1e-8), (0.0, 1e-8)):
            exact = sum(
                0.9**j / (1 - 0.9 ** (last + j)) / (root_v * 0.999 ** (j / 2) / (1 - 0.999 ** (last + j)) ** 0.5 + eps)
                for j in range(1, min(done - last, 2000) + 1)
            )
            y = root_v * B / (root_v * B + eps)
            series = sum((-y) ** n * moment for n, moment in enumerate(sums)) / (root_v * B + eps)
            assert series == pytest.approx(exact, rel=2e-10, abs=1e-300)


def test_lazy_equals_pytorchs_sparse_adam(rare_map):
    """Against FuxiCTR's layers with sparse gradients and two optimizers of PyTorch."""
    ours, plain = two_models(
        "DNN", rare_map, embedding_updates="lazy", dtype=torch.float32, batch_norm=False, net_dropout=0
    )
    ours._max_gradient_norm = 1e9
    tables = [m.weight for m in plain.modules() if isinstance(m, torch.nn.Embedding)]
    for module in plain.modules():
        if isinstance(module, torch.nn.Embedding):
            module.sparse = True
    others = [p for p in plain.parameters() if all(p is not table for table in tables)]
    optimizers = [torch.optim.SparseAdam(tables, lr=1e-3), torch.optim.Adam(others, lr=1e-3)]
    for step in range(60):
        batch = make_batch(rare_map, rows=6, seed=step)
        loss = plain.compute_loss(plain(batch), plain.get_labels(batch))
        plain.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        assert ours.train_step(batch).item() == pytest.approx(loss.item(), abs=1e-5), step
    assert difference(ours, plain) < 1e-4


def test_lazy_differs_from_dense(rare_map):
    ours, plain = two_models("DNN", rare_map, embedding_updates="lazy", dtype=torch.float32)
    for _, batch in rare_batches(rare_map, 40):
        for model in (ours, plain):
            model.train_step(batch)
    assert difference(ours, plain) > 1e-3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"embedding_updates": "catchup"}, "did you mean 'catch_up'"),
        ({"embedding_updates": "catch_up", "embedding_regularizer": 1e-5}, "embedding_regularizer gives every row"),
        ({"embedding_updates": "lazy", "optimizer": "SGD"}, "the optimizer must be adam, got SGD"),
        ({"embedding_updates": "catch_up", "weight_decay": 1e-5}, "weight_decay gives every row"),
        ({"embedding_updates": "lazy", "fused_embedding": False}, "there is no fused table"),
    ],
)
def test_unsupported_updates_by_rows_are_refused_at_once(rare_map, settings, message):
    with pytest.raises(UsageError, match=message):
        DCNv2_ME(rare_map, num_sets=2, **{**SETTINGS, **settings})


def test_a_custom_loss_is_differentiated_as_a_whole(rare_map):
    class Doubled(DCNv2_ME):
        def compute_loss(self, return_dict, y_true):
            return 2 * super().compute_loss(return_dict, y_true)

    class Penalised(DCNv2_ME):
        def regularization_loss(self):
            return super().regularization_loss() + 7

    classes = (DCNv2_ME, Doubled, Penalised)
    models = [cls(rare_map, num_sets=2, **SETTINGS, embedding_regularizer=0.1) for cls in classes]
    for model in models:
        model.load_state_dict(models[0].state_dict())
        model.train()
        model._max_gradient_norm = 10.0
    batch = make_batch(rare_map)
    single, doubled, penalised = (model.train_step(batch).item() for model in models)
    assert doubled == pytest.approx(2 * single, rel=1e-6)
    assert penalised == pytest.approx(single + 7, rel=1e-6)


@EVERY_FAMILY
@pytest.mark.parametrize("regularizer", [None, 0.1, "l1(0.1)"])
def test_a_step_never_waits_for_the_device(plain_map, model_class, regularizer, monkeypatch):
    """On tensors without data, whatever waits for a value raises."""
    monkeypatch.setattr(model_class, "model_to_device", lambda self: None)
    with torch.device("meta"):
        model = build_one(model_class, plain_map, embedding_regularizer=regularizer, net_regularizer=regularizer)
    model.device = torch.device("meta")
    model.train()
    model._max_gradient_norm = 10.0
    batch = {field: x.to("meta") for field, x in make_batch(plain_map).items()}
    for _ in range(2):
        assert model.train_step(batch).device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        model.train_step(batch).item()
