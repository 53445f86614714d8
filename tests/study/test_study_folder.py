"""Studies with wrong settings, with data that change, or in a folder that comes from somebody else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.forked_processes import Forked, run_forked
from helpers.studies import STUB, TINY, started, stub  # noqa: F401

from fuxictr_me.commands.main import main
from fuxictr_me.config.lookup import find_dataset
from fuxictr_me.data.digests import data_digest, settings_digest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.study import launch
from fuxictr_me.study.design import design_study
from fuxictr_me.study.gather_results import has_published_rows
from fuxictr_me.study.launch import launch_study as run
from fuxictr_me.study.launch import read_status as status
from fuxictr_me.study.plan_file import read_plan, write_plan
from fuxictr_me.study.progress import find_results, read_progress
from fuxictr_me.study.run_claims import claim_run, find_running_processes
from fuxictr_me.study.run_process import make_command
from fuxictr_me.study.study_data import describe_data_change
from fuxictr_me.study.study_file import read_study
from fuxictr_me.study.study_layout import lay_out_study

pytestmark = pytest.mark.usefixtures("own_folder")
ONE = {**TINY, "scales": [1], "seeds": [1]}


def write_study(path="s.yaml", **changes):
    content = {"name": "s", "dataset_id": "tiny_flights", "models": {"DNN_ME": {"expid": "DNN_ME_test"}}, **changes}
    Path(path).write_text(yaml.safe_dump({key: value for key, value in content.items() if value != "none"}))


def own_data(data_format="h5", splits=("train", "valid", "test")):
    """Write a config folder and raw files; ``splits`` names the files of train, valid and test data, in order."""
    raw, rows = Path("raw"), np.random.default_rng(0).integers(0, 5, (3, 60, 2))
    if not raw.exists():
        raw.mkdir()
        for name, part in zip(("train", "valid", "test"), rows, strict=True):
            lines = [f"{a},{b},{(a + b) % 2}" for a, b in part]
            (raw / f"{name}.csv").write_text("\n".join(["a,b,y", *lines, ""]))
    Path("cfg").mkdir(exist_ok=True)
    column = {"name": ["a", "b"], "active": True, "dtype": "str", "type": "categorical"}
    entry = {"data_root": "./data/", "data_format": data_format, "min_categr_count": 1, "feature_cols": [column]}
    entry |= {f"{s}_data": f"./raw/{f}.csv" for s, f in zip(("train", "valid", "test"), splits, strict=True)}
    entry |= {"label_col": {"name": "y", "dtype": "float"}}
    Path("cfg/dataset_config.yaml").write_text(yaml.safe_dump({"mine": entry}))
    model = {"model": "DNN_ME", "dataset_id": "mine", "loss": "binary_crossentropy", "task": "binary_classification"}
    model |= {"metrics": ["AUC", "logloss"], "optimizer": "adam", "learning_rate": 0.01, "batch_size": 16, "epochs": 1}
    model |= {"embedding_dim": 4, "hidden_units": [8], "model_root": "./checkpoints/"}
    Path("cfg/model_config.yaml").write_text(yaml.safe_dump({"D": model}))
    return {"dataset_id": "mine", "config": "cfg", "models": {"DNN_ME": {"expid": "D"}}, "scales": [1], "seeds": [1]}


def everything():
    """Path -> content of all files below the working directory."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and not path.is_symlink()}


# --- the study file

