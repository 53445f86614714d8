"""Models that are not ours under our own commands: found, checked, run, analysed, compared and published."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.logs import close_logs
from helpers.own_models import MINE
from torch.utils.flop_counter import FlopCounterMode

from fuxictr_me import DCNv2_ME, MultiEmbeddingOf, UsageError, information_abundance
from fuxictr_me.bars.check import check_entry
from fuxictr_me.bars.check_result import OK, UNCHECKED
from fuxictr_me.bars.rerun import rerun
from fuxictr_me.bars.write_entry import write_entry
from fuxictr_me.commands.plan import plan_run
from fuxictr_me.config.known_keys import describe_unread_keys, find_required_keys
from fuxictr_me.config.model_registry import is_wrapped
from fuxictr_me.config.training_settings import check_model_settings
from fuxictr_me.data import H5DataLoader, build_h5
from fuxictr_me.data.building.convert_ids import convert_set
from fuxictr_me.estimates import simulate
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.reports.collapse.report import report_run
from fuxictr_me.reports.study.metric_values import is_lower_better
from fuxictr_me.reports.study.report import write_study_report
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import find_run, load_trained
from fuxictr_me.runs.run_data import load_feature_map, load_split
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.study.design import design_study
from fuxictr_me.study.gather_results import read_abundance
from fuxictr_me.study.launch import launch_study
from fuxictr_me.study.plan_file import read_plan
from fuxictr_me.study.progress import read_progress
from fuxictr_me.study.run_process import find_model_variables
from fuxictr_me.study.study_layout import lay_out_study
from fuxictr_me.zoo.find_model import find_model

TINY = find_bundled_folder("dataset_configs") / "tiny_flights"
SOURCE = os.environ.get("FUXICTR_SRC")
WITH_SOURCE = pytest.mark.skipif(not SOURCE, reason="FUXICTR_SRC names no checkout of FuxiCTR")
SETTINGS = {"model": "mine_any:WideDNN", "dataset_id": "tiny_flights", "model_root": "./checkpoints/", "verbose": 0}
SETTINGS |= {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "epochs": 1}
SETTINGS |= {"metrics": ["AUC", "logloss"], "batch_size": 128, "learning_rate": 1e-2, "embedding_regularizer": 1e-6}
SETTINGS |= {"embedding_dim": 4, "hidden_units": [16, 8], "seed": 7, "callbacks": ["InformationAbundance"]}


def write_config(runs, folder="config", **data):
    """A config folder of tiny_flights, as H5."""
    datasets = yaml.safe_load((TINY / "dataset_config.yaml").read_text())
    datasets["tiny_flights"] |= {f"{split}_data": str(TINY / f"{split}.csv") for split in ("train", "valid", "test")}
    datasets["tiny_flights"] |= {"data_format": "h5", **data}
    Path(folder).mkdir(exist_ok=True)
    Path(folder, "dataset_config.yaml").write_text(yaml.safe_dump(datasets))
    Path(folder, "model_config.yaml").write_text(yaml.safe_dump({k: {**SETTINGS, **v} for k, v in runs.items()}))
    return folder


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch):
    """What a test imports by name is forgotten afterwards, and no checkout is there unless it says so."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("FUXICTR_SRC", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "model_zoo" or name.endswith("_any"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with ``mine_any.py``, its config, and two finished runs of it, of one set and of two."""
    folder = tmp_path_factory.mktemp("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        Path("mine_any.py").write_text(MINE)
        own = {"model": "mine_any:OwnSets", "num_sets": 3}
        write_config({"one": {"hidden_unit": 3}, "two": {"num_sets": 2}, "WideDNN_default": {}, "own": own})
        for expid in ("one", "two"):
            run_expid(expid, "config")
        close_logs()
        del sys.modules["mine_any"]
    return folder


@pytest.fixture
def mine(finished, own_folder, tmp_path):
    """The test runs in a copy of ``finished``."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder like a checkout of FuxiCTR: one model that the zoo exports, one that it does not, a config."""
    entry = tmp_path / "checkout" / "model_zoo" / "WideDNN"
    (entry / "src").mkdir(parents=True)
    (entry / "config").mkdir()
    (entry.parent / "__init__.py").write_text("from .WideDNN.src import WideDNN\n")
    (entry / "src" / "__init__.py").write_text("from .WideDNN import WideDNN\n")
    (entry / "src" / "WideDNN.py").write_text(MINE)
    config = {"WideDNN_default": {**SETTINGS, "model": "WideDNN", "dataset_id": "TBD", "embedding_dim": 6}}
    (entry / "config" / "model_config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("FUXICTR_SRC", str(tmp_path / "checkout"))
    return tmp_path / "checkout"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# --- what model: means


def test_a_model_of_ours_a_class_of_ones_own_and_one_of_the_zoo(mine, checkout):
    assert find_model("DCNv2_ME") is DCNv2_ME
    assert "model_zoo" not in sys.modules  # it was not named
    own = find_model("mine_any:WideDNN")
    assert own is MultiEmbeddingOf(sys.modules["mine_any"].WideDNN) and own.__name__ == "WideDNN_ME"
    zoo = find_model("WideDNN")
    assert zoo.__module__ == "model_zoo.WideDNN.src.WideDNN" and zoo is not own
    assert find_model("model_zoo.WideDNN.src.WideDNN:TwoTowers").__name__ == "TwoTowers_ME"
    assert not is_wrapped(find_model("mine_any:OwnSets"))  # its constructor takes num_sets itself


def test_a_module_in_a_listed_folder_and_one_in_a_folder_that_was_named(tmp_path, own_folder, monkeypatch):
    Path("beside").mkdir()
    Path("beside/elsewhere_any.py").write_text(MINE)
    with pytest.raises(UsageError, match="unknown module 'elsewhere_any'"):
        find_model("elsewhere_any:WideDNN")
    monkeypatch.setenv("FUXICTR_ME_PATH", f"nowhere{os.pathsep}beside")
    assert find_model("elsewhere_any:WideDNN").__name__ == "WideDNN_ME"
    monkeypatch.delenv("FUXICTR_ME_PATH")
    del sys.modules["elsewhere_any"]
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("beside")])
    with pytest.raises(UsageError, match="elsewhere_any lies in beside, and code beside a config runs only if"):
        find_model("elsewhere_any:WideDNN", "beside")
    assert find_model("elsewhere_any:WideDNN", named="beside").__name__ == "WideDNN_ME"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("WideDN", "unknown model 'WideDN'; did you mean 'WideDNN'"),
        ("WideDN", "looked in .*checkout/model_zoo; name your own class as package.module:Class"),
        ("DCNv2", "unknown model 'DCNv2'; did you mean 'DCNv2_ME'"),
        ("mine_any:WideDN", r"unknown class in mine_any \(.*mine_any.py\) 'WideDN'; did you mean 'WideDNN'"),
        ("mine_an:WideDNN", "unknown module 'mine_an'; did you mean 'mine_any'.*looked in .* and on Python's path"),
        ("mine_any:NoModel", "model 'mine_any:NoModel' is not a subclass of fuxictr.pytorch.models.BaseModel"),
        ("mine_any/x:WideDNN", "model 'mine_any/x:WideDNN' is not a class: write package.module:Class"),
        ("broken_any:Net", r"cannot be imported: ZeroDivisionError: division by zero \(.*broken_any.py:2\)"),
        ("lacking_any:Net", "cannot be imported: it needs the package not_there_at_all: install it"),
        (None, "unknown model None"),
    ],
)
def test_what_is_no_model_is_named_in_one_line(mine, checkout, name, words):
    Path("broken_any.py").write_text("\n1 / 0\n")
    Path("lacking_any.py").write_text("import not_there_at_all\n")
    with pytest.raises(UsageError, match=words) as error:
        find_model(name)
    assert "\n" not in str(error.value)


