"""Studies: their design, FuxiCTR's autotuner, and studies that are killed, crash, change or run twice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fuxictr.utils import print_to_json
from helpers.command_line import run_cli
from helpers.forked_processes import Forked, run_forked
from helpers.studies import (
    STUB,
    TINY,
    started,
    stub,  # noqa: F401 - a fixture
)

from fuxictr_me.bars import SEEDS as BARS_SEEDS
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.study import kept_results
from fuxictr_me.study.default_kinds import leave_out_ensemble
from fuxictr_me.study.design import design_study
from fuxictr_me.study.gather_results import gather_results
from fuxictr_me.study.launch import launch_study as run
from fuxictr_me.study.launch import read_status as status
from fuxictr_me.study.plan_file import read_plan, write_plan
from fuxictr_me.study.progress import find_results, read_progress, read_run_progress
from fuxictr_me.study.run_claims import claim_run
from fuxictr_me.study.study_data import prepare_data
from fuxictr_me.study.study_file import read_study
from fuxictr_me.study.study_layout import lay_out_study

pytestmark = pytest.mark.usefixtures("own_folder")


STUBBED = """
import pathlib, sys
from fuxictr_me.study import run_process, schedule
SCRIPT = str(pathlib.Path("stub.py").resolve())
run_process.make_command = lambda run, device: [sys.executable, SCRIPT, run.config, run.expid]
schedule.POLL_SECONDS = 0.02
from fuxictr_me.commands.main import main
sys.exit(main(["study", "s.yaml"]))
"""


# --- what a study consists of


def test_cells_of_the_paper_layout():
    study = design_study(
        "s",
        "tiny_flights",
        {"DNN_ME": {"expid": "DNN_ME_test"}},
        kinds=["SE", "ME", "ensemble", "ME-SI"],
        scales=[2, 4],
    )
    sizes = {cell.name: (cell.settings["num_sets"], cell.settings["embedding_dim"]) for cell in study.cells}
    assert sizes == {
        "DNN_ME_base": (1, 4),
        "DNN_ME_SE_2x": (1, 8),
        "DNN_ME_SE_4x": (1, 16),
        "DNN_ME_ME_2x": (2, 4),
        "DNN_ME_ME_4x": (4, 4),
        "DNN_ME_ensemble_2x": (2, 4),
        "DNN_ME_ensemble_4x": (4, 4),
        "DNN_ME_ME-SI_2x": (2, 4),
        "DNN_ME_ME-SI_4x": (4, 4),
    }
    by_name = {cell.name: cell.settings for cell in study.cells}
    assert by_name["DNN_ME_ensemble_2x"]["aggregation"] == "ensemble"
    assert by_name["DNN_ME_ME-SI_4x"]["shared_interaction"] is True
    assert study.seeds == (2021, 190034, 992817, 27011, 948432) == BARS_SEEDS
    differing = {"num_sets", "embedding_dim"}
    assert all(
        {k: v for k, v in settings.items() if k not in differing}
        == {k: v for k, v in by_name["DNN_ME_base"].items() if k not in differing}
        for name, settings in by_name.items()
        if "_SE_" in name or name.endswith(("_ME_2x", "_ME_4x"))
    )
    assert all("InformationAbundance" in settings["callbacks"] for settings in by_name.values())


def test_the_ensemble_is_a_control_by_default():
    """At equal embedding parameters; a study that names its kinds has these alone."""
    tiny = {key: value for key, value in TINY.items() if key != "kinds"}
    study = read_study(None, **tiny, scales=[2])
    assert [cell.kind for cell in study.cells] == ["base", "SE", "ME", "ensemble"]
    assert {c.settings["num_sets"] * c.settings["embedding_dim"] for c in study.cells[1:]} == {8}
    assert study.notes == ()
    assert [cell.kind for cell in read_study(None, **TINY, scales=[2]).cells] == ["base", "SE", "ME"]


@pytest.mark.parametrize("model", ["DCNv2_ME", "FinalMLP_ME", "DNN_ME"])
def test_an_ensemble_that_learns_mutually_is_a_second_control(model):
    cetnet = {"aggregation": "confidence", "mutual_learning_regularizer": 0.1}
    kinds = ["SE", "ME", "ensemble", {"CETNet": cetnet}]
    study = design_study("s", "tiny_flights", [model], kinds=kinds, scales=[2])
    assert [cell.kind for cell in study.cells] == ["base", "SE", "ME", "ensemble", "CETNet"]
    *_, ensemble, second = (cell.settings for cell in study.cells)
    assert second == {**ensemble, **cetnet}
    with pytest.raises(UsageError, match=f"^{model}_CETNet_2x: .* needs aggregation ensemble or confidence"):
        design_study("s", "tiny_flights", [model], kinds=["SE", {"CETNet": {"mutual_learning_regularizer": 0.1}}])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"aggregation": "confidence"}, "its ME is an ensemble already"),
        ({"nonlinear_projection": False}, "moves the activation behind the mean"),
        ({"aggregation": "ensemble"}, "its ME is an ensemble already"),
        ({"aggregation": "gated"}, None),
    ],
)
def test_a_model_that_cannot_be_an_ensemble_goes_without_it(settings, reason):
    kinds, note = leave_out_ensemble("DNN_ME", settings, {"SE": {}, "ME": {}, "ensemble": {}})
    assert list(kinds) == (["SE", "ME", "ensemble"] if reason is None else ["SE", "ME"])
    if reason is None:
        assert note is None
    else:
        assert note.startswith("DNN_ME has no ensemble control, because ") and reason in note


def test_the_dry_run_names_models_without_an_ensemble():
    models = {"DNN_ME": {**TINY["models"]["DNN_ME"], "aggregation": "ensemble"}}
    text = run(out="s", **{**TINY, "kinds": None, "models": models}, scales=[2], seeds=[1], dry_run=True)
    assert "3 runs, 3 left" in text
    assert "DNN_ME has no ensemble control, because its ME is an ensemble already." in text.splitlines()


def test_me_without_projection_is_a_control():
    study = read_study(None, **{**TINY, "kinds": ["SE", "ME", "ME-linear"]}, scales=[2])
    cell = study.cells[-1]
    assert cell.name == "DNN_ME_ME-linear_2x" and cell.settings["nonlinear_projection"] is False
    assert (cell.settings["num_sets"], cell.settings["embedding_dim"]) == (2, 4)


def test_user_defined_kind_with_its_own_grid():
    study = design_study(
        "s",
        "tiny_flights",
        ["DNN_ME"],
        kinds=["SE", "ME", {"wide-gated": {"aggregation": "gated"}}],
        scales=[2],
        grid={"SE": {"embedding_regularizer": [1e-6, 1e-5]}, "ME": {"embedding_regularizer": [1e-5, 1e-4]}},
    )
    grids = {cell.name: cell.grid["embedding_regularizer"] for cell in study.cells}
    assert grids == {
        "DNN_ME_base": [1e-6, 1e-5],
        "DNN_ME_SE_2x": [1e-6, 1e-5],
        "DNN_ME_ME_2x": [1e-5, 1e-4],
        "DNN_ME_wide-gated_2x": [1e-5, 1e-4],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset_id": "tiny_flight"}, "unknown dataset_id 'tiny_flight'; did you mean 'tiny_flights'"),
        ({"models": ["DNN_EM"]}, "unknown model 'DNN_EM'; did you mean 'DNN_ME'"),
        ({"models": {"DNN_ME": {"expid": "DNN_ME_tset"}}}, "did you mean 'DNN_ME_test'"),
        ({"models": []}, "a study needs models"),
        ({"kinds": ["SE", "EM"]}, "unknown kind 'EM'"),
        ({"kinds": [{"mine": {"epochs": 3}}]}, "epochs must be equal for all kinds; kind 'mine' changes it"),
        ({"kinds": [{"not one": {"aggregation": "gated"}}]}, "a kind of your own needs a new name without spaces"),
        ({"kinds": [{"ME": {"aggregation": "gated"}}]}, "a kind of your own needs a new name without spaces"),
        ({"kinds": "SE"}, "kinds must be a list, got 'SE'"),
        ({"scales": [2, 0]}, "a scale must be an integer of 1 or more, got 0"),
        ({"scales": [2.5]}, "a scale must be an integer of 1 or more, got 2.5"),
        ({"seeds": 6}, "seeds: 6 is not 1 to 5"),
        ({"tuning_seeds": 3}, "tuning_seeds is 3, more than the study's 2 seeds"),
        ({"tuning_seeds": 0}, "tuning_seeds must be an integer of 1 or more, got 0"),
        ({"tuning_seeds": True}, "tuning_seeds must be an integer of 1 or more, got True"),
        ({"seeds": [1, "2"]}, "a seed must be an integer of 0 to 4294967295, got '2'"),
        ({"grid": {"epochs": [1, 2]}}, "epochs cannot be tuned"),
        ({"grid": {"num_sets": [1, 2]}}, "num_sets cannot be tuned"),
        ({"grid": {"learning_rate": 0.1}}, "learning_rate in the grid must be a list, got 0.1"),
        ({"grid": {"ME": {"learning_rate": [0.1]}}}, "a grid for each kind needs SE and ME, got ME"),
        ({"grid": {"SE": {}, "ME": {"learning_rate": [0.1]}}}, "learning_rate is tuned for one of SE and ME alone"),
        ({"seed": 3}, "unknown setting of a study 'seed'; did you mean 'seeds'"),
        ({"config": "nowhere"}, "no config folder at nowhere"),
        (
            {"models": {"DNN_ME": {"embedding_dim": [4, 8]}}},
            "embedding_dim of DNN_ME must be one number to scale it, got [4, 8]",
        ),
    ],
)
def test_wrong_designs_are_refused(change, words):
    with pytest.raises(UsageError) as raised:
        read_study(None, **{**TINY, "models": ["DNN_ME"], "seeds": [1, 2], **change})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_designs_are_refused_before_any_run_starts(stub):
    stub()
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [2], "seeds": 1, "settings": {"net_droput": 0.1}}))
    with pytest.raises(
        UsageError, match="DNN_ME_base: unknown setting of DNN_ME 'net_droput'; did you mean 'net_dropout'"
    ):
        run("s.yaml")
    assert {path.name for path in Path().iterdir()} == {"s.yaml", "stub.py"}  # nothing half made
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [2], "seeds": 1}))
    assert "3 of 3 runs finished" in run("s.yaml")
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [4], "seeds": 1, "settings": {"nonsense": 1}}))
    before = {path: path.read_bytes() for path in Path("s").rglob("*.yaml")}
    with pytest.raises(UsageError, match="nonsense"):
        run("s.yaml", changed=True)
    assert before == {path: path.read_bytes() for path in Path("s").rglob("*.yaml")}  # nor half changed


def test_folders_that_are_not_a_study_are_refused():
    Path("bad.yaml").write_text("models: [")
    with pytest.raises(UsageError, match=r"bad.yaml is not valid YAML"):
        run("bad.yaml")
    Path("list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match=r"list.yaml must hold settings by name"):
        run("list.yaml")
    with pytest.raises(UsageError, match=r"no study file at missing.yaml"):
        run("missing.yaml")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="full exists and is not a study"):
        run(out="full", **TINY)
    with pytest.raises(UsageError, match=r"full is not a study: it has no study.json"):
        status("full")
    Path("full/study.json").write_text("{}")
    with pytest.raises(UsageError, match="is not a study's plan"):
        status("full")


# --- FuxiCTR's autotuner


def test_expids_are_those_of_fuxictr_autotuner():
    """Number by the product of what varies, md5 of the sorted characters of the settings' JSON (host.md)."""
    Path("s").mkdir()
    plan = lay_out_study(
        design_study("s", **TINY, scales=[2], seeds=[7, 8], grid={"learning_rate": [0.1, 0.01]}), Path("s")
    )
    assert len(plan.runs) == 3 * 2 * 2
    for r in plan.runs:
        digest = hashlib.md5("".join(sorted(print_to_json(r.settings))).encode()).hexdigest()[:8]
        number = 1 + [7, 8].index(r.seed) * 2 + [0.1, 0.01].index(r.settings["learning_rate"])
        assert r.expid == f"{r.cell}_{number:03d}_{digest}"
    dataset = yaml.safe_load(Path("s/tuner/DNN_ME_base.yaml").read_text())["dataset_config"]["tiny_flights"]
    digest = hashlib.md5("".join(sorted(print_to_json(dataset))).encode()).hexdigest()[:8]
    assert {r.settings["dataset_id"] for r in plan.runs} == {f"tiny_flights_{digest}"}
    write_plan(plan, "s")
    assert read_plan("s") == plan