BAD_FILES = {
    "a list": b"- 1",
    "no text": b"name: \xff\xfe",
    "binary": bytes(range(256)),
    "zeros": b"\0" * 100,
    "a key twice": b"name: a\nname: b\n",
    "a nested key twice": b"settings: {epochs: 1, epochs: 2}",
    "a tag": b"name: !!python/object/apply:os.system ['touch pwned']",
    "an alias of itself": b"settings: &a {x: *a}",
    "a bomb": b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + b"".join(b"%c: &%c [%s]\n" % (i, i, b",".join([b"*%c" % (i - 1)] * 10)) for i in range(98, 106)),
    "deep": b"settings: " + b"[" * 5000,
    "a date": b"name: 2020-01-01",
    "a key that is no text": b"name: a\n1: b\n",
    "a long number": b"seeds: [" + b"9" * 5000 + b"]",
    "empty": b"",
}
BAD_PARTS = [
    *[{"name": value} for value in (7, None, "", "..", "../x", "a/b", "a\nb", ["a"], True, "x" * 200)],
    *[{"dataset_id": value} for value in ("../x", "/etc", 3, ["tiny_flights"], "tiny", "-x", True)],
    *[{"config": value} for value in (3, ["cfg"], "nowhere", {"a": 1})],
    *[{"models": value} for value in ("DNN_ME", 3, [3], ["DNN_ME", "DNN_ME"], [["DNN_ME"]], {"DNN_ME": 3}, [None])],
    *[{"models": {"DNN_ME": value}} for value in ("x", ["x"], {"seed": 1}, {"model": "PNN_ME"}, {"num_sets": 3})],
    *[{"models": {"DNN_ME": {"expid": value}}} for value in (3, ["a"], "../x", {})],
    *[{"models": {"DNN_ME": {"embedding_dim": value}}} for value in (0, -1, 2.5, "4", True, [4], None)],
    *[{"models": {"DNN_ME": {key: "x"}}} for key in ("epochs", "batch_size", "train_data", "nonsense", "model_root")],
    *[{"kinds": value} for value in ("SE", 3, [], ["SE", "SE"], ["ME", "EM"], [3], [{}], [["SE"]], {"SE": 1}, [{}, 1])],
    *[{"kinds": [{"own": value}]} for value in (None, 3, [], "x", {"seed": 1}, {"epochs": 2}, {"like": "x"}, {3: 4})],
    *[{"kinds": [{name: {"net_dropout": 0.1}}]} for name in ("../x", "", "a b", 3, "base", "SE", "-x")],
    {"kinds": [{"own": {"net_dropout": 0.1}}, {"own": {"net_dropout": 0.2}}]},
    {"kinds": [{"own": {"nonsense": 1}}]},
    *[{"scales": value} for value in (3, [], [2, 2], [0], [-1], [1.5], ["2"], [True], [10**9], [1, 10**30], {"a": 1})],
    *[{"seeds": value} for value in (0, 6, -1, 2.5, "1", [], [1, 1], [-1], [1.5], [True], [2**32], [10**30], {})],
    *[{"settings": value} for value in ([], "x", 3, [1, 2], True, {"seed": 1}, {"embedding_dim": 4}, {"num_sets": 2})],
    *[{"settings": {"model": "x"}}, {"settings": {"dataset_id": "x"}}, {"settings": {"train_data": "x"}}],
    *[{"settings": {"metrics": value}} for value in ("AUC", [], ["ACU"], 3, ["logloss"])],
    *[{"settings": {"monitor": value}} for value in ("logloss2", 3, [], {}, {"AUC": "x"}, "gAUC")],
    *[{"settings": {"monitor_mode": "up"}}, {"settings": {"epochs": 0}}, {"settings": {"batch_size": "10"}}],
    *[{"grid": value} for value in ("x", 3, [1], {"learning_rate": []}, {"learning_rate": 0.1}, {"nonsense": [1]})],
    *[{"grid": {"learning_rate": value}} for value in ([0.1, 0.1], ["1e-3"], [-1], [None, 1], {"a": 1}, [[0.1]])],
    *[{"grid": {key: [1, 2]}} for key in ("seed", "model", "embedding_dim", "epochs", "min_categr_count", "gpu")],
    {"grid": {"learning_rate": [i / 1000 for i in range(1, 200)], "net_dropout": [i / 1000 for i in range(200)]}},
    {"grid": {"SE": {"learning_rate": [0.1]}, "ME": {"learning_rate": 3}}},
    *[{"nonsense": 1}, {"seed": 1}, {"scale": [2]}, {"models": "none"}, {"dataset_id": "none"}],
]


def refused(capsys, *words):
    """The one line with which a command is refused; it writes nothing."""
    before = everything()
    assert main(list(words)) == 2, words
    line = capsys.readouterr().err
    assert line.startswith("fuxictr-me: error: ") and line.count("\n") == 1, line
    assert len(line) < 1000
    assert everything() == before
    return line


def test_bad_study_files_get_one_line_and_nothing_is_written(capsys):
    for what, content in BAD_FILES.items():
        Path("s.yaml").write_bytes(content)
        line = refused(capsys, "study", "s.yaml", *["--dry-run"][: what != "binary"])
        assert "s.yaml" in line, what
    for i, change in enumerate(BAD_PARTS):
        write_study(**change)
        refused(capsys, "study", "s.yaml", *["--dry-run"][: i % 2])
    assert len(BAD_FILES) + len(BAD_PARTS) > 140


