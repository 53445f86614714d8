"""Runs from a config to a result row, and the messages that a user gets if something is wrong."""

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from fuxictr.utils import load_config
from helpers.command_line import fails, run_cli
from helpers.forked_processes import Forked, run_forked
from helpers.paths import ROOT
from helpers.run_configs import TINY, write_config

from fuxictr_me import UsageError, models
from fuxictr_me.commands.main import main
from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize("expid", [f"{name}_test" for name in find_zoo_configs()])
def test_bundled_tests_run_anywhere(expid, tmp_path):
    assert main(["run_expid", "--expid", expid]) == 0
    folder = tmp_path / "checkpoints" / "tiny_flights"
    assert {p.name for p in folder.iterdir()} == {f"{expid}.{x}" for x in ("model", "log", "ia.csv", "json")}
    row = Path("config.csv").read_text()
    assert row.startswith(" 20") and row.count("\n") == 1
    assert f",[command] python -m fuxictr_me run_expid --expid {expid} --gpu -1,[exp_id] {expid}," in row
    assert ",[dataset_id] tiny_flights,[train] N.A.,[val] AUC: 0." in row and ",[test] AUC: 0." in row
    result = json.loads((folder / f"{expid}.json").read_text())
    assert f"[test] AUC: {result['test']['AUC']:.6f} - logloss: {result['test']['logloss']:.6f}" in row
    assert result["test"]["AUC"] > 0.5  # 2,000 rows: better than chance, no more
    assert result["versions"]["fuxictr"].startswith("2.3.10 (")
    log = (folder / f"{expid}.log").read_text()
    assert "[IA] mean" in log and "Total number of parameters" in log


def test_the_zoo_script(tmp_path):
    entry = tmp_path / "model_zoo" / "DCNv2_ME"
    shutil.copytree(ROOT / "model_zoo" / "DCNv2_ME", entry)
    shutil.copytree(ROOT / "dataset_configs", tmp_path / "dataset_configs")
    words = ["run_expid.py", "--expid", "DCNv2_ME_test", "--gpu", "-1"]
    code = f"import runpy, sys; sys.argv = {words}; runpy.run_path(sys.argv[0], run_name='__main__')"
    run = run_forked(code=code, cwd=entry)
    assert run.returncode == 0, run.stderr
    assert "[exp_id] DCNv2_ME_test" in (entry / "config.csv").read_text()
    assert (entry / "checkpoints" / "tiny_flights" / "DCNv2_ME_test.model").exists()


def test_zoo_entries_are_complete():
    texts = [
        (find_bundled_folder("dataset_configs") / name / "dataset_config.yaml").read_text().partition("\n")[2].strip()
        for name in ("tiny_flights", "criteo_paper", "avazu_paper")
    ]
    for name, folder in find_zoo_configs().items():
        assert (folder / "dataset_config.yaml").read_text().partition("\n")[2] == "\n\n".join(texts) + "\n"
        entries = yaml.safe_load((folder / "model_config.yaml").read_text())
        assert {f"{name}_test", f"{name}_default"} <= set(entries)
        assert (folder.parent / "README.md").exists() and (folder.parent / "run_expid.py").exists()


