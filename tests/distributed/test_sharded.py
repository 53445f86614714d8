"""Rows on several processes against one process: losses, weights, metrics, files, and what a step sends."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.forked_processes import Forked
from helpers.rank_worker import (
    PLAIN,
    REGULARISED,
    RUN,
    STEPS,
    assert_close,
    assert_same_abundance,
    begin,
    fit,
    free_port,
    make,
    optimizers_task,
    run,
    train,
)

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.distributed.engines import make_engine
from fuxictr_me.distributed.sharded_table import Shard
from fuxictr_me.estimates.collectives import ALL_REDUCE, ALL_TO_ALL, list_collectives

SLOW = pytest.mark.slow
INSIDE = pytest.mark.usefixtures("own_folder")
ENGINES = {"sharded": (2, None), "ddp": (2, None), "set-parallel": (4, 2)}  # engine -> processes, groups of sets


@INSIDE
@pytest.mark.parametrize(
    "engine, name, settings",
    [
        ("sharded", "DCNv2_ME", {"num_sets": 4, **REGULARISED}),
        ("sharded", "DCNv2_ME", {"num_sets": 3, **PLAIN, "net_regularizer": "l1_l2(0.001,0.01)"}),
        ("sharded", "FinalMLP_ME", {"num_sets": 4, **REGULARISED}),
        ("sharded", "FinalMLP_ME", {"num_sets": 3, "use_fs": True, "fs1_context": ["item"], **REGULARISED}),
        ("sharded", "DNN_ME", {"num_sets": 3, "aggregation": "sum", "embedding_updates": "catch_up"}),
        ("sharded", "DNN_ME", {"num_sets": 1, "hidden_activations": "Dice", "embedding_regularizer": 0.01}),
        ("ddp", "DCNv2_ME", {"num_sets": 3, **REGULARISED}),
        ("ddp", "FinalMLP_ME", {"num_sets": 2, "fused_embedding": False, **REGULARISED}),
        ("set-parallel", "DCNv2_ME", {"num_sets": 3, **REGULARISED}),
        pytest.param("set-parallel", "FinalMLP_ME", {"num_sets": 2, **REGULARISED}, marks=SLOW),
    ],
)
def test_ranks_train_what_one_process_trains(double, tmp_path, engine, name, settings):
    size, groups = ENGINES[engine]
    compare(tmp_path, size, name, settings, engine=engine, groups=groups)


@INSIDE
@pytest.mark.parametrize(
    "name, settings",
    [
        ("DCNv2_ME", {"num_sets": 2, **REGULARISED}),
        pytest.param("FinalMLP_ME", {"num_sets": 2, "use_fs": True, "fs1_context": ["item"]}, marks=SLOW),
        pytest.param("xDeepFM_ME", {"num_sets": 3, "use_linear_term": True, **REGULARISED}, marks=SLOW),
        pytest.param("NFwFM_ME", {"num_sets": 3}, marks=SLOW),
        pytest.param("PNN_ME", {"num_sets": 3, "concat_embeddings": None, **PLAIN}, marks=SLOW),
    ],
)
def test_a_rank_without_a_row_of_a_batch_takes_part(double, tmp_path, name, settings):
    compare(tmp_path, 3, name, settings, engine="sharded", last=2)


def compare(folder, size, name, settings, last=9, **asked):
    """Train on one process and on several."""
    model = make(name, settings)
    torch.save(model.state_dict(), "start.model")
    expected = train(model, 0.05, last)
    asked |= {"weights": "start.model", "max_norm": 0.05, "last": last}
    for rank in run(size, folder, "train_task", name=name, settings=settings, **asked):
        assert rank["losses"] == pytest.approx(expected["losses"], abs=1e-9)
        assert rank["metrics"] == pytest.approx(expected["metrics"], abs=1e-9)
    assert_close(torch.load(f"{asked['engine']}.model", weights_only=True), expected["weights"])
    assert expected["losses"][0] != pytest.approx(expected["losses"][-1], abs=1e-3)


@INSIDE
@pytest.mark.parametrize("engine", [pytest.param("sharded"), pytest.param("set-parallel", marks=SLOW)])
def test_a_step_sends_what_the_formula_says_and_a_rank_holds_its_rows(double, tmp_path, engine):
    """The formula of benchmarks/scale.md, in float64; all-to-all as evenly as ids are distributed over ranks."""
    (size, groups), settings = ENGINES[engine], {"num_sets": 2, "dropout": 0, **PLAIN}
    model = make("DNN_ME", settings)
    torch.save(model.state_dict(), "start.model")
    train(model, 1.0)
    held = sum(x.numel() for of in model.optimizer.state.values() for x in of.values())
    held += sum(p.numel() for p in model.parameters())
    asked = {"engine": engine, "groups": groups, "weights": "start.model", "max_norm": 1.0}
    ranks = run(size, tmp_path, "train_task", name="DNN_ME", settings=settings, **asked)

    rank, of_engine, fields = ranks[0], make_engine(engine, size, 2, groups), ["user", "place"]
    sizes = {"ids": len(fields), "width": len(fields) * 4 * 2 // of_engine.groups, "hidden": 6}
    sizes |= {"dense": rank["parameters"][0] - rank["divided"], "entries": 0}
    steps = [list_collectives(of_engine, batch=rows, **sizes) for rows in [16] * (STEPS - 1) + [9]]
    payloads = {kind: {e.what: 0 for e in steps[0] if e.kind == kind} for kind in (ALL_REDUCE, ALL_TO_ALL)}
    for exchange in (e for step in steps for e in step):
        payloads[exchange.kind][exchange.what] += exchange.payload * (1 if exchange.what == "ids" else 2)
    of_evaluation = 73 * 6 * 8 if of_engine.groups > 1 else 0
    assert sum(rank["moved"]) == pytest.approx(sum(payloads[ALL_REDUCE].values()) + of_evaluation, rel=0.01)
    for i, (what, payload) in enumerate(payloads[ALL_TO_ALL].items()):
        sent = sum(sum(rank["exchanged"][: 3 * STEPS][i::3]) for rank in ranks) / size
        assert sent == pytest.approx(payload * (1 - 1 / of_engine.members), rel=0.2), what
    for rank in ranks:
        assert rank["parameters"][1] == model.num_parameters()
        assert rank["held"] < held - 3 * 0.4 * (40 + 5) * 8  # weights and two moments of half of the rows


@pytest.mark.parametrize("members", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [[4, 1, 9], [1, 1, 1], [20]])
def test_rows_are_distributed_in_turn(sizes, members):
    owners, start = {}, 0
    for field, size in enumerate(sizes):
        shard = Shard(start, size, members)
        for member in range(members):
            ids = list(range(size))[shard.ids(member)]
            assert len(ids) == shard.rows(member)
            owners |= {(field, i): member for i in ids}
        start += size
    every_id = [(field, i) for field, size in enumerate(sizes) for i in range(size)]
    assert [owners[i] for i in every_id] == [row % members for row in range(sum(sizes))]


# --- runs ------------------------------------------------------------------------------------------


@INSIDE
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_writes_what_one_process_writes(double, tmp_path, engine):
    """Batches have 12 rows. Of the last, with 5 rows, some ranks have none in evaluations."""
    size, groups = ENGINES[engine]
    settings = {**RUN, "num_sets": 3, "eval_steps": 4, "callbacks": ["InformationAbundance"]}
    model = make("DCNv2_ME", {**settings, "model_id": "one"})
    model.save_weights("start.model")
    torch.manual_seed(5)
    expected = fit(model, epochs=3, share=(0, 1))
    several = {"name": "DCNv2_ME", "settings": {**settings, "model_id": "two"}, "checkpoint": "start.model"}
    asked = {"engine": engine, "groups": groups, "epochs": 3, "in_shares": True}
    for rank in run(size, tmp_path, "fit_task", **several, **asked):
        assert rank["losses"] == pytest.approx(expected["losses"], abs=1e-9)
        assert rank["metrics"] == pytest.approx(expected["metrics"], abs=1e-9)
        torch.testing.assert_close(rank["predictions"], expected["predictions"], rtol=0, atol=1e-9)
    assert_close(
        torch.load("runs/made/two.model", weights_only=True), torch.load("runs/made/one.model", weights_only=True)
    )
    assert assert_same_abundance("one", "two") > 40


@INSIDE
def test_a_run_stopped_on_two_ranks_continues_with_another_engine(double, tmp_path):
    def on(size, epochs, folder, engine="sharded", groups=None):
        settings = {**RUN, "num_sets": 2, "model_id": folder, "eval_steps": 4, "early_stop_patience": 99}
        asked = {"resume_from": folder, "engine": engine, "groups": groups, "in_shares": True}
        asked |= {"name": "FinalMLP_ME", "settings": settings, "epochs": epochs}
        return run(size, tmp_path / f"of-{folder}", "fit_task", **asked)

    whole = on(2, 4, "whole")[0]
    first = on(2, 2, "first")[0]
    assert first["losses"] == whole["losses"][: len(first["losses"])]
    for size, engine, groups in ((1, "sharded", None), (4, "sharded", None), (2, "ddp", None), (4, "set-parallel", 2)):
        folder = f"{engine}{size}"
        shutil.copytree("first", folder)
        shutil.copy("runs/made/first.model", f"runs/made/{folder}.model")
        for rank in on(size, 4, folder, engine, groups):
            assert rank["losses"] == pytest.approx(whole["losses"][len(first["losses"]) :], abs=1e-9)
            assert rank["metrics"] == pytest.approx(whole["metrics"], abs=1e-9)


@INSIDE
@pytest.mark.parametrize("engine", ["sharded", "ddp"])
def test_a_killed_rank_ends_the_others(double, tmp_path, engine):
    settings = {"name": "DNN_ME", "settings": {**RUN, "num_sets": 2, "model_id": "killed"}, "resume_from": "state"}
    processes = begin(2, tmp_path / "killed", "fit_task", epochs=50, pause=0.02, engine=engine, **settings)
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
    assert (tmp_path / "state").is_dir()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("tables", 2, 4), "unknown engine 'tables'"),
        (("sharded", 2, 4, 2), "only set-parallel has set groups; sharded has one group, got 2"),
        (("set-parallel", 4, 3, 3), r"must divide 4 processes and be no more than 3 sets: 1, 2, got 3"),
    ],
)
def test_impossible_engines_are_refused_in_one_line(asked, message):
    with pytest.raises(UsageError, match=message):
        make_engine(*asked)


@pytest.mark.parametrize(
    ("ranks", "sets", "expected"),
    [(1, 4, (1, 1)), (2, 4, (2, 1)), (4, 3, (1, 4)), (6, 4, (2, 3)), (8, 4, (4, 2)), (64, 10, (2, 32)), (2, 1, (1, 2))],
)
def test_with_more_ranks_than_sets_the_fullest_rank_has_the_least(ranks, sets, expected):
    engine = make_engine("set-parallel", ranks, sets)
    assert (engine.groups, engine.members) == expected
    if ranks > sets:
        fullest = [-(-sets // s) * s / ranks for s in range(1, sets + 1) if ranks % s == 0]
        assert -(-sets // engine.groups) / engine.members == min(fullest)


@INSIDE
@pytest.mark.parametrize(
    ("engine", "settings", "message"),
    [
        ("sharded", {"fused_embedding": False}, "sharded divides the rows of the fused table, and there is none"),
        ("ddp", {"embedding_updates": "lazy"}, "ddp updates every row: it needs embedding_updates: dense, got lazy"),
    ],
)
def test_settings_that_an_engine_does_not_support_are_refused(tmp_path, engine, settings, message):
    for rank in run(2, tmp_path, "start_task", name="DNN_ME", settings={"num_sets": 2, **settings}, engine=engine):
        assert rank["error"].startswith(f"UsageError: {message}")


@INSIDE
@pytest.mark.parametrize(
    "engine", ["sharded", pytest.param("ddp", marks=SLOW), pytest.param("set-parallel", marks=SLOW)]
)
def test_other_optimizers_step_as_on_one_process(double, tmp_path, engine):
    names = ["Adadelta", "Adagrad", "Adamax", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]
    make("DNN_ME", {"num_sets": 2, "dropout": 0, **PLAIN}).save_weights("start.model")
    expected = optimizers_task(None, names, "start.model", None)
    assert len({losses[-1] for losses in expected.values()}) == len(names)
    for rank in run(2, tmp_path, "optimizers_task", names=names, weights="start.model", engine=engine):
        for name in names:
            assert rank[name] == pytest.approx(expected[name], abs=1e-9), name


@INSIDE
def test_all_ranks_use_the_engine_that_rank_0_chose(tmp_path):
    ranks = run(2, tmp_path, "auto_task", settings={"num_sets": 2, "batch_size": 64})
    assert [rank["engine"] for rank in ranks] == ["set-parallel"] * 2


WORDS = ["run_expid", "--config", "config", "--expid", "DNN_ME_test", "--engine", "sharded", "--resume"]


def by_torchrun():
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "fuxictr_me", *WORDS]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def as_by_torchrun():
    """In forked processes, with the environment that torchrun would give them."""
    environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = []
    for rank in ("0", "1"):
        of_rank = {**environment, "RANK": rank, "LOCAL_RANK": rank}
        code = f"import os, runpy, sys; os.environ.update({of_rank}); sys.argv[1:] = {WORDS}"
        ranks.append(Forked(code=f"{code}; runpy.run_module('fuxictr_me', run_name='__main__', alter_sys=True)"))
    for process in ranks:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]


@INSIDE
@pytest.mark.parametrize("start", [as_by_torchrun, pytest.param(by_torchrun, marks=SLOW)])
def test_torchrun_trains_on_shares_of_h5(tmp_path, start):
    assert main(["zoo", "DNN_ME", "config"]) == 0
    path = Path("config/dataset_config.yaml")
    path.write_text(path.read_text().replace("data_format: csv", "data_format: h5"))
    start()
    found = json.loads(Path("checkpoints/tiny_flights/DNN_ME_test.json").read_text())
    assert (found["processes"], found["engine"]) == (2, "sharded") and 0.5 < found["test"]["AUC"] < 1
    log = Path("checkpoints/tiny_flights/DNN_ME_test.log").read_text()
    shares = re.findall(r"(train|valid|test) data of .*: ([\d,]+) of ([\d,]+) rows", log)
    assert [split for split, _, _ in shares] == ["train", "valid", "test"]
    for _, own, whole in shares:
        assert abs(int(own.replace(",", "")) - int(whole.replace(",", "")) / 2) <= 64
    (row,) = Path("config.csv").read_text().splitlines()
    assert "--expid DNN_ME_test --gpu -1 --engine sharded,[exp_id]" in row
    assert list(Path("checkpoints/tiny_flights/DNN_ME_test.resume").glob("epoch-*/.metadata"))


# --- checkpoints of one machine ------------------------------------------------------------------------


@INSIDE
def test_a_resume_state_is_converted_to_a_checkpoint_and_back(double, tmp_path, capsys):
    settings = {**RUN, "num_sets": 2, "model_id": "of-ranks", "eval_steps": 4, "early_stop_patience": 99}
    asked = {"engine": "sharded", "name": "FinalMLP_ME", "settings": settings, "in_shares": True}
    run(2, tmp_path / "first", "fit_task", epochs=2, resume_from="state", **asked)
    assert main(["convert-checkpoint", "state", "whole/last.model"]) == 0
    assert "whole/last.model: the weights of state/epoch-2, 2 sets" in capsys.readouterr().out
    model = make("FinalMLP_ME", {**settings, "model_id": "of-one"})
    model.load_weights("whole/last.model")
    assert main(["convert", "whole/last.model", "start"]) == 0
    torch.manual_seed(5)
    expected = fit(model, epochs=1, share=(0, 1))
    for rank in run(2, tmp_path / "second", "fit_task", epochs=1, resume_from="start", **asked):
        assert rank["losses"] == pytest.approx(expected["losses"], abs=1e-9)
    last = torch.load("whole/last.model", weights_only=True)
    assert last.keys() == model.state_dict().keys()
    best = torch.load("runs/made/of-ranks.model", weights_only=True)
    assert {name: x.shape for name, x in last.items()} == {name: x.shape for name, x in best.items()}


@INSIDE
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", "out"], "no state to resume from, or checkpoint, at none"),
        (["empty", "out"], "empty holds no complete state to resume from: no epoch-N/.metadata"),
        (["other.model", "out"], "other.model is not a checkpoint of a fuxictr-me model: it has no embedding sets"),
        (["other.model", "empty"], "empty exists already"),
    ],
)
def test_files_that_cannot_be_converted_give_one_line(tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    torch.save({"fc.weight": torch.zeros(2)}, "other.model")
    assert main(["convert-checkpoint", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and message in err[0]
    assert not (tmp_path / "out").exists()