def test_valid_study_file_is_accepted():
    write_study(kinds=["SE", {"own": {"net_dropout": 0.1}}], scales=[2, 4], seeds=[1, 2**32 - 1], grid={})
    study = read_study("s.yaml")
    assert [cell.name for cell in study.cells][-2:] == ["DNN_ME_own_2x", "DNN_ME_own_4x"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": ["AUC"], "monitor": "logloss", "monitor_mode": "min"}, "monitor 'logloss' is not among metrics"),
        ({"metrics": ["AUC"], "monitor": {"AUC": 1, "logloss": -1}}, "monitor 'logloss' is not among metrics"),
        ({"metrics": ["logloss"]}, "monitor 'AUC' is not among metrics"),
    ],
)
def test_monitor_must_be_among_metrics(settings, words):
    with pytest.raises(UsageError, match=words):
        design_study("s", **TINY, scales=[1], seeds=[1], settings=settings)
    design_study("s", **TINY, scales=[1], seeds=[1], settings={**settings, "metrics": ["AUC", "logloss"]})


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("monitor", "AUC", "logloss"),
        ("monitor_mode", "max", "min"),
        ("epochs", 1, 2),
        ("batch_size", 64, 128),
        ("metrics", ["AUC", "logloss"], ["AUC"]),
        ("early_stop_patience", 1, 2),
        ("eval_steps", None, 10),
        ("reduce_lr_on_plateau", True, False),
    ],
)
def test_models_that_are_trained_or_chosen_differently_are_refused(key, first, second):
    models = {"DNN_ME": {"expid": "DNN_ME_test", key: first}, "PNN_ME": {"expid": "PNN_ME_test", key: second}}
    common = {"epochs": 1, "batch_size": 64, "monitor": "AUC", "metrics": ["AUC", "logloss"]}
    with pytest.raises(UsageError, match=f"{key} must be equal for all models of a study"):
        design_study("s", "tiny_flights", models, scales=[1], settings={k: v for k, v in common.items() if k != key})
    design_study("s", "tiny_flights", models, scales=[1], settings={**common, key: first})


def test_every_bundled_data_set_is_found_by_its_id():
    ids = [
        key
        for f in find_bundled_folder("dataset_configs").glob("*/dataset_config.yaml")
        for key in yaml.safe_load(f.read_text())
    ]
    assert {"criteo_x4_001", "avazu_x4_002", "criteo_paper"} <= set(ids)
    for dataset_id in ids:
        study = design_study("s", dataset_id, ["DNN_ME"], scales=[1], seeds=[1])
        entry, _ = find_dataset(dataset_id)
        assert study.dataset == entry and study.cells[0].settings["dataset_id"] == dataset_id
    with pytest.raises(UsageError, match="criteo_x4 comes in several settings: name one of criteo_x4_001, "):
        design_study("s", "criteo_x4", ["DNN_ME"])


# --- the same data, the same settings


def test_digests_distinguish_rows_and_settings():
    study = own_data()
    Path("s").mkdir()
    digests = {}
    for name, splits in (("as it is", None), ("again", None), ("swapped", ("train", "test", "valid"))):
        own_data(splits=splits or ("train", "valid", "test"))
        folder = Path(name.replace(" ", "_"))
        plan = lay_out_study(design_study("s", **study), folder)
        digests[name] = launch.prepare_data(plan, folder).data
    assert digests["as it is"] == digests["again"]
    assert digests["swapped"]["digest"] != digests["again"]["digest"]
    assert digests["again"]["rows"] == {"train": 60, "valid": 60, "test": 60}
    one = {"learning_rate": 0.1, "hidden_units": [12, 21], "gpu": -1, "data_root": "a", "model_id": "x"}
    assert settings_digest(one) == settings_digest({**one, "gpu": 0, "data_root": "b", "model_id": "y"})
    assert settings_digest(one) != settings_digest({**one, "hidden_units": [21, 12]})
    assert settings_digest(one) != settings_digest({**one, "net_dropout": 0.1})


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_digest_of_data_built_by_fuxictr_covers_their_files(kind):
    folder = Path("data/x")
    folder.mkdir(parents=True)
    (folder / "feature_map.json").write_text(json.dumps({"dataset_id": "x", "features": []}))
    for split in ("train", "valid"):
        (folder / f"{split}.{kind}").write_bytes(split.encode())
    params = {
        "data_root": "data",
        "dataset_id": "x",
        "train_data": "data/x/train",
        "valid_data": f"data/x/valid.{kind}",
    }
    before = data_digest(params)
    assert before == data_digest(params)
    swapped = {**params, "train_data": "data/x/valid", "valid_data": "data/x/train"}
    assert data_digest(swapped) != before
    (folder / f"valid.{kind}").write_bytes(b"other")
    assert data_digest(params) != before