@pytest.mark.parametrize("name", ["DNN", "PNN", "NFwFM", "xDeepFM", "DCNv2", "FinalMLP"])
def test_the_papers_rows_differ_only_in_size(name):
    """SE and ME at base, 2x, 3x, 4x, 10x on Criteo and Avazu, as FuxiCTR's own loader reads them."""
    folder, base = find_zoo_configs()[f"{name}_ME"], 50 if name == "NFwFM" else 10
    settings = {"weight_decay": 1e-6, "embedding_regularizer": 0, "net_regularizer": 0, "learning_rate": 1e-3}
    settings |= {"batch_size": 2048, "epochs": 100, "early_stop_patience": 3, "reduce_lr_on_plateau": False}
    settings |= {"network_initializer": "paper", "embedding_initializer": "paper", "monitor": "AUC"}
    for dataset in ("criteo", "avazu"):
        expected = {"base": (1, base)} | {f"SE_{k}x": (1, k * base) for k in (2, 3, 4, 10)}
        expected |= {f"ME_{k}x": (k, base) for k in (2, 3, 4, 10)}
        rests = []
        for size, (sets, dim) in expected.items():
            params = load_config(str(folder), f"{name}_ME_{dataset}_{size}")
            assert (params.pop("num_sets"), params.pop("embedding_dim")) == (sets, dim)
            assert params.pop("dataset_id") == f"{dataset}_paper" and params["data_format"] == "h5"
            assert {key: params[key] for key in settings} == settings
            check_model_settings(getattr(models, f"{name}_ME"), {**params, "gpu": -1})
            params.pop("model_id")
            rests.append(params)
        assert all(rest == rests[0] for rest in rests)


def test_the_ablations_of_dcnv2_can_be_built(plain_map):
    entries = yaml.safe_load((find_zoo_configs()["DCNv2_ME"] / "model_config.yaml").read_text())
    ablations = {
        k: v for k, v in entries.items() if k.startswith("DCNv2_ME_criteo") and k[-1] != "x" and "base" not in k
    }
    assert len(ablations) == 8
    for settings in ablations.values():
        models.DCNv2_ME(plain_map, **{**settings, "model_root": "unused", "verbose": 0, "gpu": -1})


def test_same_seed_same_result_and_other_seed_another():
    results = []
    for seed in (7, 7, 8):
        config = write_config({"seed": seed})
        results.append(run_expid("mine", config)["test"])
    assert results[0] == results[1] != results[2]


@pytest.mark.parametrize("data_format", ["csv", "h5"])
def test_a_last_batch_of_one_row_is_named_before_training(data_format):
    odd = write_config({"batch_size": 1999, "batch_norm": True}, {"data_format": data_format})  # of 2,000 rows
    with pytest.raises(UsageError, match="2000 rows in batches of 1999 end in a batch of one row, on which batch norm"):
        run_expid("mine", odd)
    without = write_config({"batch_size": 1999, "batch_norm": False}, {"data_format": data_format})
    assert run_expid("mine", without)["steps"] == 2


def test_load_trained_returns_the_model_that_was_evaluated():
    config = write_config()
    run_expid("mine", config)
    model = load_trained("mine", config)
    best = load_state_dict(model.checkpoint)
    assert all(torch.equal(best[k], v) for k, v in model.state_dict().items())


def test_npz_is_read_by_fuxictrs_loader():
    import numpy as np

    run_expid("mine", write_config())
    folder = Path("data/tiny_flights")
    for split in ("train", "valid", "test"):
        frame = pd.read_parquet(folder / f"{split}.parquet")
        np.savez(folder / f"{split}.npz", **{c: frame[c].to_numpy() for c in frame.columns})
    paths = {f"{s}_data": str(folder / f"{s}.npz") for s in ("train", "valid", "test")}
    parquet = {f"{s}_data": str(folder / f"{s}.parquet") for s in ("train", "valid", "test")}
    built = {"feature_cols": None, "label_col": None}
    same = {"shuffle": False, "net_dropout": 0}  # torch's DataLoader draws from the random state of dropout
    of_npz = run_expid("mine", write_config(same, {"data_format": "npz", **paths, **built}))
    of_parquet = run_expid("mine", write_config(same, {"data_format": "parquet", **parquet, **built}))
    for metric, value in of_npz["test"].items():
        assert of_parquet["test"][metric] == pytest.approx(value, abs=1e-6)