def test_added_seeds_keep_the_expids_of_existing_runs():
    Path("s").mkdir()
    grid = {"learning_rate": [0.1, 0.01]}
    few = lay_out_study(design_study("s", **TINY, scales=[2], seeds=[7], grid=grid), Path("s"))
    more = lay_out_study(design_study("s", **TINY, scales=[2], seeds=[7, 8], grid=grid), Path("s"))
    assert {r.expid for r in few.runs} < {r.expid for r in more.runs}


def test_runs_of_fuxictr_count_as_finished(stub):
    """Its grid_search on the folder that the study made, then the study with one seed more."""
    Path("s").mkdir()
    plan = lay_out_study(design_study("s", **TINY, scales=[1], seeds=[7]), Path("s"))
    write_plan(plan, "s")
    search = "from fuxictr import autotuner; autotuner.grid_search('tuner/DNN_ME_base', [-1])"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it runs what "python" means there
    assert run_forked(code=f"import os; os.environ['PATH'] = {path!r}; {search}", cwd="s").returncode == 0
    results = find_results(plan, Path("s"))
    assert results.keys() == {r.expid for r in plan.runs}
    before = {path: path.stat().st_mtime_ns for path in Path("s/checkpoints").glob("*/*")}
    stub()
    assert "2 of 2 runs finished" in run(out="s", **TINY, scales=[1], seeds=[7, 8])
    assert started("s") == [r.expid for r in read_plan("s").runs if r.seed == 8]
    after = {path: path.stat().st_mtime_ns for path in Path("s/checkpoints").glob("*/*")}
    assert before.items() < after.items()