@pytest.mark.parametrize("change", ["swapped", "replaced", "renamed"])
def test_changed_data_are_detected_and_old_runs_no_longer_count(change, stub, capsys):
    stub()
    study = own_data()
    if change == "renamed":  # the sorted characters of the settings stay the same
        for name in ("day_12", "day_21"):
            shutil.copy("raw/test.csv" if name == "day_12" else "raw/valid.csv", f"raw/{name}.csv")
        own_data(splits=("train", "valid", "day_12"))
    run(out="s", **study)
    first = read_plan("s")
    assert len(started("s")) == 1
    if change == "swapped":
        own_data(splits=("train", "test", "valid"))
    elif change == "renamed":
        own_data(splits=("train", "valid", "day_21"))
    else:
        lines = Path("raw/test.csv").read_text().splitlines()
        Path("raw/test.csv").write_text("\n".join([*lines[:-1], "4,4,1", ""]))
    before = everything()
    with pytest.raises(UsageError, match="1 finished runs of other settings"):
        run(out="s", **study)
    assert everything().keys() == before.keys() and Path("s/study.json").read_bytes() == before[Path("s/study.json")]
    if change == "replaced":
        with pytest.raises(UsageError, match=r"1 finished runs of other data: the data set .*: the raw test data"):
            run("s")
    assert "1 of 1 runs finished" in run(out="s", **study, changed=True)
    plan = read_plan("s")
    assert plan.runs[0].settings["dataset_id"] == first.runs[0].settings["dataset_id"]  # FuxiCTR's hash tells nothing
    assert plan.data["digest"] != first.data["digest"]
    assert len(started("s")) == 2
    (result,) = Path("s").glob(f"checkpoints/*/{plan.runs[0].expid}.json")
    (kept,) = Path("s").glob(f"checkpoints/*/{plan.runs[0].expid}_kept_*.json")  # is there and does not count
    digests = [json.loads(path.read_text())["data_digest"] for path in (kept, result)]
    assert digests == [first.data["digest"], plan.data["digest"]]
    assert "1 of 1 runs finished" in run(out="s", **study)
    assert len(started("s")) == 2


def test_touched_but_equal_data_keep_their_runs(stub):
    stub()
    study = own_data()
    run(out="s", **study)
    os.utime("raw/train.csv", (1, 1))
    assert "1 of 1 runs finished" in run("s", changed=True)
    assert len(started("s")) == 1


def test_removed_setting_counts_as_a_change(stub):
    stub()
    run(out="s", **ONE, settings={"net_dropout": 0.3, "early_stop_patience": 7})
    plan, counted = read_plan("s"), read_progress(read_plan("s"), Path("s")).finished
    assert counted == 1
    path = next(Path("s").glob("checkpoints/*/*.json"))
    content = json.loads(path.read_text())
    assert not find_results(plan, Path("s")).keys() - {plan.runs[0].expid}
    path.write_text(json.dumps({**content, "settings_digest": "of more settings"}))
    assert read_progress(plan, Path("s")).finished == 0


def test_corrected_run_with_the_same_expid_starts_again(stub):
    stub("if settings['hidden_units'] == [12, 21]: print('fuxictr-me: error: wrong'); sys.exit(1)")
    models = {"DNN_ME": {"expid": "DNN_ME_test", "hidden_units": [12, 21]}}
    with pytest.raises(Exception, match="1 failed"):
        run(out="s", **{**ONE, "models": models})
    expid = read_plan("s").runs[0].expid
    models["DNN_ME"]["hidden_units"] = [21, 12]
    assert "1 of 1 runs finished" in run(out="s", **{**ONE, "models": models})
    assert read_plan("s").runs[0].expid == expid  # of the sorted characters
    assert started("s") == [expid, expid]


