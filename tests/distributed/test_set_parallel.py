"""Sets on several processes against one process: losses, weights, metrics, files, and what a step sends."""

import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.families import EVERY_FAMILY, build, weights_of_set
from helpers.rank_worker import (
    PLAIN,
    REGULARISED,
    RUN,
    STEPS,
    assert_close,
    assert_same_abundance,
    begin,
    feature_map,
    fit,
    join_ranks,
    make,
    run,
    settings_of,
    slice_rank,
    train,
)

from fuxictr_me import DNN_ME, DCNv2_ME, Mixed_ME, UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.distributed import distribute
from fuxictr_me.distributed.weights_by_set import select_shared, slice_set

SLOW = pytest.mark.slow
INSIDE = pytest.mark.usefixtures("own_folder")


# --- steps -----------------------------------------------------------------------------------------


@INSIDE
@pytest.mark.parametrize(
    "name, size, settings, max_norm",
    [
        ("DCNv2_ME", 2, {"num_sets": 4, **REGULARISED}, 0.05),  # clipped in every step
        ("DCNv2_ME", 2, {"num_sets": 3, **PLAIN, "net_regularizer": "l1_l2(0.001,0.01)"}, 0.05),
        pytest.param("DCNv2_ME", 2, {"num_sets": 3, "embedding_regularizer": 0.01}, 0.05, marks=SLOW),
        ("FinalMLP_ME", 2, {"num_sets": 4, **REGULARISED}, 0.05),
        ("FinalMLP_ME", 2, {"num_sets": 3, "use_fs": True, "fs1_context": ["item"], **REGULARISED}, 0.05),
        ("DNN_ME", 2, {"num_sets": 4, "aggregation": "sum", "embedding_updates": "catch_up"}, 0.05),
        ("DNN_ME", 3, {"num_sets": 3, "fused_embedding": False, **REGULARISED}, 0.05),
        pytest.param("NFwFM_ME", 2, {"num_sets": 3}, 0.05, marks=SLOW),
        pytest.param("xDeepFM_ME", 2, {"num_sets": 3, "use_linear_term": True, **REGULARISED}, 0.05, marks=SLOW),
        pytest.param(
            "PNN_ME",
            2,
            {"num_sets": 3, "concat_embeddings": None, "nonlinear_projection": False, **PLAIN},
            10.0,
            marks=SLOW,
        ),
        pytest.param(
            "Mixed_ME",
            2,
            {"interactions": ["DCNv2"] * 3, "hidden_units": [6, 5], **PLAIN, **REGULARISED},
            10.0,
            marks=SLOW,
        ),
    ],
)
def test_ranks_train_what_one_process_trains(double, tmp_path, name, size, settings, max_norm):
    model = make(name, settings)
    torch.save(model.state_dict(), tmp_path / "start.pt")
    expected = train(model, max_norm)
    ranks = run(size, tmp_path, "train_task", name=name, settings=settings, weights="start.pt", max_norm=max_norm)
    for rank in ranks:
        assert rank["losses"] == pytest.approx(expected["losses"], abs=1e-9)
        assert rank["metrics"] == pytest.approx(expected["metrics"], abs=1e-9)
        assert rank["metrics"] == ranks[0]["metrics"]
    assert_close(join_ranks([(rank["own_sets"], rank["weights"]) for rank in ranks]), expected["weights"])
    assert expected["losses"][0] != pytest.approx(expected["losses"][-1], abs=1e-3)