# --- running


def test_grid_runs_with_the_first_seed_and_the_choice_with_all(stub):
    stub()
    text = run(out="s", **TINY, scales=[2], seeds=[1, 2, 3], grid={"embedding_regularizer": [0.001, 0.002]}, jobs=3)
    assert "12 of 12 runs finished" in text
    plan = read_plan("s")
    state = read_progress(plan, Path("s"))
    assert state.chosen == {
        cell: {"embedding_regularizer": 0.002} for cell in plan.cells
    }  # the stub's AUC grows with it
    ran = {(r.cell, r.seed, r.values["embedding_regularizer"]) for r in plan.runs if r.expid in started("s")}
    expected = {(1, 0.001), (1, 0.002), (2, 0.002), (3, 0.002)}
    assert ran == {(cell, *rest) for cell in plan.cells for rest in expected}
    assert len(started("s")) == len(ran)


def test_the_choice_is_by_the_mean_over_the_seeds_for_tuning(stub, capsys):
    """Each value is best with one seed; the fake AUCs have their means, and the third seed would change the order."""
    aucs = {1: (0.70, 0.71, 0.60), 2: (0.70, 0.60, 0.75), 3: (0.10, 0.90, 0.90)}  # of seed: by value of the grid
    values = [0.001, 0.002, 0.003]
    stub(f"auc = {aucs}[settings['seed']][{values}.index(settings['embedding_regularizer'])]")
    study = {**TINY, "scales": [1], "seeds": [1, 2, 3], "grid": {"embedding_regularizer": values}}
    assert "5 of 5 runs finished" in run(out="s", **study)
    assert read_progress(read_plan("s"), Path("s")).chosen["DNN_ME_base"] == {"embedding_regularizer": 0.002}
    capsys.readouterr()
    assert "\n7 runs, " in run(out="s", **study, tuning_seeds=2, dry_run=True)
    assert "7 of 7 runs finished" in run(out="s", **study, tuning_seeds=2)
    assert "The study has changed: tuning_seeds: 1 before, 2 now" in capsys.readouterr().err
    plan = read_plan("s")
    assert read_progress(plan, Path("s")).chosen["DNN_ME_base"] == {"embedding_regularizer": 0.001}
    ran = [(r.seed, r.values["embedding_regularizer"]) for r in plan.runs if r.expid in started("s")]
    assert sorted(ran) == sorted([(s, v) for s in (1, 2) for v in values] + [(3, 0.002), (3, 0.001)])
    assert "7 of 7" in status("s")
    (cell,) = gather_results(plan, "s").cells
    assert [value for _, value in cell.tried] == pytest.approx([0.70, 0.655, 0.675])
    assert [r.seed for r in cell.runs] == [1, 2, 3]


