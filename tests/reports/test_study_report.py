"""From a study's files to its report: what is gathered, what is written, what is refused."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run_cli

from fuxictr_me.errors import UsageError
from fuxictr_me.reports.study import captioned_figures
from fuxictr_me.reports.study.report import write_study_report
from fuxictr_me.study.design import design_study
from fuxictr_me.study.gather_results import gather_results
from fuxictr_me.study.plan_file import write_plan
from fuxictr_me.study.study_layout import lay_out_study

pytestmark = pytest.mark.usefixtures("own_folder")
SEEDS = [1, 2, 3, 4, 5, 6]
REGULARIZERS = [1e-5, 1e-3]
IA_FILE = """event,epoch,step,layer,field,set,num_ids,dim,ia,ia_ratio,ia_random
evaluation,1,10,embedding_layer,carrier,all,16,{dim},1.0,0.1,3.0
best,1,10,embedding_layer,carrier,0,16,4,9.0,0.9,3.5
best,1,10,embedding_layer,carrier,all,16,{dim},{ia},{ratio},3.5
best,1,10,embedding_layer,hour,all,24,{dim},2.0,0.25,
"""


def auc_of(settings):
    """Test AUC that is planted: it grows with the size, more so for ME; 1e-3 is the better regulariser."""
    size = settings["num_sets"] * settings["embedding_dim"] / 4
    noise = np.random.default_rng([settings["seed"], settings["num_sets"], settings["embedding_dim"]]).normal(0, 1e-4)
    gain = 0.002 if settings["num_sets"] > 1 else 0.001
    return 0.7 + gain * np.log2(size) + noise - (0.01 if settings["embedding_regularizer"] < 1e-4 else 0)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """The plan and the folder of a study whose runs are finished, but for the last seed of the largest ME."""
    folder = tmp_path_factory.mktemp("studies") / "s"
    folder.mkdir()
    models = {"DNN_ME": {"expid": "DNN_ME_test", "epochs": 1}}
    grid = {"embedding_regularizer": REGULARIZERS}
    parts = {"kinds": ["SE", "ME"], "scales": [2, 4], "seeds": SEEDS, "grid": grid}
    plan = lay_out_study(design_study("mine", "tiny_flights", models, **parts), folder)
    write_plan(plan, folder)
    for run in plan.runs:
        s = run.settings
        chosen = s["embedding_regularizer"] == REGULARIZERS[1]
        if (s["seed"] != 1 and not chosen) or (s["num_sets"] == 4 and s["seed"] == SEEDS[-1]):
            continue
        auc = auc_of(s)
        result = {"expid": run.expid, "settings": s, "model": s["model"], "dataset_id": s["dataset_id"]}
        result |= {"settings_digest": run.settings_digest}
        result |= {"valid": {"AUC": auc + 0.001, "logloss": 0.5}, "test": {"AUC": auc, "logloss": 1 - auc}}
        result |= {"parameters": 1000 * s["num_sets"] * s["embedding_dim"], "parameters_without_embeddings": 500}
        result |= {"seconds": 2.0, "steps": 100, "versions": {"torch": "2"}, "peak_memory": 5_000_000}
        out = folder / "checkpoints" / s["dataset_id"]
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{run.expid}.json").write_text(json.dumps(result))
        dim = s["num_sets"] * s["embedding_dim"]
        ia = 2.0 + s["num_sets"] + s["seed"] / 100
        (out / f"{run.expid}.ia.csv").write_text(IA_FILE.format(dim=dim, ia=ia, ratio=ia / min(dim, 16)))
    return plan, folder


@pytest.fixture
def study(laid_out):
    """The plan, and a copy of the folder."""
    plan, folder = laid_out
    return plan, Path(shutil.copytree(folder, "s"))


@pytest.fixture
def few_figures(monkeypatch):
    """Reports have their first figure alone: drawing takes most of their time."""
    draw = captioned_figures.draw_figures
    monkeypatch.setattr(captioned_figures, "draw_figures", lambda *given: itertools.islice(draw(*given), 1))


def test_results_are_gathered_from_the_files_of_runs(study):
    plan, folder = study
    results = gather_results(plan, folder)
    assert [cell.title for cell in results.cells] == ["base", "SE 2x", "SE 4x", "ME 2x", "ME 4x"]
    assert (results.seeds, results.monitor, results.monitor_mode) == (tuple(SEEDS), "AUC", "max")
    assert results.grid == {key: {"embedding_regularizer": REGULARIZERS} for key in ["base", "SE", "ME"]}
    assert "embedding_regularizer" not in results.shared
    assert results.shared["batch_size"] == 64
    for cell in results.cells:
        assert cell.chosen == {"embedding_regularizer": 1e-3}
        assert [values["embedding_regularizer"] for values, _ in cell.tried] == REGULARIZERS
        assert [run.seed for run in cell.runs] == (SEEDS[:-1] if cell.title == "ME 4x" else SEEDS)
        for run in cell.runs:
            settings = {"seed": run.seed, "num_sets": cell.num_sets, "embedding_dim": cell.embedding_dim}
            assert run.test["AUC"] == auc_of({**settings, "embedding_regularizer": 1e-3})
            assert run.embedding_parameters == 1000 * cell.num_sets * cell.embedding_dim - 500
            carrier, hour = run.abundance
            assert carrier["ia"] == pytest.approx(2.0 + cell.num_sets + run.seed / 100)
            assert (carrier["field"], carrier["num_ids"], hour["ia_random"]) == ("carrier", 16, None)
            assert isinstance(carrier["num_ids"], int)


def test_report_has_all_files_and_their_numbers(study):
    _, folder = study
    text = write_study_report(folder)
    report = folder / "report"
    names = {path.name for path in report.iterdir()}
    assert names == {
        *("report.html", "report.md", "report.json", "figures", "means.csv", "runs.csv", "cost.csv", "differences.csv"),
        "scaling.csv",
        *("test_AUC.tex", "test_logloss.tex"),
    }
    with (report / "means.csv").open() as file:
        means = {(r["kind"], r["scale"], r["metric"]): r for r in csv.DictReader(file)}
    for kind, scale, sets, dim, seeds in (("ME", 2, 2, 4, SEEDS), ("SE", 4, 1, 16, SEEDS), ("ME", 4, 4, 4, SEEDS[:-1])):
        common = {"num_sets": sets, "embedding_dim": dim, "embedding_regularizer": 1e-3}
        expected = [auc_of({**common, "seed": seed}) for seed in seeds]
        row = means[kind, str(scale), "AUC"]
        assert float(row["mean"]) == pytest.approx(np.mean(expected), abs=1e-12)
        assert float(row["sd"]) == pytest.approx(np.std(expected, ddof=1), abs=1e-12)
        assert int(row["n"]) == len(seeds)
    written = (report / "report.md").read_text()
    assert "ME ahead" in text
    assert "ME ahead" in written
    assert "(5 of 6)" in written  # the cell with a seed missing
    page = (report / "report.html").read_text()
    assert all(line.removeprefix("- ").split(";")[0][:40] in page for line in text.splitlines()[:1])
    drawn = {path.name for path in (report / "figures").glob("*.png")}
    linked = {line.split("figures/")[1].rstrip(")") for line in written.splitlines() if line.startswith("![")}
    assert linked == drawn
    assert {"auc_by_size.png", "differences.png", "abundance_by_size.png", "pareto_bytes.png"} <= drawn
    assert len(list((report / "figures").glob("*.svg"))) == len(drawn)


def test_only_files_of_an_earlier_report_are_replaced(study, few_figures):
    _, folder = study
    write_study_report(folder)
    (folder / "report" / "notes.txt").write_text("mine")
    gone = folder / "report" / "test_old.tex"
    gone.write_text("of the report before")
    mark = json.loads((folder / "report" / "report.json").read_text())
    (folder / "report" / "report.json").write_text(json.dumps({**mark, "files": [*mark["files"], gone.name]}))
    write_study_report(folder)
    assert not gone.exists()
    assert (folder / "report" / "notes.txt").read_text() == "mine"
    other = Path("mine")
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="mine exists and is not a study report"):
        write_study_report(folder, "mine")
    assert (other / "thesis.txt").read_text() == "mine"
    assert not list(Path().glob(".building-*"))
    assert not list(folder.glob(".building-*"))


def test_study_without_finished_runs_is_refused(study):
    _, folder = study
    for path in folder.glob("checkpoints/*/*"):
        path.unlink()
    with pytest.raises(UsageError, match="s has no finished run to report"):
        write_study_report(folder)
    with pytest.raises(UsageError, match="elsewhere is not a study"):
        write_study_report("elsewhere")


def test_damaged_results_count_as_unfinished_runs(study, few_figures):
    plan, folder = study
    path = next(folder.glob("checkpoints/*/DNN_ME_SE_2x*.json"))
    path.write_text(path.read_text()[:50])
    before = sum(len(cell.runs) + len(cell.tried) for cell in gather_results(plan, folder).cells)
    path.write_text("[1, 2]")
    assert sum(len(cell.runs) + len(cell.tried) for cell in gather_results(plan, folder).cells) == before
    write_study_report(folder)


@pytest.mark.slow
def test_from_the_command_line(study):
    done = run_cli("study", "report", "s", "--out", "r", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Report: r/report.html (beside it: report.md, csv, LaTeX and figures/)")
    done = run_cli("study", "status", "s", cwd=Path.cwd())
    assert "mine on tiny_flights: 34 of 35 runs finished, 1 waiting" in done.stdout
