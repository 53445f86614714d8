"""The studies that come with data sets: found by name, of known cost, and run whole on generated rows."""

from pathlib import Path

import pytest
import yaml
from helpers.sample_files import write_sample

from fuxictr_me.bars.check import check_entry
from fuxictr_me.commands.main import main
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.memory_limits import count_parameters
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.reports.study.report import write_study_report
from fuxictr_me.runs.find_feature_map import find_feature_map
from fuxictr_me.study.launch import launch_study
from fuxictr_me.study.plan_file import write_plan
from fuxictr_me.study.progress import read_progress
from fuxictr_me.study.study_data import prepare_data
from fuxictr_me.study.study_file import find_bundled_study, read_study
from fuxictr_me.study.study_layout import lay_out_study
from fuxictr_me.zoo.find_model import find_model

pytestmark = pytest.mark.usefixtures("own_folder")
NAMES = ("frappe_x1", "movielenslatest_x1", "criteo_x1", "avazu_x1")
# Of the runs that BARS' leaderboards name: number of parameters of DCNv2 and FinalMLP in their logs, and the value of
# embedding_regularizer. DCNv2's logs are older: their tables have one row of 10 numbers less per field.
PARAMETERS = {
    "frappe_x1": (458_391 + 10 * 10, 253_392),
    "movielenslatest_x1": (1_243_071 + 3 * 10, 1_040_902),
    "criteo_x1": (22_018_021 + 26 * 10, 22_478_162),
    "avazu_x1": (13_641_311 + 22 * 10, 13_979_472),
}
REGULARIZERS = {"frappe_x1": 0.05, "movielenslatest_x1": 0.01, "criteo_x1": 1e-5, "avazu_x1": 0.05}
TINY = {"DCNv2_ME": {"parallel_dnn_hidden_units": [8], "num_cross_layers": 1}}


def folder_of(name):
    return {"movielenslatest_x1": "MovielensLatest_x1"}.get(name, name.capitalize())


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_study_compares_both_models_with_the_ensemble(name):
    """With five seeds, four sizes and the same grid for each cell."""
    study = read_study(find_bundled_study(name))
    assert len(study.seeds) == 5 and study.notes == ()
    for model in ("DCNv2_ME", "FinalMLP_ME"):
        cells = [(cell.kind, cell.scale) for cell in study.cells if cell.model == model]
        assert cells == [("base", 1), *((kind, k) for kind in ("SE", "ME", "ensemble") for k in (2, 4, 10))]
    assert all(len(cell.grid["embedding_regularizer"]) == 4 for cell in study.cells)
    original = yaml.safe_load((find_bundled_folder("dataset_configs") / name / "dataset_config.yaml").read_text())[name]
    assert study.dataset == {**original, "data_format": "h5"}


@pytest.mark.parametrize("name", NAMES)
def test_the_base_has_the_parameters_of_bars_and_the_grid_brackets_its_regularizer(name):
    study = read_study(find_bundled_study(name))
    counted = []
    for cell in study.cells:
        if cell.kind == "base":
            params = {**cell.settings, **study.dataset, "dataset_id": study.dataset_id}
            counted.append(count_parameters(find_model(params["model"]), params, find_feature_map(params, None)[0]))
        values = sorted(cell.grid["embedding_regularizer"])
        assert REGULARIZERS[name] in values[1:-1]
    assert tuple(counted) == PARAMETERS[name]


def test_the_settings_of_frappe_are_those_of_the_measured_runs():
    cells = {cell.name: cell.settings for cell in read_study(find_bundled_study("frappe_x1")).cells}
    dcn, final = cells["DCNv2_ME_ME_10x"], cells["FinalMLP_ME_ME_10x"]
    assert (dcn["model_structure"], dcn["net_dropout"], dcn["num_cross_layers"]) == ("parallel", 0.4, 4)
    assert (final["num_heads"], final["fs1_context"], final["fs2_context"]) == (5, ["user"], ["item"])
    assert {(s["batch_size"], s["early_stop_patience"], s["weight_decay"]) for s in cells.values()} == {(4096, 2, 0)}