def test_monitor_mode_min_chooses_the_smallest_value(stub):
    stub()
    settings = {"monitor": {"AUC": 1}, "monitor_mode": "min"}  # a sum of weighted metrics, whatever it means
    run(out="s", **TINY, scales=[1], seeds=[1], grid={"embedding_regularizer": [0.001, 0.002]}, settings=settings)
    assert read_progress(read_plan("s"), Path("s")).chosen == {"DNN_ME_base": {"embedding_regularizer": 0.001}}


def test_a_failed_run_is_recorded_and_retried_on_demand(stub, capsys):
    stub("if settings['num_sets'] == 2 and settings['seed'] == 1: print('fuxictr-me: error: it broke'); sys.exit(1)")
    with pytest.raises(RunError, match="5 of 6 runs finished, 1 failed"):
        run(out="s", **TINY, scales=[2], seeds=[1, 2])
    assert "FAILED: it broke" in capsys.readouterr().err
    assert "it broke" in status("s")
    first = started("s")
    with pytest.raises(RunError, match="1 failed"):
        run("s")
    assert started("s") == first  # what failed is not tried again unasked
    stub()
    assert "6 of 6 runs finished" in run("s", retry_failed=True)
    assert len(started("s")) == 7
    assert not list(Path("s/failed").glob("*"))