def test_the_zoo_is_not_there_is_elsewhere_or_lacks_a_package(mine, checkout, monkeypatch):
    (checkout / "model_zoo" / "__init__.py").write_text("import not_there_at_all\n")
    with pytest.raises(UsageError, match=r"FuxiCTR's model_zoo in .* cannot be imported: it needs the package not_th"):
        find_model("WideDNN")
    monkeypatch.setenv("FUXICTR_SRC", str(mine / "config"))
    with pytest.raises(UsageError, match=r"FUXICTR_SRC is .*config, which has no model_zoo/__init__.py"):
        find_model("WideDNN")
    monkeypatch.delenv("FUXICTR_SRC")
    with pytest.raises(UsageError, match="for FuxiCTR's models, set FUXICTR_SRC to a checkout of reczoo/FuxiCTR"):
        find_model("AutoInt")
    with pytest.raises(UsageError, match="there is no FuxiCTR checkout here; set FUXICTR_SRC"):
        find_model("model_zoo.GDCN.src.GDCN:GDCNP")
    (checkout / "model_zoo" / "__init__.py").write_text("from .WideDNN.src import WideDNN\n")
    monkeypatch.chdir(checkout)
    assert find_model("WideDNN").__name__ == "WideDNN_ME"  # of the working directory


# --- settings