@INSIDE
def test_a_step_sends_h_and_two_numbers_and_a_rank_holds_its_own_sets(double, tmp_path):
    name, settings = "FinalMLP_ME", {"num_sets": 4, "dropout": 0}
    model = make(name, settings)
    torch.save(model.state_dict(), tmp_path / "start.pt")
    ranks = run(2, tmp_path, "train_task", name=name, settings=settings, weights="start.pt", max_norm=1.0)
    width, rows = 5 + 3, [16] * (STEPS - 1) + [9]  # of the two streams
    expected = [size for B in rows for size in (B * width * 8, 2 * 8)]
    head = sum(p.numel() for p in model.head.parameters())
    whole = sum(p.numel() for p in model.parameters())
    assert whole - head > 4 * 4 * (40 + 7 + 5 + 9)
    for rank in ranks:
        assert rank["moved"][: len(expected)] == expected
        assert rank["parameters"] == [head + (whole - head) // 2, whole]


# --- weights ---------------------------------------------------------------------------------------


@EVERY_FAMILY
@pytest.mark.parametrize("shares", [[[0, 2], [1, 3]], [[0, 3], [1], [2]], [[0, 1, 2, 3]]])
def test_weights_are_sliced_by_sets_and_joined_again(plain_map, model_class, shares):
    settings = {"hidden_activations": "PReLU"} if model_class is DNN_ME else {}
    model = build(model_class, plain_map, num_sets=4, **settings)
    whole = model.state_dict()
    parts = [(own, slice_rank(whole, own, 4)) for own in shares]
    for own, part in parts:
        for at, m in enumerate(own):
            of_one = build(model_class, plain_map, num_sets=1, **settings)
            expected = weights_of_set(model, m, of_one.state_dict())
            mine = slice_set(part, at, len(own))
            assert len(mine) > 3 and all(torch.equal(mine[name], expected[name]) for name in mine)
    again = join_ranks(parts)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@INSIDE
def test_initial_weights_depend_only_on_the_seed_and_the_set(tmp_path):
    settings = {"num_sets": 3, "seed": 7, "aggregation": "sum"}
    asked = {1: (1, "set-parallel"), 2: (2, "set-parallel"), 3: (2, "sharded")}
    runs = {}
    for key, (size, engine) in asked.items():
        own = {**settings, "model_id": f"of{key}"}
        folder = tmp_path / str(key)
        runs[key] = run(size, folder, "start_task", name="DCNv2_ME", settings=own, engine=engine)
    wholes = {key: torch.load(f"runs/made/of{key}.model", weights_only=True) for key in runs}
    for key, ranks in runs.items():
        assert_close(wholes[key], wholes[1], 1e-12)
        assert len({rank["drawn"] for rank in ranks}) == 1
        for rank in ranks:
            assert_close(select_shared(rank["weights"]), select_shared(wholes[1]), 1e-12)
    assert_close(wholes[2], join_ranks([(rank["own_sets"], rank["weights"]) for rank in runs[2]]), 1e-12)
    weight = wholes[1]["interaction.0.crossnet.cross_layers.0.weight"]
    assert not torch.allclose(weight[0], weight[1]) and not torch.allclose(weight[1], weight[2])
    make("DCNv2_ME", settings).load_weights("runs/made/of2.model")  # one process takes it as its own


@INSIDE
def test_a_first_set_checkpoint_initialises_set_0(tmp_path):
    trained = make("DNN_ME", {"num_sets": 1})
    trained.save_weights("trained.model")
    settings = {"num_sets": 3, "first_set_checkpoint": "trained.model"}
    first, second = run(2, tmp_path, "start_task", name="DNN_ME", settings=settings)
    key = "embedding_layer.sets.{}.embedding_layer.embedding_layers.user.weight"
    expected = trained.state_dict()[key.format(0)]
    assert torch.equal(first["weights"][key.format(0)], expected)
    assert not torch.allclose(first["weights"][key.format(1)], expected)
    assert not torch.allclose(second["weights"][key.format(0)], expected)


@INSIDE
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_sets": 2}, "it is of 3 sets, num_sets is 2"),
        ({"num_sets": 3, "hidden_units": [6, 4]}, "head.join.fc.weight is (1, 1, 5), in the model (1, 1, 4)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_on_all_ranks(double, tmp_path, settings, message):
    make("DNN_ME", {"num_sets": 3}).save_weights("three.model")
    for rank in run(2, tmp_path, "load_task", checkpoint="three.model", settings=settings):
        assert rank["error"] == f"UsageError: three.model does not fit this model: {message}"


# --- runs ------------------------------------------------------------------------------------------


@INSIDE
@pytest.mark.parametrize("num_sets", [pytest.param(4, marks=SLOW), 3])
def test_a_run_writes_what_one_process_writes(double, tmp_path, num_sets):
    settings = {**RUN, "num_sets": num_sets, "eval_steps": 4, "callbacks": ["InformationAbundance"]}
    model = make("DCNv2_ME", {**settings, "model_id": "one"})
    model.save_weights("start.model")
    torch.manual_seed(5)
    expected = fit(model, epochs=3)
    several = {"name": "DCNv2_ME", "settings": {**settings, "model_id": "two"}, "checkpoint": "start.model"}
    for rank in run(2, tmp_path, "fit_task", epochs=3, **several):
        assert rank["losses"] == pytest.approx(expected["losses"], abs=1e-9)
        assert rank["metrics"] == pytest.approx(expected["metrics"], abs=1e-9)
    assert_close(
        torch.load("runs/made/two.model", weights_only=True), torch.load("runs/made/one.model", weights_only=True)
    )
    assert assert_same_abundance("one", "two") == 4 * (num_sets + 1) * 5  # tables, sets and all, evaluations and best


@INSIDE
@pytest.mark.parametrize(
    "num_ids, num_sets, ranks, groups", [(201, 3, 2, 2), (3, 4, 2, 2), (203, 3, 4, 2), (40, 2, 3, 1)]
)
def test_tables_on_several_ranks_have_the_singular_values_of_the_whole(tmp_path, num_ids, num_sets, ranks, groups):
    tables = [torch.randn(num_ids, 2) for _ in range(num_sets)]
    tables[1][0] = 100.0  # the padding row, which does not count
    expected = [table[1:].double().numpy() for table in tables]
    for rank in run(ranks, tmp_path, "abundance_task", tables=tables, exclude=(0,), groups=groups):
        assert rank["num_ids"] == num_ids - 1 and rank["dims"] == [2] * num_sets
        for block, table in zip(rank["blocks"], expected, strict=True):
            assert_same_values(block.numpy(), table)
        assert_same_values(torch.cat(rank["blocks"], dim=1).numpy(), np.concatenate(expected, axis=1))


def assert_same_values(factor, table):
    values, of_factor = (np.linalg.svd(matrix, compute_uv=False) for matrix in (table, factor))
    np.testing.assert_allclose(of_factor[: len(values)], values, rtol=1e-12, atol=1e-12)
    assert np.all(of_factor[len(values) :] < 1e-12)


@INSIDE
def test_a_run_stopped_on_two_ranks_continues_on_one_and_on_four(double, tmp_path):
    def on(size, epochs, folder):
        settings = {**RUN, "model_id": folder, "eval_steps": 4, "monitor": {"AUC": -1}, "early_stop_patience": 99}
        kwargs = {"name": "FinalMLP_ME", "settings": settings, "resume_from": folder}
        return run(size, tmp_path / f"of-{folder}", "fit_task", epochs=epochs, **kwargs)

    whole = on(2, 5, "whole")[0]
    first = on(2, 2, "first")[0]
    assert first["losses"] == whole["losses"][:12] and first["lr"] < RUN["learning_rate"]  # which has decayed
    for size in (1, 4):
        shutil.copytree("first", f"then{size}")
        shutil.copy("runs/made/first.model", f"runs/made/then{size}.model")
        for rank in on(size, 5, f"then{size}"):
            assert rank["losses"] == pytest.approx(whole["losses"][12:], abs=1e-9)
            assert rank["metrics"] == pytest.approx(whole["metrics"], abs=1e-9)
        assert [path.name for path in (tmp_path / f"then{size}").iterdir()] == ["epoch-5"]


@INSIDE
def test_a_killed_rank_ends_the_others_and_the_run_can_continue(double, tmp_path):
    settings = {"name": "DNN_ME", "settings": {**RUN, "model_id": "killed"}, "resume_from": "state"}
    whole = run(2, tmp_path / "whole", "fit_task", epochs=6, **{**settings, "resume_from": None})[0]
    processes = begin(2, tmp_path / "killed", "fit_task", epochs=6, pause=0.05, **settings)
    deadline = time.monotonic() + 60
    while not (tmp_path / "state/epoch-2/.metadata").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes[1].kill()
    killed = time.monotonic()
    processes[0].join(60)
    assert processes[0].exitcode == 0 and time.monotonic() - killed < 60
    error = torch.load(tmp_path / "killed/rank-0.pt", weights_only=True)["error"]
    assert error.startswith("RunError: another process of this run has ended") and "\n" not in error
    assert len(torch.load("runs/made/killed.model", weights_only=True)) > 10  # whole
    again = run(2, tmp_path / "again", "fit_task", epochs=6, **settings)[0]
    done = 6 - len(again["losses"]) // 6
    assert done >= 2
    assert again["losses"] == pytest.approx(whole["losses"][6 * done :], abs=1e-9)
    assert again["metrics"] == pytest.approx(whole["metrics"], abs=1e-9)


@INSIDE
@pytest.mark.parametrize(
    "what, engine", [("head", "set-parallel"), ("batches", "set-parallel"), ("batches", "sharded")]
)
def test_ranks_that_come_apart_stop(tmp_path, what, engine):
    for rank in run(2, tmp_path, "apart_task", what=what, engine=engine):
        assert rank["error"].startswith(f"RunError: the ranks have come apart: the {what}")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model_class, settings, message",
    [
        (DNN_ME, {"aggregation": "gated"}, "needs aggregation mean or sum, got 'gated'"),
        (DNN_ME, {"aggregation": "elementwise_gated"}, "needs aggregation mean or sum, got 'elementwise_gated'"),
        (DNN_ME, {"aggregation": "confidence", "mutual_learning_regularizer": 1.0}, "mean or sum, got 'confidence'"),
        (DNN_ME, {"num_sets": None, "embedding_dim": [4, 6]}, r"needs sets of one embedding_dim, got \[4, 6\]"),
        (DNN_ME, {"shared_interaction": True}, "needs shared_interaction: False"),
        (DNN_ME, {"compile": True}, "needs compile: False"),
        (DCNv2_ME, {"norm_alignment_regularizer": 0.1}, "needs norm_alignment_regularizer 0"),
        (DNN_ME, {"optimizer": "LBFGS"}, "every entry by itself, such as adam, got LBFGS"),
        pytest.param(
            DNN_ME,
            {"optimizer": "adafactor"},
            "every entry by itself, such as adam, got adafactor",
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Adafactor"), reason="PyTorch 2.4 has no Adafactor"),
        ),
        (DNN_ME, {"lr_schedule": {"name": "linear"}}, "needs lr_schedule null"),
        (DNN_ME, {"accumulate_steps": 2}, "needs accumulate_steps 1, got 2"),
        (DNN_ME, {"callbacks": [{"Log": {"to": "csv"}}]}, "only the callback InformationAbundance, got Log"),
        (DNN_ME, {"callbacks": ["fuxictr_me.Callback"]}, "only the callback InformationAbundance, got Callback"),
        (Mixed_ME, {"num_sets": None, "interactions": ["DNN", "PNN"]}, "needs one interaction for all sets"),
    ],
)
def test_unsupported_settings_are_refused_in_one_line(model_class, settings, message):
    ranks = SimpleNamespace(rank=0, size=2, is_first=True)
    base = settings_of("DNN_ME") if model_class is not DCNv2_ME else settings_of("DCNv2_ME")
    with pytest.raises(UsageError, match=message):
        distribute(model_class, ranks)(feature_map(), **{**base, "num_sets": 2, **settings})


def test_a_model_with_another_loss_is_refused():
    class Own(DNN_ME):
        def compute_loss(self, return_dict, y_true):
            return 2 * super().compute_loss(return_dict, y_true)

    ranks = SimpleNamespace(rank=0, size=2, is_first=True)
    with pytest.raises(UsageError, match="Own defines another one"):
        distribute(Own, ranks)
    with pytest.raises(UsageError, match="Module is not one"):
        distribute(torch.nn.Module, ranks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "set-parallel"], "started by torchrun --nproc-per-node N -m fuxictr_me ...: RANK is not set"),
        (["--set-groups", "2"], "--set-groups is for runs on several processes"),
    ],
)
def test_wrong_options_give_one_line(options, message, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert main(["run_expid", "--expid", "DNN_ME_test", *options]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