def test_choice_ignores_failed_runs_of_the_grid(stub):
    stub("if settings['embedding_regularizer'] == 0.002: sys.exit(1)")
    with pytest.raises(RunError, match="2 of 3 runs finished, 1 failed"):
        run(out="s", **TINY, scales=[1], seeds=[1, 2], grid={"embedding_regularizer": [0.001, 0.002]})
    assert read_progress(read_plan("s"), Path("s")).chosen == {"DNN_ME_base": {"embedding_regularizer": 0.001}}


def test_status_explains_why_a_run_failed(stub):
    stub("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RunError):
        run(out="killed", **TINY, scales=[1], seeds=[1])
    assert "killed by SIGKILL (out of memory?)" in status("killed")
    stub("sys.exit(0)")
    with pytest.raises(RunError):
        run(out="empty", **TINY, scales=[1], seeds=[1])
    assert "it ended without a result" in status("empty")
    stub("settings['epochs'] = 9")
    with pytest.raises(RunError):
        run(out="other", **TINY, scales=[1], seeds=[1])
    assert "has changed: the run used epochs: 9 in place of 1" in status("other")


@pytest.mark.parametrize(
    "words", ["[Errno 28] No space left on device", "could not write x.model (is the disk full?): unexpected pos 5"]
)
def test_full_disk_stops_the_study_and_it_can_continue(stub, words):
    stub(f"if settings['seed'] == 2: print('fuxictr-me: error: {words}'); sys.exit(1)")
    with pytest.raises(RunError, match="the disk is full; finished runs are kept"):
        run(out="s", **TINY, scales=[2], seeds=[1, 2])
    assert not list(Path("s").glob("failed/*"))
    before = len(started("s"))
    assert before == 4  # three with seed 1, one with seed 2
    stub()
    assert "6 of 6 runs finished" in run("s")
    assert len(started("s")) == before + 3


def test_only_one_study_process_works_in_a_folder(stub):
    stub("time.sleep(3)")
    code = "import sys; from fuxictr_me.study.run_claims import lock_study; from pathlib import Path\n"
    code += "with lock_study(Path('s')): print('locked', flush=True); sys.stdin.read()"
    Path("s").mkdir()
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=rf"another fuxictr-me study works in s \(process {other.pid}\)"):
            run(out="s", **TINY, scales=[1], seeds=[1])
    finally:
        other.communicate()
    assert started("s") == []


def test_study_waits_for_a_run_left_by_a_killed_study(stub):
    stub()
    Path("s").mkdir()
    plan = lay_out_study(design_study("s", **TINY, scales=[1], seeds=[1, 2]), Path("s"))
    write_plan(prepare_data(plan, Path("s")), "s")
    claimed = claim_run(Path("s"), plan.runs[0].expid)
    late = "time.sleep(1.5)"
    script = Path("late.py")
    script.write_text(STUB.format(behaviour=late))
    command = [sys.executable, str(script.resolve()), plan.runs[0].config, plan.runs[0].expid]
    orphan = subprocess.Popen(command, cwd="s", pass_fds=[claimed.fileno()])
    claimed.close()
    assert "1 running" in status("s")
    assert "2 of 2 runs finished" in run("s")
    orphan.wait()
    assert sorted(started("s")) == sorted(r.expid for r in plan.runs)  # each once