def test_callbacks_do_not_change_the_result():
    with_them = run_expid("mine", write_config())["test"]
    assert run_expid("mine", write_config({"callbacks": None}))["test"] == with_them


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"model": "DCNv2ME"}, {}, "unknown model 'DCNv2ME'; did you mean 'DCNv2_ME'? (known: DCNv2_ME, DNN_ME, "),
        ({"model": "DCNv2"}, {}, "unknown model 'DCNv2'; did you mean 'DCNv2_ME'"),
        ({"num_set": 3}, {}, "unknown setting of DCNv2_ME 'num_set'; did you mean 'num_sets'"),
        ({"num_sets": 0}, {}, "num_sets must be an integer of 1 or more, got 0"),
        ({"num_sets": "2"}, {}, "num_sets must be an integer of 1 or more, got '2'"),
        ({"monitor": "auc"}, {}, "unknown monitor 'auc'; did you mean 'AUC'"),
        ({"callbacks": ["InformationAbundanc"]}, {}, "unknown callback 'InformationAbundanc'; did you mean"),
        ({"dataset_id": "tiny_flight"}, {}, "unknown dataset_id in config 'tiny_flight'; did you mean 'tiny_flights'"),
        ({"use_features": ["hour", "our"]}, {}, "unknown field in use_features 'our'; did you mean 'hour'?"),
        ({}, {"feature_cols": []}, "feature_cols and label_col of data set 'tiny_flights' must be set to read csv"),
        ({}, {"label_col": None}, "feature_cols and label_col of data set 'tiny_flights' must be set to read csv"),
        ({"use_features": "hour"}, {}, "use_features must be a list of fields, got 'hour'"),
        ({"model_root": None}, {}, "model_root must be a path, got None"),
        ({"seed": "one"}, {}, "seed must be an integer of 0 or more, got 'one'"),
        ({"batch_norm": "False"}, {}, "batch_norm must be True or False, got 'False'"),
        ({"monitor": ["AUC"]}, {}, "monitor must be a metric, or a weight for each of several, got ['AUC']"),
        (
            {},
            {
                "feature_cols": [
                    {"name": "h", "active": True, "dtype": "str", "type": "categorical", "share_embedding": "hh"}
                ]
            },
            "unknown share_embedding of column 'h' 'hh'; did you mean 'h'",
        ),
        ({}, {"train_data": "nowhere/train.csv"}, "no train_data at "),
        ({}, {"train_data": str(TINY / "trian.csv")}, f"trian.csv; did you mean {TINY / 'train.csv'}?"),
        (
            {},
            {"test_size": 0.1},
            "test_size of data set 'tiny_flights' takes rows of train_data, but valid_data is given",
        ),
        ({}, {"min_categr_cout": 2}, "did you mean 'min_categr_count'"),
        ({}, {"data_format": "csw"}, "unknown data_format 'csw'; did you mean 'csv'"),
        ({}, {"data_root": None}, "data_root must be set for data set 'tiny_flights'"),
        ({}, {"valid_data": None}, "valid_data of data set 'tiny_flights' is not set"),
        ({}, {"label_col": {"name": "late", "dtype": "print(1)"}}, "unknown dtype of column 'late' 'print(1)'"),
        ({}, {"label_col": {"name": "later", "dtype": "float"}}, "'later'; did you mean 'late'"),
        ({"eval_steps": 1000}, {}, "eval_steps is 1000, but training ends after 32 steps: no evaluation"),
        ({"metrics": None}, {}, "metrics must be a list such as ['AUC', 'logloss'], got None"),
        ({"metrics": ["gAUC"], "group_id": "hours"}, {}, "unknown group_id (a feature of type meta) 'hours'; did you"),
        (
            {},
            {"feature_cols": [{"name": "hour", "dtype": "str", "type": "categorical", "maxlen": 3}]},
            "did you mean 'max_len'?",
        ),
        ({}, {"feature_cols": ["hour"]}, "a column needs name, dtype, type; 'hour' is none"),
        (
            {},
            {"feature_cols": [{"name": "hour", "active": True, "dtype": "str", "type": "categoric"}]},
            "unknown type of column 'hour' 'categoric'; did you mean 'categorical'",
        ),
        ({"early_stop_patience": 0}, {}, "early_stop_patience must be an integer of 1 or more"),
        ({"learning_rate": "1e-3"}, {}, "write 1.e-3"),
    ],
)
def test_wrong_settings_give_one_line(model, data, message, capsys):
    assert message in fails(capsys, "run_expid", "--config", write_config(model, data), "--expid", "mine")