def test_keys_that_nobody_reads_are_named_with_the_nearest(mine):
    cls = find_model("mine_any:WideDNN")
    assert (
        describe_unread_keys(cls, load_settings("config", "two")) == ""
    )  # merge, num_sets, callbacks, H5's keys are read
    assert describe_unread_keys(cls, load_settings("config", "one")) == (
        "settings that neither FuxiCTR nor WideDNN reads: 'hidden_unit' (did you mean 'hidden_units'?)"
    )
    assert find_required_keys(cls) == ["loss", "optimizer", "metrics", "model_root", "verbose"]
    for key in ("metrics", "model_root", "verbose"):  # have the defaults that they have in our models
        write_config({"bare": {}})
        bare = yaml.safe_load(Path("config/model_config.yaml").read_text())
        del bare["bare"][key]
        Path("config/model_config.yaml").write_text(yaml.safe_dump(bare))
        assert load_settings("config", "bare")[key] in (["AUC", "logloss"], "./checkpoints/", 1)

    class Given(sys.modules["mine_any"].WideDNN):
        def __init__(self, feature_map, depth, **kwargs):
            super().__init__(feature_map, metrics=["AUC"], verbose=0, **kwargs)

    assert find_required_keys(Given) == ["depth", "loss", "optimizer", "model_root"]


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        ("WideDNN", {"num_sets": 0}, "num_sets must be an integer of 1 or more, got 0"),
        ("WideDNN", {"num_sets": True}, "num_sets must be an integer of 1 or more, got True"),
        ("WideDNN", {"merge": ["dnn", 3]}, "merge must be logits, a module's path like dnn"),
        ("WideDNN", {"batched": "yes"}, "batched must be True or False"),
        ("WideDNN", {"batch_size": 0}, "batch_size must be an integer of 1 or more, got 0"),
        ("WideDNN", {"net_regularizer": 1}, "net_regularizer must be a positive float"),
        ("WideDNN", {"optimizer": None, "loss": None}, "the model reads loss, optimizer and has no default for it"),
        ("WideDNN", {"task": ["regression"]}, "unknown task"),
        ("TwoTowers", {"task": ["regression", "click"], "num_tasks": 2}, "unknown task 'click'"),
        ("TwoTowers", {"task": ["regression"], "num_tasks": 2}, "task lists 1, but num_tasks is 2"),
        ("TwoTowers", {"loss": ["mse_loss"] * 3, "num_tasks": 2}, "loss lists 3, but num_tasks is 2"),
        (
            "TwoTowers",
            {"num_tasks": 2, "task_sets": True, "num_sets": 2},
            "one set for all tasks and one for each task make",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(mine, model, change, words):
    settings = {key: value for key, value in {**SETTINGS, **change}.items() if value is not None}
    with pytest.raises(UsageError, match=words):
        check_model_settings(find_model(f"mine_any:{model}"), settings)


# --- a run


def test_one_set_is_fuxictrs_own_training_of_the_class(mine):
    params = load_settings("config", "one")
    params.update(build_h5(params))
    feature_map = load_feature_map(Path("data/tiny_flights"), params)
    find_model(params["model"])
    plain = sys.modules["mine_any"].WideDNN
    assert plain.fit is BaseModel.fit
    seed_everything(seed=7)
    model = plain(feature_map, **{**params, "model_id": "plain"})
    train, valid, test = (load_split(feature_map, params, split) for split in ("train", "valid", "test"))
    model.fit(train, validation_data=valid, epochs=1)
    expected = model.evaluate(test)
    result = json.loads(Path("checkpoints/tiny_flights/one.json").read_text())
    assert result["test"] == dict(expected)
    saved = load_state_dict("checkpoints/tiny_flights/one.model")
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


def test_a_run_leaves_what_a_run_of_ours_leaves(mine):
    folder = Path("checkpoints/tiny_flights")
    endings = ("model", "log", "ia.csv", "json")
    assert {p.name for p in folder.iterdir()} == {f"{expid}.{x}" for expid in ("one", "two") for x in endings}
    one, two = (json.loads((folder / f"{expid}.json").read_text()) for expid in ("one", "two"))
    ids = sum(spec.get("vocab_size", 1) for spec in load_trained("two", "config").feature_map.features.values())
    embeddings = [result["parameters"] - result["parameters_without_embeddings"] for result in (one, two)]
    assert embeddings == [4 * ids + ids, 2 * 4 * ids + ids]  # the linear terms once
    assert two["model"] == "mine_any:WideDNN" and two["settings"]["num_sets"] == 2
    assert two["model_source"]["class"] == "mine_any:WideDNN" and two["model_source"]["file"] == "mine_any.py"
    assert two["model_source"]["origin"] == "own" and two["model_source"]["wrapped"]
    assert Path("config.csv").read_text().count("[exp_id] two,") == 1
    warning = "WARNING settings that neither FuxiCTR nor WideDNN reads: 'hidden_unit' (did you mean 'hidden_units'?)"
    assert warning in (folder / "one.log").read_text()
    log = (folder / "two.log").read_text()
    assert "WARNING" not in log and "Merge points: >dnn.mlp.2" in log


def test_the_ia_file_and_the_report_know_both_sets(mine):
    weights = load_state_dict("checkpoints/tiny_flights/two.model")
    best = [row for row in rows_of("checkpoints/tiny_flights/two.ia.csv") if row["event"] == "best"]
    fields = list(dict.fromkeys(row["field"] for row in best))
    assert [(row["field"], row["set"]) for row in best] == [(f, s) for f in fields for s in ("0", "1", "all")]
    assert len(fields) == 8 and {row["layer"] for row in best} == {"embedding_layer"}
    name = "embedding_layer.embedding_layer.embedding_layers.{}.weight"
    for row in best:
        sets = [weights[f"{prefix}{name.format(row['field'])}"][1:] for prefix in ("", "sets.1.")]  # no padding row
        table = {"0": sets[0], "1": sets[1], "all": torch.cat(sets, dim=1)}[row["set"]]
        assert float(row["ia"]) == pytest.approx(information_abundance(table), rel=1e-5)
    report = report_run(find_run("two", "config"))
    assert "the 2 sets side by side" in report["verdict"]["headline"]
    assert [(layer["layer"], layer["num_sets"]) for layer in report["layers"]] == [("embedding_layer", 2)]
    assert report["model"] == "WideDNN"


def test_a_class_with_sets_of_its_own_is_not_wrapped(mine):
    result = run_expid("own", "config")
    assert load_trained("own", "config").embedding_layer.num_sets == 3 and not result["model_source"]["wrapped"]
    sets = [row["set"] for row in rows_of("checkpoints/tiny_flights/own.ia.csv") if row["field"] == "origin"]
    assert sets == ["0", "1", "2", "all"] * 2
    with pytest.raises(UsageError, match="num_sets: the model takes merge itself and cannot be wrapped"):
        Path("renamed_any.py").write_text(MINE.replace("num_sets", "merge"))
        check_model_settings(find_model("renamed_any:OwnSets"), {**SETTINGS, "num_sets": 2})


# --- several labels


@pytest.fixture
def two_labels(mine):
    """tiny_flights with a second label: whether the flight goes far."""
    for split in ("train", "valid", "test"):
        table = pd.read_csv(TINY / f"{split}.csv", dtype=str)
        table["far"] = (table["distance"].astype(float) > 1000).astype(int)
        table.to_csv(f"{split}.csv", index=False)
    data = {f"{split}_data": f"{split}.csv" for split in ("train", "valid", "test")}
    return {**data, "label_col": [{"name": "late", "dtype": "float"}, {"name": "far", "dtype": "float"}]}


@pytest.mark.parametrize("data_format", ["h5", "csv"])
def test_a_multi_task_model_with_a_set_a_task(two_labels, data_format):
    tasks = {"num_tasks": 2, "task": ["binary_classification"] * 2, "loss": ["binary_crossentropy"] * 2}
    settings = {"model": "mine_any:TwoTowers", **tasks, "task_sets": True, "num_sets": 3}
    write_config({"both": settings}, **two_labels, data_format=data_format)
    result = run_expid("both", "config")
    assert list(result["test"]) == ["late_AUC", "late_logloss", "far_AUC", "far_logloss", "AUC", "logloss"]
    assert result["test"]["AUC"] == pytest.approx((result["test"]["late_AUC"] + result["test"]["far_AUC"]) / 2)
    assert result["test"]["far_AUC"] > 0.9  # the distance is a feature
    log = Path("checkpoints/tiny_flights/both.log").read_text()
    assert f"[Metrics] late_AUC: {result['test']['late_AUC']:.6f} - " in log
    if data_format == "h5":
        write_entry(["both"], "config", allow_fewer=True)
        assert not [finding for finding in check_entry("TwoTowers_ME_tiny_flights") if finding.is_bad]
    three = {"num_tasks": 3, "task": "binary_classification", "loss": "binary_crossentropy", "num_sets": 4}
    write_config({"both": settings | three}, **two_labels)
    with pytest.raises(UsageError, match="num_tasks is 3, but the data have 2 labels: late, far"):
        run_expid("both", "config")


def test_batches_of_several_labels_from_h5(two_labels):
    write_config({"both": {"model": "mine_any:TwoTowers", "num_tasks": 2}}, **two_labels)
    params = load_settings("config", "both")
    params.update(build_h5(params))
    feature_map = load_feature_map(Path("data/tiny_flights"), params)
    raw = pd.read_csv("valid.csv")
    for placement in ("memory", "stream"):
        loader = H5DataLoader(feature_map, params["valid_data"], batch_size=64, data_placement=placement)
        batches = list(loader)
        for label in ("late", "far"):
            assert torch.cat([batch[label] for batch in batches]).tolist() == raw[label].tolist()


def test_each_label_is_checked_by_its_own_task(two_labels):
    table = pd.read_csv("valid.csv")
    table["far"] = table["distance"] / 100
    table.to_csv("valid.csv", index=False)
    write_config({"both": {"model": "mine_any:TwoTowers", "num_tasks": 2}}, **two_labels)
    tasks = ["binary_classification", "regression"]
    params = load_settings("config", "both") | {"task": tasks}
    params.update(build_h5(params))
    feature_map = load_feature_map(Path("data/tiny_flights"), params)
    assert len(list(H5DataLoader(feature_map, params["valid_data"], batch_size=200, task=tasks))) == 2
    with pytest.raises(UsageError, match="label 'far' must be 0 or 1 for binary_classification"):
        list(H5DataLoader(feature_map, params["valid_data"], batch_size=200, task=tasks[:1] * 2))


# --- a study


@pytest.mark.slow
def test_a_study_of_a_class_of_ones_own(mine):
    study = {"dataset_id": "tiny_flights", "config": "config", "models": ["mine_any:WideDNN"], "kinds": ["ME"]}
    Path("s.yaml").write_text(yaml.safe_dump({**study, "scales": [2], "seeds": [1, 2]}))
    assert "4 of 4 runs finished" in launch_study("s.yaml", out="far/away", jobs=2)
    folder = Path("far/away")
    plan = read_plan(folder)
    assert list(plan.cells) == ["WideDNN_base", "WideDNN_ME_2x"] and plan.environment == {"FUXICTR_ME_PATH": ["../.."]}
    results = read_progress(plan, folder).results
    sets = [(r["model"], r["settings"]["num_sets"], r["settings"]["embedding_dim"]) for r in results.values()]
    assert sorted(sets) == [("mine_any:WideDNN", 1, 4)] * 2 + [("mine_any:WideDNN", 2, 4)] * 2
    assert all(result["model_source"]["file"] == "mine_any.py" for result in results.values())
    write_study_report(folder)
    report = (folder / "report" / "report.md").read_text()
    assert "| WideDNN |" in report and "mine_any" not in report and "published" not in report


def test_a_study_of_a_model_of_the_zoo_starts_from_the_checkouts_own_config(mine, checkout, monkeypatch):
    kinds = ["SE", "ME", {"L": {"merge": "logits"}}]
    study = design_study("s", "tiny_flights", {"WideDNN": {"merge": "dnn"}}, scales=[3], kinds=kinds)
    sizes = {c.name: tuple(c.settings[k] for k in ("num_sets", "embedding_dim", "merge")) for c in study.cells}
    assert sizes == {
        "WideDNN_base": (1, 6, "dnn"),
        "WideDNN_SE_3x": (1, 18, "dnn"),
        "WideDNN_ME_3x": (3, 6, "dnn"),
        "WideDNN_L_3x": (3, 6, "logits"),
    }
    monkeypatch.setenv("FUXICTR_SRC", "checkout")  # seen from here; runs start in the study's folder
    plan = lay_out_study(study, Path("far/away"))
    assert plan.environment == {"FUXICTR_SRC": ["../../checkout"]}
    assert find_model_variables(plan, Path("far/away")) == {"FUXICTR_SRC": str(checkout)}
    own = design_study("s", "tiny_flights", ["mine_any:WideDNN"], scales=[2], config="config")
    assert {cell.settings["embedding_dim"] for cell in own.cells} == {4, 8}  # of the study's own folder


def test_a_foreign_model_goes_without_the_ensemble_that_it_cannot_be(mine, checkout):
    study = design_study("s", "tiny_flights", ["mine_any:WideDNN"], scales=[2], config="config")
    assert [cell.kind for cell in study.cells] == ["base", "SE", "ME"]
    (note,) = study.notes
    assert note.startswith("WideDNN has no ensemble control, because it does not read the setting aggregation")


def test_fields_of_several_layers_are_told_apart_and_losses_of_tasks_are_losses(tmp_path):
    row = {"event": "best", "set": "all", "num_ids": 9, "dim": 4, "ia": 2.0, "ia_ratio": 0.5, "ia_random": ""}
    rows = [{"layer": layer, "field": "a", **row} for layer in ("embedding_layer", "fg_embedding_layer")]
    for count, names in ((1, ["a"]), (2, ["a (embedding_layer)", "a (fg_embedding_layer)"])):
        with open(tmp_path / "x.ia.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[:count])
        assert [field["field"] for field in read_abundance(tmp_path / "x.ia.csv")] == names
    assert is_lower_better("logloss") and is_lower_better("late_logloss") and not is_lower_better("late_AUC")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kinds": ["ensemble"]}, "kind ensemble sets aggregation, which neither FuxiCTR nor WideDNN reads; to aver"),
        ({"kinds": ["ME-SI"]}, "kind ME-SI sets shared_interaction, which neither FuxiCTR nor WideDNN reads"),
        ({"grid": {"net_dropout": [0, 0.1]}}, "sets net_dropout, which neither FuxiCTR nor WideDNN reads"),
        ({"config": None}, "a study of mine_any:WideDNN starts from its entry WideDNN_default: name the config folder"),
        ({"models": ["mine_any:WideDNN", "WideDNN"]}, "two models of a study are called WideDNN"),
        ({"models": ["mine_any:DNN_ME"]}, "has the name of a fuxictr-me model"),
        (
            {"models": {"mine_any:WideDNN": {"expid": "own"}}},
            "own in config is of model 'mine_any:OwnSets', not mine_any",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused_when_it_is_planned(mine, checkout, change, words):
    asked = {"models": ["mine_any:WideDNN"], "config": "config", "scales": [2], **change}
    with pytest.raises(UsageError, match=words):
        design_study("s", "tiny_flights", **asked)


# --- a plan


@pytest.mark.parametrize("num_sets", [1, 3])
def test_a_plan_counts_what_a_real_step_does(mine, num_sets):
    cls = find_model("mine_any:WideDNN")
    feature_map = make_feature_map({f"f{i}": categorical(50 + i) for i in range(4)}, mine, embedding_dim=4)
    settings = {**MODEL, "model_root": "unused", "metrics": ["AUC"], "embedding_dim": 4, "num_sets": num_sets}
    model = cls(feature_map, **settings).train()
    model._max_gradient_norm = 10.0
    with FlopCounterMode(display=False) as counter:
        model.train_step(make_batch(feature_map, rows=32))
    found = simulate(cls, feature_map, {**settings, "batch_size": 32})
    assert sum(operation.flops for operation in found.operations) == counter.get_total_flops() > 0
    assert found.parameters == model.num_parameters()
    trained = 4 * sum(p.numel() for p in model.parameters())
    state = sum(value.numel() * value.element_size() for s in model.optimizer.state.values() for value in s.values())
    assert found.memory.weights >= trained and found.memory.optimizer_state == state


def test_a_plan_says_what_does_not_apply_and_refuses_what_looks_at_data(mine):
    assert "WideDNN is trained by FuxiCTR's own steps, one set after the other." in plan_run("two", "config")
    write_config({"data": {"model": "mine_any:LooksAtData"}})
    with pytest.raises(UsageError, match="time of LooksAtData cannot be estimated: its code fails on tensors"):
        plan_run("data", "config")


# --- an entry of BARS


def test_an_entry_holds_the_class_and_can_be_run_again(mine):
    assert "WideDNN_ME_tiny_flights: 1 runs" in write_entry(["two"], "config", allow_fewer=True)
    folder = Path("WideDNN_ME_tiny_flights")
    assert (folder / "mine_any.py").read_text() == MINE
    assert not [finding for finding in check_entry(folder) if finding.is_bad]
    readme = (folder / "README.md").read_text()
    assert (
        "WideDNN is the author's own model. Its code is in this folder: `mine_any.py`, md5 " in readme
        and "num_sets 2, embedding_dim 4" in readme
    )
    assert "`MultiEmbeddingOf` of fuxictr-me" in readme
    assert (
        (folder / "leaderboard_row.csv").read_text().splitlines()[1].startswith("2024,ICML'24,WideDNN_ME,https://arxiv")
    )
    assert (folder / "WideDNN_ME_tiny_flights_tuner_config_01.yaml").exists()
    Path("mine_any.py").unlink()
    (finding,) = rerun(folder, data_root=TINY.parent)
    assert finding.verdict == OK, finding
    (folder / "mine_any.py").unlink()
    del sys.modules["mine_any"]
    (finding,) = rerun(folder, data_root=TINY.parent)
    assert finding.verdict == UNCHECKED and "unknown module 'mine_any'" in finding.detail


def test_an_entry_of_one_set_is_no_multi_embedding_and_code_that_changed_is_no_entry(mine):
    write_entry(["one"], "config", allow_fewer=True)
    readme = Path("WideDNN_tiny_flights/README.md").read_text()
    assert "It ran unchanged under fuxictr-me" in readme and "MultiEmbeddingOf" not in readme
    row = Path("WideDNN_tiny_flights/leaderboard_row.csv").read_text().splitlines()[1]
    assert row.startswith(",,WideDNN,,0.")
    Path("mine_any.py").write_text(MINE + "\n# another\n")
    with pytest.raises(UsageError, match=r"mine_any.py, with which two ran .* exists neither in"):
        write_entry(["two"], "config", allow_fewer=True)


def test_an_entry_of_the_zoo_names_the_checkout(mine, checkout):
    write_config({"zoo": {"model": "WideDNN", "num_sets": 2}})
    assert run_expid("zoo", "config")["model_source"]["origin"] == "FuxiCTR of no known commit"
    write_entry(["zoo"], "config", allow_fewer=True)
    readme = Path("WideDNN_ME_tiny_flights/README.md").read_text()
    assert "is in the model zoo of FuxiCTR of no known commit: `model_zoo/WideDNN/src/WideDNN.py`, md5 " in readme
    assert "    export FUXICTR_SRC=$PWD/FuxiCTR\n" in readme
    assert not list(Path("WideDNN_ME_tiny_flights").glob("*/WideDNN.py"))


# --- FuxiCTR's own


@WITH_SOURCE
def test_autoint_and_din_of_fuxictrs_zoo(own_folder, monkeypatch):
    monkeypatch.setenv("FUXICTR_SRC", SOURCE)
    zoo = Path(SOURCE, "model_zoo").resolve()
    convert_set(zoo.parent / "data" / "tiny_seq", Path("tiny_seq"))
    sets = {"AutoInt": (zoo.parent / "data", "tiny_parquet", "parquet"), "DIN": (Path(), "tiny_seq", "h5")}
    for name, (root, dataset_id, kind) in sets.items():
        entries = yaml.safe_load((zoo / name / "config" / "model_config.yaml").read_text())
        settings = {**entries["Base"], **entries[f"{name}_test"], "num_sets": 2, "verbose": 0}
        settings["callbacks"] = ["InformationAbundance"]
        data = {f"{split}_data": f"{root}/{dataset_id}/{split}.{kind}" for split in ("train", "valid", "test")}
        Path("config").mkdir(exist_ok=True)
        Path("config/model_config.yaml").write_text(
            yaml.safe_dump({name: {**settings, "callbacks": ["InformationAbundance"]}})
        )
        Path("config/dataset_config.yaml").write_text(
            yaml.safe_dump({dataset_id: {**data, "data_root": str(root), "data_format": kind}})
        )
        result = run_expid(name, "config")
        assert result["model_source"]["origin"].startswith("FuxiCTR ") and 0 < result["test"]["AUC"] < 1
        rows = rows_of(f"checkpoints/{dataset_id}/{name}.ia.csv")
        assert [row["set"] for row in rows[:3]] == ["0", "1", "all"]