def test_changes_of_finished_settings_are_refused_without_changed(stub, capsys):
    stub()
    base = {**TINY, "scales": [2], "seeds": [1]}
    run(out="s", **base)
    assert "6 of 6" in run(out="s", **{**base, "seeds": [1, 2]})
    assert "The study has changed: seeds added: 2" in capsys.readouterr().err
    assert len(started("s")) == 6
    changed = {**base, "settings": {"net_dropout": 0.3}}
    with pytest.raises(UsageError, match=r"6 finished runs of other settings: net_dropout of DNN_ME_base: 0.1 before"):
        run(out="s", **changed)
    assert len(started("s")) == 6
    assert "3 of 3 runs finished" in run(out="s", **changed, changed=True)
    assert len(started("s")) == 9
    assert "6 of 6" in run(out="s", **{**base, "seeds": [1, 2]}, changed=True)  # the old results are still there
    assert len(started("s")) == 9


def test_growing_grid_repeats_no_run(stub):
    stub()
    base = {**TINY, "scales": [1], "seeds": [1, 2]}
    run(out="s", **base, grid={"embedding_regularizer": [0.002, 0.003]})
    assert len(started("s")) == 3
    text = run(out="s", **base, grid={"embedding_regularizer": [0.001, 0.002, 0.003]})
    assert "4 of 4 runs finished" in text
    assert len(started("s")) == 4  # only what is new, although FuxiCTR numbers all anew