def test_wrong_names_and_paths_give_one_line(capsys):
    config = write_config()
    assert "no config folder at nowhere" in fails(capsys, "run_expid", "--config", "nowhere", "--expid", "x")
    assert "did you mean 'mine'" in fails(capsys, "run_expid", "--config", config, "--expid", "mime")
    assert "unknown expid in config 'Base'" in fails(capsys, "run_expid", "--config", config, "--expid", "Base")
    assert "gpu 5 does not exist" in fails(capsys, "run_expid", "--config", config, "--expid", "mine", "--gpu", "5")
    assert "did you mean 'DCNv2_ME_test'" in fails(capsys, "run_expid", "--expid", "DCNv2_ME_tst")
    assert "is a template" in fails(capsys, "run_expid", "--expid", "DCNv2_ME_default")
    Path("empty").mkdir()
    assert "no model_config.yaml in empty" in fails(capsys, "run_expid", "--config", "empty", "--expid", "x")
    Path("config/model_config.yaml").write_text("mine: [1,\n")
    assert "is not valid YAML" in fails(capsys, "run_expid", "--config", config, "--expid", "mine")
    assert "no config folder at confg; did you mean config?" in fails(
        capsys, "run_expid", "--config", "confg", "--expid", "x"
    )
    Path("config/model_config.yaml").write_text("mine: 3\n")
    assert "must hold settings by name, got 3" in fails(capsys, "run_expid", "--config", config, "--expid", "mine")
    assert "no script at none.py" in fails(capsys, "host", "none.py")
    assert "unknown model of the bundled zoo" in fails(capsys, "zoo", "DCN", "here")
    Path("here").mkdir()
    assert "here exists already" in fails(capsys, "zoo", "DCNv2_ME", "here")