def test_built_data_set_is_reused(stub, capsys):
    stub()
    study = own_data()
    assert main(["data", "build", "mine", "--config", "cfg"]) == 0
    run(out="s", **study)
    assert [path.name for path in Path("data").iterdir() if path.is_dir()] == ["mine"]
    plan = read_plan("s")
    assert plan.runs[0].settings["dataset_id"] == "mine" and plan.data_folder == "../data/mine"
    assert describe_data_change(plan, Path("s")) is None
    Path("raw/train.csv").write_text(Path("raw/train.csv").read_text() + "4,4,1\n")
    capsys.readouterr()
    run(out="other", **study)
    assert "The study builds its own data set, because ../data/mine cannot be used: the raw train" in (
        capsys.readouterr().err
    )


def test_published_numbers_need_the_published_rows():
    Path("s").mkdir()
    plan = lay_out_study(design_study("s", **ONE), Path("s"))
    rows = json.loads((find_bundled_folder("dataset_configs") / "criteo_paper" / "files.json").read_text())["files"]
    rows = {name[:-4]: entry["rows"] for name, entry in rows.items()}
    from dataclasses import replace

    named = replace(plan, dataset_id="criteo_paper")
    assert not has_published_rows(named)
    assert has_published_rows(replace(named, data={"digest": "x", "rows": rows}))
    assert not has_published_rows(replace(named, data={"digest": "x", "rows": {**rows, "test": 7}}))
    assert not has_published_rows(replace(plan, data={"digest": "x", "rows": rows}))


# --- folders of somebody else's


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study with a finished run, and its data beside it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = lay_out_study(design_study("s", **ONE, grid={"net_dropout": [0, 0.1]}), Path("s"))
        write_plan(plan, "s")
        for r in plan.runs:
            out = Path("s/checkpoints") / r.settings["dataset_id"]
            out.mkdir(parents=True, exist_ok=True)
            result = {"expid": r.expid, "settings": r.settings, "model": "DNN_ME", "dataset_id": out.name, "steps": 1}
            result |= {"valid": {"AUC": 0.7, "logloss": 0.5}, "test": {"AUC": 0.7, "logloss": 0.5}, "versions": {}}
            result |= {"parameters": 9, "parameters_without_embeddings": 1, "seconds": 1.0, "peak_memory": 1}
            (out / f"{r.expid}.json").write_text(json.dumps({**result, "settings_digest": r.settings_digest}))
            (out / f"{r.expid}.ia.csv").write_text(
                "event,epoch,step,layer,field,set,num_ids,dim,ia,ia_ratio,ia_random\n"
            )
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Path("s")


def damaged(content, random):
    """A JSON value with one place in it changed to a value of another kind, or taken away."""
    places, queue = [], [content]
    while queue:
        node = queue.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            queue.append(value)
    node, key = places[random.integers(len(places))]
    junk = [None, 3, -1, "x", "../../x", "/etc/passwd", [], {}, [{}], {"a": 1}, True, 1e400, 2.5, "a\nb"]
    if random.random() < 0.3 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = junk[random.integers(len(junk))]
    return content


def test_damaged_plans_and_results_get_one_line(folder, capsys):
    """Of 240 random damages none ends in a traceback, runs anything, or writes outside the report."""
    random = np.random.default_rng(1)
    plan, result = Path("s/study.json"), next(Path("s").glob("checkpoints/*/*.json"))
    for path in (plan, result):
        good = path.read_text()
        for _ in range(100):
            path.write_text(json.dumps(damaged(json.loads(good), random)))
            before = everything()
            code = main(["study", "status", "s"])
            line = capsys.readouterr().err
            assert code in (0, 2), line
            assert code == 0 or (
                ("s/" in line or "runs of this study" in line) and line.count("\n") == 1 and "Traceback" not in line
            ), line
            assert everything() == before
        for text in ("", "{}", "[]", "null", "3", "{" * 3000, "[" * 100_000, good[: len(good) // 2], good + "x"):
            path.write_text(text)
            assert main(["study", "status", "s"]) == (2 if path == plan else 0)
            assert capsys.readouterr().err.count("\n") == (path == plan)
        path.write_bytes(b"\xff\xfe\0")
        assert main(["study", "status", "s"]) == (2 if path == plan else 0)
        path.write_text(good)


@pytest.mark.parametrize("command", [["status"], ["report"], ["run"]])
def test_plan_without_runs_is_refused_in_one_line(command, folder, capsys):
    content = json.loads(Path("s/study.json").read_text())
    for runs in ([], None):
        Path("s/study.json").write_text(json.dumps({**content, "runs": runs} if runs is not None else {"name": "s"}))
        assert "s/study.json is not a study's plan" in refused(capsys, "study", *command, "s")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PYTHONPATH": ["../pp"]}, "sets PYTHONPATH, but only FUXICTR_SRC and FUXICTR_ME_PATH are allowed"),
        ({"LD_PRELOAD": ["x"]}, "environment sets LD_PRELOAD"),
        ({"FUXICTR_ME_PATH": "../pp"}, "FUXICTR_ME_PATH of environment is '../pp', a str in place of a list"),
        ({"FUXICTR_ME_PATH": [3]}, "a folder of FUXICTR_ME_PATH is '3'"),
        ({"FUXICTR_ME_PATH": ["../pp"]}, "runs code that lies in .*/pp: if you trust it, name it"),
        ({"FUXICTR_SRC": ["../pp"]}, "runs code that lies in .*/pp: if you trust it, name it"),
    ],
)
def test_code_named_by_the_folder_alone_is_not_run(environment, words, folder, capsys, stub):
    import re

    stub()
    Path("pp").mkdir()
    content = json.loads(Path("s/study.json").read_text())
    Path("s/study.json").write_text(json.dumps({**content, "environment": environment}))
    for more in ([], ["--dry-run"]):
        assert re.search(words, refused(capsys, "study", "s", *more))


