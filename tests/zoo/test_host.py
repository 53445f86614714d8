"""Unmodified FuxiCTR scripts run with fuxictr-me's models.

The fixture ``checkout`` imitates FuxiCTR's repository in a few files, with a script that looks its model up in
``model_zoo`` and calls ``make_iterator()`` of the loaders, as GitHub's does. If FUXICTR_SRC names a checkout of
reczoo/FuxiCTR, its own script runs, too.
"""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.command_line import run_cli
from helpers.forked_processes import run_forked
from helpers.fuxictr_checkout import (
    SCRIPT,
    checkout,  # noqa: F401 - a fixture
)


def host(checkout, expid):
    return run_cli("host", "experiment/run_expid.py", "--config", "../config", "--expid", expid, cwd=checkout)


@pytest.mark.parametrize(("expid", "own"), [("ours", {}), ("theirs", {"OMP_NUM_THREADS": "1"}), ("theirs_ME", {})])
def test_an_unmodified_script_runs_fuxictr_mes_models_and_its_own(checkout, expid, own):
    """The second case runs in a separate Python process, which imports FuxiCTR and torch when the script does."""
    arguments = ("host", "experiment/run_expid.py", "--config", "../config", "--expid", expid)
    run = run_cli(*arguments, cwd=checkout, **own)
    assert run.returncode == 0, run.stderr
    assert "RESULT 0." in run.stdout
    written = {path.name for path in (checkout / "experiment" / "checkpoints" / "made").iterdir()}
    assert written == {f"{expid}.model", f"{expid}.log", f"{expid}.ia.csv"}
    seen = pd.read_csv(checkout / "experiment" / "checkpoints" / "made" / f"{expid}.ia.csv", dtype=str)
    assert set(seen["set"]) == ({"0", "all"} if expid == "theirs" else {"0", "1", "all"})
    assert ("Theirs with 2 embedding sets\n  Merge points: >fc\n" in run.stderr) == (expid == "theirs_ME")


@pytest.mark.parametrize("expid", ["ours", "theirs"])
def test_a_script_of_a_zoo_entry_looks_models_up_in_src(checkout, expid):
    entry = checkout / "experiment"  # any folder with run_expid.py and src/ in it
    (entry / "run_expid.py").write_text(SCRIPT.replace("model_zoo", "src"))
    (checkout / "model_zoo").rename(entry / "src")
    run = host(checkout, expid)
    assert run.returncode == 0 and "RESULT 0." in run.stdout, run.stderr


WRONG = [("wrong", "did you mean 'DNN_ME'"), ("wrong_key", "'num_sets'")]
WRONG += [("wrong_merge", "Theirs cannot have 2 sets: unknown module in merge 'fcc'; did you mean 'fc'?")]


@pytest.mark.parametrize(("expid", "message"), WRONG)
def test_a_users_error_inside_a_script_is_one_line(checkout, expid, message):
    run = host(checkout, expid)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert message in run.stderr.splitlines()[-1]


def test_an_error_of_the_script_itself_is_shown_with_its_traceback(checkout):
    (checkout / "experiment" / "run_expid.py").write_text("raise ZeroDivisionError('theirs')\n")
    run = host(checkout, "ours")
    assert run.returncode == 1 and "ZeroDivisionError: theirs" in run.stderr
    (checkout / "experiment" / "run_expid.py").write_text("import sys; sys.exit(7)\n")
    assert host(checkout, "ours").returncode == 7


@pytest.mark.parametrize(
    "order", ["import model_zoo; fuxictr_me.register()", "fuxictr_me.register(); import model_zoo"]
)
def test_register_works_before_and_after_the_import_of_model_zoo(checkout, order):
    code = (
        f"import fuxictr_me; {order}; print(model_zoo.DNN_ME.__name__, model_zoo.Theirs.__name__, model_zoo.__file__)"
    )
    run = run_forked(code=code, cwd=checkout)
    assert run.stdout.split()[:2] == ["DNN_ME", "Theirs"], run.stderr
    assert Path(run.stdout.split()[2]) == checkout / "model_zoo" / "__init__.py"


def test_register_works_without_a_checkout(tmp_path):
    code = (
        "import fuxictr_me; fuxictr_me.register(); import model_zoo; print(model_zoo.DCNv2_ME.__name__); model_zoo.DCN"
    )
    run = run_forked(code=code, cwd=tmp_path)
    assert run.stdout == "DCNv2_ME\n"
    assert "unknown model 'DCN'; did you mean 'DCNv2_ME'" in run.stderr.splitlines()[-1]


def test_register_keeps_a_model_zoo_without_init(tmp_path):
    (tmp_path / "model_zoo" / "Part").mkdir(parents=True)
    (tmp_path / "model_zoo" / "Part" / "__init__.py").write_text("x = 3\n")
    code = "import fuxictr_me; fuxictr_me.register(); import model_zoo.Part; print(model_zoo.Part.x, model_zoo.DNN_ME)"
    assert run_forked(code=code, cwd=tmp_path).stdout.startswith("3 <class")


@pytest.mark.slow
@pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")
@pytest.mark.parametrize("flavour", ["wheel", "main"])
@pytest.mark.parametrize("expid", ["ours", "theirs"])
def test_githubs_own_script_runs(checkout, flavour, expid):
    """GitHub's experiment/run_expid.py, on the wheel (parquet through Ray) and on main."""
    source = Path(os.environ["FUXICTR_SRC"])
    if flavour == "main":
        pytest.importorskip("keras_preprocessing", reason="FuxiCTR's main branch needs keras_preprocessing")
    for folder in ("experiment", "model_zoo"):
        shutil.rmtree(checkout / folder)
        shutil.copytree(source / folder, checkout / folder)
    shutil.copytree(source / "data" / "tiny_parquet", checkout / "data" / "tiny_parquet")
    experiments = yaml.safe_load((checkout / "config" / "model_config.yaml").read_text())
    experiments["Base"] |= {"dataset_id": "tiny_parquet", "num_workers": 1}
    experiments["theirs"] = {"model": "DCNv2", "parallel_dnn_hidden_units": [8]}
    paths = {f"{s}_data": f"../data/tiny_parquet/{s}.parquet" for s in ("train", "valid", "test")}
    dataset = {"tiny_parquet": {"data_root": "../data/", "data_format": "parquet", **paths}}
    (checkout / "config" / "model_config.yaml").write_text(yaml.safe_dump(experiments))
    (checkout / "config" / "dataset_config.yaml").write_text(yaml.safe_dump(dataset))
    environment = {"PYTHONPATH": str(source)} if flavour == "main" else {}
    arguments = ("--config", "../config", "--expid", expid)
    run = run_cli("host", "experiment/run_expid.py", *arguments, cwd=checkout, **environment)
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"[exp_id] {expid}" in (checkout / "experiment" / "config.csv").read_text()
    assert (checkout / "experiment" / "checkpoints" / "tiny_parquet" / f"{expid}.ia.csv").exists()