def test_named_models_keep_their_settings_in_the_file():
    whole, part = (read_study(find_bundled_study("avazu_x1"), models=m) for m in (None, ["FinalMLP_ME", "DNN_ME"]))
    base = {cell.name: cell.settings for cell in part.cells}
    assert base["FinalMLP_ME_base"] == next(c.settings for c in whole.cells if c.name == "FinalMLP_ME_base")
    assert "DNN_ME_base" in base and "DCNv2_ME_base" not in base
    with pytest.raises(UsageError, match="twice"):
        read_study(find_bundled_study("avazu_x1"), models=["DNN_ME", "DNN_ME"])


def test_own_files_come_before_bundled_studies(monkeypatch):
    assert find_bundled_study("frappe_x1").name == "study.yaml"
    assert find_bundled_study("../frappe_x1") is None and find_bundled_study("tiny_flights") is None
    Path("frappe_x1").mkdir()
    assert find_bundled_study("frappe_x1") is None
    with pytest.raises(UsageError, match="frappe_x1 is not a study"):
        launch_study("frappe_x1")


def test_the_dry_run_knows_the_cost_without_the_built_data():
    text = launch_study("movielenslatest_x1", kinds=["SE"], scales=[2], dry_run=True)
    write_sample("movielenslatest_x1", Path("data/MovielensLatest_x1"))
    with_files = launch_study("movielenslatest_x1", kinds=["SE"], scales=[2], dry_run=True)
    for output in (text, with_files):
        row = next(line for line in output.splitlines() if line.startswith("DCNv2_ME_base"))
        parameters = int(row.split()[6].replace(",", ""))  # after name, sets (1 x 10), runs, and runs left
        assert parameters > 10 * 90_000 and "?" not in row
    assert not Path("study_movielenslatest_x1").exists()


def make_small(name):
    """Write a copy of a bundled study with small networks, one model, one scale, one epoch."""
    content = yaml.safe_load(find_bundled_study(name).read_text())
    content["models"] = {model: {**content["models"][model], **changes} for model, changes in TINY.items()}
    content |= {"scales": [2], "seeds": [2021, 190034], "grid": {"embedding_regularizer": [0.05]}}
    content["config"] = str(find_bundled_study(name).parent)
    content["settings"] |= {"epochs": 1, "batch_size": 100}
    Path("small.yaml").write_text(yaml.safe_dump(content))


def test_a_study_of_frappe_runs_whole_and_becomes_an_entry_of_bars():
    """In this process, as the study's processes would; then the report, and the entry from the runs of one cell."""
    write_sample("frappe_x1", Path("data/Frappe_x1"))
    make_small("frappe_x1")
    folder = Path("small")
    folder.mkdir()
    study = read_study("small.yaml", kinds=["ME"])
    plan = prepare_data(lay_out_study(study, folder), folder)
    write_plan(plan, folder)
    with change_directory(folder):
        while due := read_progress(plan, Path()).due:
            for run in due:
                assert main(["run_expid", "--config", run.config, "--expid", run.expid]) == 0
    assert read_progress(plan, folder).finished == 4
    assert "ME" in write_study_report(folder)
    cell = "DCNv2_ME_ME_2x"
    expids = [run.expid for run in plan.runs_of_cell(cell)]
    assert main(["bars", *expids, "--config", f"small/tuner/{cell}", "--out", "entries", "--allow-fewer"]) == 0
    (entry,) = Path("entries").iterdir()
    assert not [result for result in check_entry(str(entry)) if result.is_bad]


@pytest.mark.parametrize("name", NAMES[1:])
def test_other_bundled_studies_can_be_laid_out_on_files_of_the_published_form(name):
    write_sample(name, Path("data") / folder_of(name))
    make_small(name)
    plan = lay_out_study(read_study("small.yaml", kinds=["ME"], seeds=[2021]), Path("small"))
    plan = prepare_data(plan, Path("small"))
    assert plan.data["rows"] == {"train": 300, "valid": 100, "test": 100}