@pytest.mark.parametrize("text", ["", "run_expid", "run_expid --expid", "nothing", "run_expid --expid x --gpu a"])
def test_wrong_arguments_exit_with_2(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(text.split())
    assert stop.value.code == 2 and "usage: fuxictr-me" in capsys.readouterr().err


def test_help_describes_every_argument(capsys):
    said = ""
    for command in ("", "run_expid", "host", "quickstart", "zoo"):
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--help"])
        assert stop.value.code == 0
        said += capsys.readouterr().out
    assert "Exit codes: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted, 143 terminated." in " ".join(
        said.split()
    )
    assert "--expid" in said and "--fast" in said


def test_zoo_lists_and_copies(capsys):
    assert main(["zoo"]) == 0 and "DCNv2_ME" in capsys.readouterr().out
    assert main(["zoo", "DNN_ME", "copied/config"]) == 0
    assert (
        Path("copied/config/model_config.yaml").read_text().partition("\n")[2]
        == (find_zoo_configs()["DNN_ME"] / "model_config.yaml").read_text().partition("\n")[2]
    )


def broken_csv(change):
    frame = pd.read_csv(TINY / "valid.csv", dtype=str)
    change(frame).to_csv("valid.csv", index=False)
    return {"valid_data": "valid.csv"}


def test_bad_data_is_named(capsys):
    arguments = ("run_expid", "--config", "config", "--expid", "mine")
    write_config(data=broken_csv(lambda f: f.iloc[:0]))
    assert "the valid split holds no rows" in fails(capsys, *arguments)
    assert not Path("data/tiny_flights/feature_map.json").exists()
    write_config(data=broken_csv(lambda f: f.assign(late="0")))
    assert "every label of the split to evaluate is 0: AUC cannot be computed" in fails(capsys, *arguments)
    shutil.rmtree("data")
    write_config(data={"train_data": broken_csv(lambda f: f.assign(origin=""))["valid_data"]})
    assert "field 'origin' of 'tiny_flights' has no value in the training data" in fails(capsys, *arguments)
    write_config(data=broken_csv(lambda f: f.assign(distance="far")))
    assert "column 'distance' cannot be read as dtype: float: 400 of 400 rows" in fails(capsys, *arguments)
    write_config(data=broken_csv(lambda f: f.assign(distance=["nan", *f["distance"][1:]])))
    assert (
        "column 'distance' of type numeric must hold numbers that are finite in 32 bits; not so in 1 of 400 rows"
        in fails(capsys, *arguments)
    )


def test_damaged_built_data_are_named(capsys):
    run_expid("mine", write_config())
    arguments = ("run_expid", "--config", "config", "--expid", "mine")
    whole = Path("data/tiny_flights/train.parquet").read_bytes()
    Path("data/tiny_flights/train.parquet").write_bytes(whole[: len(whole) // 2])
    assert "train.parquet is damaged or of another build" in fails(capsys, *arguments)
    Path("data/tiny_flights/manifest.json").unlink()  # as FuxiCTR leaves a set, without checksums
    assert "train.parquet is not a valid parquet file" in fails(capsys, *arguments)
    frame = pd.read_parquet("data/tiny_flights/valid.parquet")
    Path("data/tiny_flights/train.parquet").write_bytes(whole)
    frame.assign(hour=999).to_parquet("data/tiny_flights/valid.parquet")
    assert "field 'hour' has ids from 999 to 999, but its vocabulary holds 0 to 20" in fails(capsys, *arguments)
    frame.drop(columns="hour").to_parquet("data/tiny_flights/valid.parquet")
    assert "unknown column" in fails(capsys, *arguments)
    Path("data/tiny_flights/feature_map.json").write_text('{"half')
    assert "is not a valid feature map" in fails(capsys, *arguments)


def test_a_run_that_diverges_fails_with_one_line(capsys):
    write_config(
        {"learning_rate": 1e30, "epochs": 3, "batch_norm": False, "max_gradient_norm": 1e30, "callbacks": None}
    )
    message = fails(capsys, "run_expid", "--config", "config", "--expid", "mine", code=1)
    assert "predictions are not finite: training has diverged" in message
    assert message in Path("checkpoints/tiny_flights/mine.log").read_text()


def test_a_path_that_cannot_be_written_fails_with_one_line(capsys):
    Path("checkpoints").write_text("a file, not a folder")
    fails(capsys, "run_expid", "--config", write_config(), "--expid", "mine", code=1)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_ctrl_c_and_sigterm_leave_a_complete_checkpoint_and_csv(tmp_path, number, code, word):
    write_config({"epochs": 10_000, "early_stop_patience": 10_000})
    process = Forked("run_expid", "--config", "config", "--expid", "mine", cwd=tmp_path)
    abundance = tmp_path / "checkpoints" / "tiny_flights" / "mine.ia.csv"
    deadline = time.monotonic() + 120
    while not (abundance.exists() and abundance.stat().st_size > 5000):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    try:
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"fuxictr-me: error: {word}; the last checkpoint")
    with abundance.open() as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {11} and (len(rows) - 1) % 24 == 0  # 8 fields x (2 sets + all)
    assert load_state_dict(abundance.with_name("mine.model"))
    assert {path.name for path in abundance.parent.iterdir()} == {"mine.model", "mine.ia.csv", "mine.log"}


def test_version_and_errors_in_a_separate_process(tmp_path):
    assert run_cli("--version", cwd=tmp_path).stdout.startswith("fuxictr-me 0.")
    run = run_cli("run_expid", "--expid", "nobody", cwd=tmp_path, OMP_NUM_THREADS="1")  # by itself from its start
    assert run.returncode == 2 and run.stderr.count("\n") == 1 and run.stdout == ""