def test_code_named_by_the_user_is_run(folder, monkeypatch):
    content = json.loads(Path("s/study.json").read_text())
    Path("s/study.json").write_text(json.dumps({**content, "environment": {"FUXICTR_ME_PATH": ["../pp"]}}))
    monkeypatch.setenv("FUXICTR_ME_PATH", os.pathsep.join(["elsewhere", "pp"]))
    launch.check_code(read_plan("s"), folder)


@pytest.mark.parametrize("place", ["s/mine.py", "s/tuner/mine.py", "s/mine/__init__.py"])
@pytest.mark.parametrize("key", ["model", "callbacks"])
def test_code_in_the_folder_itself_is_not_run(place, key, folder, capsys):
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text("raise SystemExit('it ran')")
    content = json.loads(Path("s/study.json").read_text())
    for run_of in content["runs"]:
        run_of["settings"][key] = "mine:Model" if key == "model" else ["mine.Callback"]
    Path("s/study.json").write_text(json.dumps(content))
    assert "if you trust it, name its folder" in refused(capsys, "study", "s")


def test_python_imports_nothing_from_the_study_folder(folder):
    """A module of the folder that is called like one of Python's is not that one."""
    for name in ("json", "yaml", "torch", "fuxictr_me"):
        (folder / f"{name}.py").write_text("raise SystemExit('it ran')")
    command = [*make_command(read_plan("s").runs[0], -1)[:3], "zoo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "DNN_ME" in done.stdout, done.stderr


def test_changed_configs_of_a_folder_are_not_run(folder, capsys):
    path = next(Path("s/tuner").glob("*/model_config.yaml"))
    path.write_text(path.read_text().replace("net_dropout: 0.1", "net_dropout: 0.2"))
    assert "has other settings of" in refused(capsys, "study", "s")


@pytest.mark.parametrize("part", ["running", "logs", "failed", "checkpoints", "tuner", "report", "study.json"])
def test_links_are_not_followed(part, folder, capsys):
    Path("victim").mkdir()
    Path("victim/mine.txt").write_text("mine")
    if (folder / part).is_dir():
        shutil.rmtree(folder / part)
    (folder / part).unlink(missing_ok=True)
    (folder / part).symlink_to(Path("victim").resolve())
    for command in (["run", "s"], ["status", "s"], ["report", "s"]):
        assert "is a symbolic link" in refused(capsys, "study", *command)


def test_a_linked_lock_does_not_empty_what_it_leads_to(folder, capsys):
    Path("victim.txt").write_text("mine")
    Path(".s.lock").symlink_to("victim.txt")
    assert ".s.lock is a symbolic link or not a file" in refused(capsys, "study", "s")
    assert Path("victim.txt").read_text() == "mine"


# --- killed


@pytest.mark.parametrize(
    "at",
    [
        *(pytest.param(at, marks=pytest.mark.slow) for at in ("lay_out_study", "prepare_data", "run_study")),
        "write_plan",
    ],
)
def test_same_command_continues_after_a_kill_between_two_steps(at, stub):
    stub()
    code = "import os, signal; from fuxictr_me.study import launch\n"
    code += f"launch.{at} = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "from fuxictr_me.commands.main import main; main(['study', 's.yaml'])"
    write_study(scales=[1], seeds=[1])
    killed = run_forked(code=code)
    assert killed.returncode == -signal.SIGKILL
    assert "1 of 1 runs finished" in run("s.yaml")


def test_incomplete_layout_is_laid_out_again(stub):
    stub()
    for name in (".planning-s-abcd_123", ".planning-other-abcd_123", ".planning-s-mine"):
        Path(name, "config").mkdir(parents=True)
    Path(".planning-s-mine_too").mkdir()
    Path(".planning-s-mine_too/mine.txt").write_text("mine")
    write_study(scales=[1], seeds=[1])
    lay_out_study(read_study("s.yaml"), Path("s"))
    shutil.rmtree("s/tuner")
    assert "1 of 1 runs finished" in run("s.yaml")
    left = sorted(path.name for path in Path().glob(".planning-*"))
    assert left == [".planning-other-abcd_123", ".planning-s-mine", ".planning-s-mine_too"]


def test_files_of_the_user_in_the_folder_are_kept(stub):
    stub()
    write_study(scales=[2], seeds=[1])
    run("s.yaml")
    for name in ("config/notes.txt", "tuner/notes.txt", "tuner/DNN_ME_ME_2x/notes.txt", "notes.txt"):
        Path("s", name).write_text("mine")
    write_study(scales=[4], seeds=[1])
    run("s.yaml")
    for name in ("config/notes.txt", "tuner/notes.txt", "tuner/DNN_ME_ME_2x/notes.txt", "notes.txt"):
        assert Path("s", name).read_text() == "mine"
    assert not Path("s/tuner/DNN_ME_SE_2x").exists() and not Path("s/tuner/DNN_ME_SE_2x.yaml").exists()


def test_run_left_by_a_killed_study_occupies_a_slot(stub, capsys):
    """With one job at a time, no run starts while a run of a killed study is still going."""
    stub()
    Path("s").mkdir()
    plan = lay_out_study(design_study("s", **TINY, scales=[1], seeds=[1, 2, 3]), Path("s"))
    plan = launch.prepare_data(plan, Path("s"))
    write_plan(plan, "s")
    claimed = claim_run(Path("s"), plan.runs[2].expid)
    Path("late.py").write_text(STUB.format(behaviour="time.sleep(2)"))
    command = [sys.executable, str(Path("late.py").resolve()), plan.runs[2].config, plan.runs[2].expid]
    left = subprocess.Popen(command, cwd="s", pass_fds=[claimed.fileno()])
    claimed.write(f"{left.pid} -1\n")
    claimed.close()
    assert find_running_processes(Path("s")) == {plan.runs[2].expid: (str(left.pid), -1)}
    assert "3 of 3 runs finished" in run("s")
    left.wait()
    assert started("s")[0] == plan.runs[2].expid and len(started("s")) == 3
    times = [path.stat().st_mtime_ns for r in plan.runs for path in Path("s").glob(f"checkpoints/*/{r.expid}.json")]
    assert times[2] == min(times)  # it had ended before the others did, or began
    assert f"still run by process {left.pid}, left by a killed study" in capsys.readouterr().err


def test_sigterm_ends_a_study_like_ctrl_c():
    Path("s.yaml").write_text(yaml.safe_dump({**TINY, "scales": [1], "seeds": [1, 2], "settings": {"epochs": 50}}))
    code = "import sys; from fuxictr_me.study import run_process\n"
    code += "run_process.make_command = lambda run, device: [sys.executable, '-c', 'import time; time.sleep(60)']\n"
    code += "from fuxictr_me.commands.main import main; sys.exit(main(['study', 's.yaml']))"
    study = Forked(code=code)
    deadline = time.monotonic() + 100
    while not find_running_processes(Path("s")) and time.monotonic() < deadline:
        time.sleep(0.1)
    study.send_signal(signal.SIGTERM)
    _, errors = study.communicate(timeout=60)
    assert study.returncode == 130 and "fuxictr-me: error: interrupted" in errors.splitlines()[-1]
    assert find_running_processes(Path("s")) == {} and not list(Path("s").glob("failed/*"))
    assert "0 of 2 runs finished, 2 waiting" in status("s")