def test_a_finished_run_is_kept_if_a_new_one_gets_its_expid(stub, monkeypatch, capsys):
    """FuxiCTR's hash is of sorted characters: in the second grid, 0.1 has the expid that 1.0 had in the first."""
    stub()
    base = {**TINY, "scales": [1], "seeds": [1]}
    run(out="s", **base, grid={"embedding_regularizer": [1.0]})
    (first,) = read_plan("s").runs
    (path,) = Path("s").glob("checkpoints/*/*.json")
    for end in (".model", ".ia.csv", ".log"):
        path.with_suffix(end).write_text(first.expid)
    text = path.read_text()
    with monkeypatch.context() as patch:  # killed when all but the result has its new name
        patch.setattr(kept_results, "write_atomically", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            run(out="s", **base, grid={"embedding_regularizer": [0.1, 1.0]})
    assert path.read_text() == text
    assert "2 of 2 runs finished" in run(out="s", **base, grid={"embedding_regularizer": [0.1, 1.0]})
    plan = read_plan("s")
    assert plan.runs[0].expid == first.expid and plan.runs[0].values == {"embedding_regularizer": 0.1}
    assert started("s") == [first.expid, first.expid]  # 1.0 is not repeated
    results = find_results(plan, Path("s"))
    kept = results[plan.runs[1].expid]
    assert (
        f"{first.expid} has a result of other settings or data: it is kept as {kept['expid']}"
        in capsys.readouterr().err
    )
    assert kept["checkpoint"] == str(path.with_name(f"{kept['expid']}.model").resolve())
    assert kept["expid"].startswith(f"{first.expid}_kept_") and kept["settings"]["embedding_regularizer"] == 1.0
    assert json.loads(path.read_text())["settings"]["embedding_regularizer"] == 0.1
    for end in (".model", ".ia.csv", ".log"):
        assert path.with_name(kept["expid"] + end).read_text() == first.expid


def test_study_continues_after_a_kill_at_any_point(stub):
    """The study is killed in mid-run; continuing it repeats no finished run and loses none."""
    stub('time.sleep(2 * (open("started.txt").read().count(chr(10)) == 2))')  # the second run outlives the study
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [2], "seeds": [1, 2]}))
    study, deadline = Forked(code=STUBBED), time.monotonic() + 120
    while len(started("s")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    study.kill()
    finished = {path: path.read_bytes() for path in Path("s").glob("checkpoints/*/*.json")}
    assert finished
    stub("")
    text = run("s")
    assert "6 of 6 runs finished" in text
    assert all(path.read_bytes() == content for path, content in finished.items())
    ran = started("s")
    assert len(set(ran)) == len(ran) == 6  # also the run that outlived the study
    assert len(list(Path("s").glob("checkpoints/*/*.json"))) == 6


def test_run_progress_is_read_from_the_log():
    """Lines as FuxiCTR's log has them."""
    path = Path("s/checkpoints/d/x.log")
    path.parent.mkdir(parents=True)
    seen = []
    lines = ["Total number of parameters: 5.", "Start training: 192 batches/epoch", "*** Epoch=1 start ***"]
    lines += ["[Metrics] AUC: 0.76", "*** Epoch=1 end ***", "[Metrics] AUC: 0.77", "*** Epoch=2 end ***"]
    lines += ["[Metrics] AUC: 0.75", "*** Epoch=3 early stop ***", "Training finished."]
    for n in range(len(lines) + 1):
        path.write_text("\n".join(lines[:n]))
        seen.append(read_run_progress(Path("s"), "../data/d", "x"))
    assert seen[:2] == ["", ""]
    assert seen[2:4] == ["epoch 1", "epoch 1"]
    assert seen[4:8] == ["epoch 1, AUC: 0.76", "epoch 2, AUC: 0.76", "epoch 2, AUC: 0.77", "epoch 3, AUC: 0.77"]
    assert seen[-1] == "evaluating, AUC: 0.75"
    assert read_run_progress(Path("s"), "../data/d", "y") == ""


def test_interrupt_ends_the_running_processes(stub):
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [2], "seeds": [1, 2], "settings": {"epochs": 1}}))
    study = Forked("study", "s.yaml", "--jobs", "2")
    deadline = time.monotonic() + 120
    while not list(Path("s").glob("logs/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    study.send_signal(signal.SIGINT)
    _, errors = study.communicate(timeout=60)
    assert study.returncode == 130
    assert "interrupted" in errors
    plan = read_plan("s")
    assert read_progress(plan, Path("s")).running == set()
    assert not list(Path("s").glob("failed/*"))


# --- the command line


def test_from_the_command_line(tmp_path):
    options = ["--models", "DNN_ME", "--dataset", "tiny_flights", "--scales", "1,2", "--seeds", "2"]
    done = run_cli("study", *options, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 runs, 8 left" in done.stdout  # base, SE, ME and the ensemble, with two seeds each
    assert "DNN_ME_ensemble_2x" in done.stdout
    assert not (tmp_path / "study_tiny_flights").exists()
    done = run_cli("study", "--models", "DNN_ME", "--dataset", "tiny_flights", "--scales", "1,x", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--scales must be whole numbers such as 1,2,4, got '1,x'" in done.stderr


def test_dry_run_counts_parameters_and_scales_time_from_finished_runs(stub):
    from fuxictr_me.study.launch import launch_study as study

    stub()
    study(out="s", **TINY, scales=[2], seeds=[1])
    text = study("s", dry_run=True)
    assert "3 runs, 0 left" in text
    text = study(out="s", **{**TINY, "scales": [2], "seeds": [1, 2]}, dry_run=True)
    assert "6 runs, 3 left: 3.0 s with 1 at a time (by the study's finished runs)" in text  # the stub's runs take 1 s
    assert json.loads(Path("s/study.json").read_text())["seeds"] == [1]  # nothing is written


def test_dry_run_says_what_its_times_are(stub, monkeypatch):
    from fuxictr_me.study import dry_run
    from fuxictr_me.study.launch import launch_study as study

    stub()
    study(out="s", **TINY, scales=[2], seeds=[1])
    monkeypatch.setattr(dry_run, "_find_finished", lambda *_: {})
    monkeypatch.setattr(dry_run, "count_rows", lambda *_: {"train": 2000})
    text = study("s", dry_run=True)
    assert "3 runs, 3 left: at least " in text and "with 1 at a time (one epoch each on one H100)" in text
    assert text.endswith("\nA run takes several epochs. Once one has finished, these times are estimated from it.")
    monkeypatch.setattr(dry_run, "count_rows", lambda *_: {})
    text = study("s", dry_run=True)
    assert text.endswith("3 left\nTimes are not known before the rows are counted: fuxictr-me data build tiny_flights")
