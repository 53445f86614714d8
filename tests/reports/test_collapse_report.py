"""The collapse report: its numbers against numpy, its words on models of known collapse, its page and files."""

import csv
import importlib.util
import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fuxictr.pytorch.layers import FeatureEmbedding
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map
from helpers.fuxictr_zoo import zoo_class
from helpers.report_pages import Page, assert_page_stands_alone
from helpers.run_configs import write_config
from torch import nn

from fuxictr_me import DCNv2_ME, UsageError
from fuxictr_me.data.synthetic_clicks import SyntheticClicks
from fuxictr_me.reports.collapse import captioned_figures
from fuxictr_me.reports.collapse import report as collapse_report
from fuxictr_me.reports.collapse.depth import describe_depth, list_kept
from fuxictr_me.reports.collapse.depth_figure import merge_orders
from fuxictr_me.reports.collapse.measure import measure_collapse
from fuxictr_me.reports.collapse.report import fill_report_folder, render_collapse_page, write_collapse_report
from fuxictr_me.reports.collapse.verdict import is_collapsed, judge
from fuxictr_me.representations import measure_rank_along_depth
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.runs.load_model import load_model

INITIALIZER = partial(nn.init.normal_, std=1e-4)
TABLE = "embedding_layer.embedding_layer.embedding_layers.{}.weight"
SET_TABLE = "embedding_layer.sets.{}.embedding_layer.embedding_layers.{}.weight"


pytestmark = pytest.mark.usefixtures("own_folder")


def svd(matrix):
    return np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)


def ia(matrix):
    sigma = svd(matrix)
    return sigma.sum() / sigma[0]


def of_rank(rows, dim, rank):
    """A table (rows, dim) whose padding row is 0, of equal singular values."""
    left = torch.linalg.qr(torch.randn(rows - 1, rank))[0]
    right = torch.linalg.qr(torch.randn(dim, rank))[0]
    return torch.cat([torch.zeros(1, dim), left @ right.T])


# ------------------------------------------------------------------------------------------------ numbers


def test_numbers_of_one_set_equal_numpy():
    feature_map = make_feature_map({"a": categorical(30), "b": categorical(9), "n": {"source": "", "type": "numeric"}})
    E, W = {"a": torch.randn(30, 4), "b": torch.randn(9, 4)}, torch.randn(12, 12)
    weights = {TABLE.format("a"): E["a"], TABLE.format("b"): E["b"], TABLE.format("n"): torch.randn(4, 1)}
    counts = {"a": torch.arange(30) % 3, "b": torch.ones(9)}
    numbers = measure_collapse(
        {**weights, "crossnet.cross_layers.0.weight": W}, feature_map, INITIALIZER, count=lambda _: counts
    )
    json.dumps(numbers, allow_nan=False)
    (layer,) = numbers["layers"]
    assert layer["apart"] == ["n"] and layer["between_sets"] is None and numbers["skipped"] == []
    for field in layer["fields"]:
        table, seen = E[field["field"]][1:].double().numpy(), counts[field["field"]][1:].numpy()
        sigma, part = svd(table), field["parts"][0]
        p, eigenvalues = sigma / sigma.sum(), sigma**2
        assert field["num_ids"] == len(table) and part["dim"] == 4 and part["ceiling"] == 4
        assert part["ia"] == pytest.approx(sigma.sum() / sigma[0], rel=1e-9)
        assert part["ia_ratio"] == pytest.approx(part["ia"] / 4)
        assert part["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
        assert part["stable_rank"] == pytest.approx(eigenvalues.sum() / eigenvalues[0], rel=1e-9)
        assert part["participation_ratio"] == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-9)
        slope = np.polyfit(np.log(np.arange(1, 5)), np.log(eigenvalues), 1)[0]
        assert part["alpha_req"] == pytest.approx(-slope, rel=1e-9)
        assert part["rms"] == pytest.approx(np.sqrt((table**2).mean()), rel=1e-9)
        np.testing.assert_allclose(part["spectrum"], sigma / sigma[0], rtol=1e-9)
        assert part["weighted_ia"] == pytest.approx(ia(np.sqrt(seen)[:, None] * table), rel=1e-9)
        assert field["unseen_ids"] == pytest.approx((seen == 0).mean())
        assert part["rms_initial"] == pytest.approx(1e-4, rel=0.3) and 1 < part["ia_random"] < 4
        assert part["ia_of_random"] == pytest.approx(part["ia"] / part["ia_random"])
        assert field["parts"][1] == {**part, "set": "all"}
    interaction = numbers["interaction"]
    assert interaction["fields"] == ["a", "b", "n"] and interaction["table_of"] == ["a", "b", None]
    one = interaction["sets"][0]
    for i, field in enumerate(["a", "b"]):
        for j in range(3):
            block = W[4 * j : 4 * j + 4, 4 * i : 4 * i + 4]
            assert one["sub_ia"][i][j] == pytest.approx(ia(E[field][1:] @ block.T), rel=1e-5)
            assert one["norms"][i][j] == pytest.approx(float(block.norm()), rel=1e-6)
    assert one["sub_ia"][2] == [None] * 3 and one["law"]["num_fields"] == 2


def test_numbers_of_several_sets_equal_numpy():
    feature_map = make_feature_map({"a": categorical(30), "b": categorical(40)})
    E = {(m, f): torch.randn(n, 3) for m in range(3) for f, n in (("a", 30), ("b", 40))}
    weights = {SET_TABLE.format(*key): table for key, table in E.items()}
    W = torch.randn(3, 6, 6)
    numbers = measure_collapse({**weights, "interaction.0.crossnet.cross_layers.0.weight": W}, feature_map, INITIALIZER)
    (layer,) = numbers["layers"]
    assert layer["num_sets"] == 3
    pairs = [(0, 1), (0, 2), (1, 2)]
    products = {}
    for field in layer["fields"]:
        sets = [E[m, field["field"]][1:].double().numpy() for m in range(3)]
        assert [part["set"] for part in field["parts"]] == [0, 1, 2, "all"]
        for part, columns in zip(field["parts"], [*sets, np.hstack(sets)], strict=True):
            assert part["ia"] == pytest.approx(ia(columns), rel=1e-9)
        Q = [np.linalg.qr(columns)[0] for columns in sets]
        angles = [np.degrees(np.arccos(np.clip(svd(Q[m].T @ Q[n]), -1, 1))) for m, n in pairs]
        between = layer["between_sets"]["fields"][field["field"]]
        assert between["mean_angle"] == pytest.approx(np.mean(angles), rel=1e-6)
        assert between["max_angle"] == pytest.approx(np.max(angles), rel=1e-6)
        products[field["field"]] = [svd(sets[m].T @ sets[n]) for m, n in pairs]
    similarity = (np.mean([products["a"], products["b"]], axis=0) ** 2).mean()
    assert layer["between_sets"]["space_similarity"] == pytest.approx(similarity, rel=1e-9)
    norms = np.array([one["norms"] for one in numbers["interaction"]["sets"]])
    assert norms[1, 0, 1] == pytest.approx(float(W[1, 3:, :3].norm()), rel=1e-6)
    np.testing.assert_allclose(numbers["interaction"]["variance_of_norms"], (norms**2).var(axis=0), rtol=1e-9)


def test_tables_and_weights_that_are_not_finite_are_left_out_and_named():
    feature_map = make_feature_map({"a": categorical(9), "b": categorical(9)})
    weights = {TABLE.format(field): torch.randn(9, 3) for field in "ab"}
    weights[TABLE.format("b")][4, 1] = float("nan")
    numbers = measure_collapse({**weights, "c.cross_layers.0.weight": torch.randn(6, 6)}, feature_map, INITIALIZER)
    assert [field["field"] for field in numbers["layers"][0]["fields"]] == ["a"]
    assert numbers["interaction"]["sets"][0]["sub_ia"][1] == [None, None]
    assert "Left out: b, 1 rows of the table hold NaN or infinity" in " ".join(judge(numbers)["cautions"])
    weights[TABLE.format("a")][:] = weights[TABLE.format("b")][:] = torch.randn(9, 3)
    bad = measure_collapse(
        {**weights, "c.cross_layers.0.weight": torch.full((6, 6), torch.nan)}, feature_map, INITIALIZER
    )
    assert bad["interaction"] is None and bad["interaction_note"].startswith("c.cross_layers.0.weight: W from field 0")
    nothing = measure_collapse(dict.fromkeys(weights, torch.full((9, 3), torch.inf)), feature_map, INITIALIZER)
    assert judge(nothing)["headline"] == "No table is large enough to be judged."


# -------------------------------------------------------------------------------------------------- words


def hand_made(dim=12, cause=True):
    """Eight fields: big1, big2 of rank 2; tiny has 3 ids; W lets one direction of every field through to tiny."""
    sizes = {"big1": 400, "big2": 300, "tiny": 4, **{f"f{n}": 60 + 10 * n for n in range(5)}}
    feature_map = make_feature_map({field: categorical(size) for field, size in sizes.items()})
    tables = {field: of_rank(size, dim, min(dim, size - 1)) for field, size in sizes.items()}
    tables["big1"], tables["big2"] = of_rank(400, dim, 2), of_rank(300, dim, 2)
    W = torch.randn(8 * dim, 8 * dim)
    if cause:
        W[2 * dim : 3 * dim] = torch.randn(dim, 1) @ torch.randn(1, 8 * dim)
    weights = {TABLE.format(field): table for field, table in tables.items()}
    return measure_collapse({**weights, "crossnet.cross_layers.0.weight": W}, feature_map, INITIALIZER)


def test_the_planted_fields_are_named_as_collapsed_and_as_the_cause():
    judged = judge(hand_made())
    assert sorted(judged["collapsed"]) == ["big1", "big2"] and judged["causes"] == ["tiny"]
    assert judged["headline"] == "2 of 8 fields collapsed."
    text = " ".join(judged["findings"])
    assert re.search(r"big1 \(IA 2\.00, random (9|1\d)\.\d\d, min\(K, D\) 12\)", text)
    assert "collapsed fields i: tiny (IA 3.00, mean IA(E_i→j) 1.00)" in text
    assert "Would more sets help?" in text and "only a comparison at equal embedding parameters" in text
    assert "Few ids (D < 2·K): tiny. Compare the IA of these fields" in judged["cautions"][0]


def test_no_cause_is_named_where_no_partner_stands_out():
    judged = judge(hand_made(cause=False))
    assert judged["causes"] == [] and "No partner stands out" in " ".join(judged["findings"])


def test_untrained_table_is_not_collapsed_and_is_named_as_untrained():
    feature_map = make_feature_map({"a": categorical(500), "b": categorical(4)})
    weights = {TABLE.format(field): 1e-4 * torch.randn(n, 8) for field, n in (("a", 500), ("b", 4))}
    judged = judge(measure_collapse(weights, feature_map, INITIALIZER))
    assert judged["collapsed"] == [] and judged["causes"] == []
    assert "IA and size are as at initialisation: a" in " ".join(judged["cautions"])
    assert "These tables give no reason for them" in " ".join(judged["findings"])


def test_without_blocks_the_cause_is_judged_by_size_and_the_text_says_so():
    feature_map = make_feature_map({"a": categorical(500), "small": categorical(4)})
    weights = {TABLE.format("a"): of_rank(500, 8, 1), TABLE.format("small"): torch.randn(4, 8)}
    judged = judge(measure_collapse(weights, feature_map, INITIALIZER))
    assert judged["collapsed"] == ["a"] and judged["causes"] == ["small"]
    assert "judged by size alone: small (3 directions at most)" in " ".join(judged["findings"])


@pytest.mark.parametrize(
    ("ceiling", "ratio", "of_random", "expected"),
    [(8, 0.3, 0.4, True), (8, 0.3, 0.6, False), (8, 0.6, 0.4, False), (2, 0.3, 0.4, False), (8, 0.3, None, True)],
)
def test_collapsed_means_below_half_of_both_references(ceiling, ratio, of_random, expected):
    assert is_collapsed({"ceiling": ceiling, "ia_ratio": ratio, "ia_of_random": of_random}) == expected


def test_many_unseen_ids_are_a_limitation():
    feature_map = make_feature_map({"a": categorical(50), "b": categorical(5)})
    weights = {TABLE.format("a"): torch.randn(50, 3), TABLE.format("b"): torch.randn(5, 3)}
    counts = {"a": (torch.arange(50) < 26).long(), "b": torch.tensor([0, 1, 1, 1, 0])}  # b: the OOV row alone
    with_data = judge(measure_collapse(weights, feature_map, INITIALIZER, count=lambda rows: counts))["cautions"]
    assert any("never occur in training: a (up to 49%, a)" in text for text in with_data)
    without = judge(measure_collapse(weights, feature_map, INITIALIZER))["cautions"]
    assert any("use --data to count them" in text for text in without)


class FFM(nn.Module):
    """FuxiCTR's FFM without its linear terms: partner j's layer of field i is j, less one where j > i."""

    def __init__(self, feature_map, dim):
        super().__init__()
        self.fields = list(feature_map.features)
        self.embedding_layers = nn.ModuleList(FeatureEmbedding(feature_map, dim) for _ in self.fields[1:])

    def forward(self, X):
        e = [layer(X) for layer in self.embedding_layers]  # F - 1 of (B, F, K)
        pairs = [(i, j) for j in range(len(self.fields)) for i in range(j)]
        return sum((e[j - 1][:, i] * e[i][:, j]).sum(dim=1) for i, j in pairs)


@pytest.mark.slow
def test_planted_data_names_the_large_fields_as_collapsed_and_the_small_ones_as_the_cause():
    """Generated clicks: interactions of rank 2 between fields of 2,393 to 2 ids, learned by an FFM."""
    clicks = SyntheticClicks(num_fields=8, num_ids=3_000, rank=2, exponent=0.5, scale=3.0)
    sizes = dict(zip(clicks.field_names, clicks.vocab_sizes, strict=True))
    assert list(sizes.values()) == [2393, 545, 47, 6, 3, 2, 2, 2]
    feature_map = make_feature_map({field: categorical(size + 2) for field, size in sizes.items()})
    rows = {key: torch.as_tensor(column).long() for key, column in next(clicks.chunks(40_000, 40_000)).items()}
    model = FFM(feature_map, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        for batch in torch.randperm(40_000).split(2_000):
            logits = model({field: rows[field][batch] for field in sizes})
            loss = nn.functional.binary_cross_entropy_with_logits(logits, rows["label"][batch].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    judged = judge(measure_collapse(model.state_dict(), feature_map, INITIALIZER))
    assert {"F1", "F2", "F3"} <= set(judged["collapsed"]) <= {"F1", "F2", "F3", "F4"}  # by rank
    assert judged["causes"] and set(judged["causes"]) <= {"F5", "F6", "F7", "F8"}  # 3 and 2 ids


# ------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two runs, ME 2 x 4 ("mine") and SE 1 x 8 ("single")."""
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("runs")
    os.chdir(folder)
    try:
        config = write_config({"epochs": 2, "eval_steps": 8})
        file = Path("config/model_config.yaml")
        entries = yaml.safe_load(file.read_text())
        entries["single"] = {**entries["mine"], "num_sets": 1, "embedding_dim": 8}
        file.write_text(yaml.safe_dump(entries))
        for expid in entries:
            run_expid(expid, config)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def runs(trained, tmp_path, monkeypatch):
    """A copy of ``trained`` as working directory; a report goes to the folder that is given."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path("checkpoints/tiny_flights")


@pytest.fixture
def few_figures(monkeypatch):
    """Reports have their first figure alone: drawing takes most of their time."""
    draw = captioned_figures.draw_figures
    monkeypatch.setattr(captioned_figures, "draw_figures", lambda *given: itertools.islice(draw(*given), 1))


def test_report_of_a_run_end_to_end(runs):
    text = write_collapse_report("mine", "config", compare=["single"], data=True)
    folder = runs / "mine.collapse"
    assert text.startswith("mine: ") and str(folder / "report.html") in text and "\nsingle: " in text
    names = {"abundance", "spectra", "sub_embeddings", "compared", "per_set", "norms", "curves", "depth"}
    assert {path.name for path in (folder / "figures").iterdir()} == {f"{n}.{x}" for n in names for x in ("png", "svg")}
    page = assert_page_stands_alone((folder / "report.html").read_text())
    assert len(page.of("img")) == 8 and "IA by frequency" in page.text and "DCNv2_ME on tiny_flights" in page.text

    report = json.loads((folder / "report.json").read_text())
    weights = torch.load(runs / "mine.model", weights_only=True)
    for field in report["layers"][0]["fields"]:
        tables = [weights[SET_TABLE.format(m, field["field"])][1:] for m in range(2)]
        assert field["parts"][-1]["ia"] == pytest.approx(ia(torch.cat(tables, dim=1)), rel=1e-6)
    best = {row["field"]: row for row in csv.DictReader((runs / "mine.ia.csv").open()) if row["set"] == "all"}
    of_csv = {field["field"]: field["parts"][-1] for field in report["layers"][0]["fields"]}
    for field, row in best.items():  # the callback measured the same tables, by a walk through the model
        assert of_csv[field]["ia"] == pytest.approx(float(row["ia"]), rel=1e-9)
        assert of_csv[field]["ia_random"] == pytest.approx(float(row["ia_random"]), rel=1e-9)

    with (folder / "tables.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["expid"], row["set"]) for row in rows} == {("mine", s) for s in "01"} | {
        ("mine", "all"), ("single", "0"), ("single", "all")
    }  # fmt: skip
    assert len(rows) == 8 * 3 + 8 * 2
    assert all(0 <= float(row["unseen_ids"]) <= 1 and float(row["weighted_ia"]) >= 1 for row in rows)
    assert_depth_is_reported(folder, report, page, text)


def assert_depth_is_reported(folder, report, page, text):
    """Compare the depth of a report with the numbers of both models, which are loaded and measured here."""
    with (folder / "depth.csv").open() as file:
        rows = list(csv.DictReader(file))
    for of_report in (report, report["compared"][0]):
        run = find_run(of_report["expid"], "config")
        assert of_report["depth_note"] == ""
        depth = measure_rank_along_depth(load_model(run), run.batches("valid"))
        assert depth == of_report["depth"] and depth["rows"] == 400  # of valid.csv
        own = [row for row in rows if row["expid"] == run.expid]
        parts = [(one["name"], part) for one in depth["representations"] for part in one["parts"]]
        assert [(row["representation"], row["set"]) for row in own] == [
            (name, str(part["set"])) for name, part in parts
        ]
        for row, (_, part) in zip(own, parts, strict=True):
            assert float(row["effective_rank"]) == pytest.approx(part["effective_rank"], rel=1e-9)
        assert f"Rank along the depth: {run.expid}" in page.text
    assert "- Rank along the depth (400 rows of the validation data, sets side by side): effective rank" in text
    assert "Most are lost in " in text and "depth.csv" in text


def test_without_data_the_code_of_the_model_is_not_needed_and_nothing_is_said_about_depth(runs):
    replace_model("not_installed:Model")
    text = write_collapse_report("mine", "config")
    report = json.loads((runs / "mine.collapse" / "report.json").read_text())
    assert not {"depth", "depth_note"} & report.keys() and not (runs / "mine.collapse" / "depth.csv").exists()
    assert "depth" not in text and "depth" not in Page((runs / "mine.collapse" / "report.html").read_text()).text
    text = write_collapse_report("mine", "config", data=True)
    report = json.loads((runs / "mine.collapse" / "report.json").read_text())
    assert report["depth"] is None and "IA by frequency" in (runs / "mine.collapse" / "report.html").read_text()
    assert "- Rank along the depth was not measured: model 'not_installed:Model'" in text
    assert not (runs / "mine.collapse" / "depth.csv").exists()


def test_a_model_whose_code_fails_costs_only_the_depth(runs, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("nothing\nto divide by")

    monkeypatch.setattr(DCNv2_ME, "forward", fail)
    text = write_collapse_report("mine", "config", data=True)
    assert "not measured: the model's code fails (ZeroDivisionError: nothing to divide by)." in text
    assert (runs / "mine.collapse" / "report.html").exists()


def replace_model(name):
    file = Path("config/model_config.yaml")
    entries = yaml.safe_load(file.read_text())
    entries["mine"]["model"] = name
    file.write_text(yaml.safe_dump(entries))


def representation(name, after, rank, width, single=()):
    parts = [{"set": m, "width": width, "effective_rank": r} for m, r in enumerate(single)]
    whole = {
        "set": "all",
        "width": width,
        "ceiling": width,
        "effective_rank": rank,
        "effective_rank_ratio": rank / width,
    }
    return {"name": name, "after": after, "parts": [*parts, whole]}


def test_the_sentence_names_the_layer_that_loses_most():
    depth = {"rows": 1000, "skipped": []}
    first = representation("embeddings", None, 12.0, 16)
    wide = representation("cross", "embeddings", 10.8, 40)  # 10.8 of the 12 that come in
    narrow = representation("hidden", "cross", 2.0, 4)  # 2 of the 4 that fit
    side = representation("side", "embeddings", 9.0, 9)  # all that fit
    depth["representations"] = [first, wide, narrow, side]
    assert list_kept(depth) == [("cross", 0.9), ("hidden", 0.5), ("side", 1.0)]
    assert describe_depth(depth) == (
        "Rank along the depth (1,000 rows of the validation data): effective rank 12.0 of 16 (75%) in embeddings, 9.0 "
        "of 9 (100%) in side. Up to cross, representations keep 90% or more of the directions that they could keep. "
        "Most are lost in hidden, which keeps 50%."
    )
    depth["representations"] = [first, side]
    assert describe_depth(depth).endswith("No representation has lost directions.")
    assert "has no representation" in describe_depth({**depth, "representations": []})


def test_representations_of_several_runs_get_one_order():
    assert merge_orders([["e", "h", "out"], ["e", "cross 1", "cross 2", "h", "x"]]) == [
        *("e", "cross 1", "cross 2", "h", "x", "out")
    ]


@pytest.mark.slow
def test_only_files_of_an_earlier_report_are_replaced(runs):
    write_collapse_report("single", "config")
    folder = runs / "single.collapse"
    (folder / "notes.txt").write_text("mine")
    (folder / "figures" / "curves.png").unlink()
    old = folder / "figures" / "old.png"
    old.write_text("of an earlier report")
    mark = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**mark, "files": [*mark["files"], "figures/old.png"]}))
    write_collapse_report("single", "config")
    assert not old.exists() and (folder / "report.html").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(runs.glob(".building-*"))
    other = Path("precious")
    other.mkdir()
    (other / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="precious exists and is not a collapse report"):
        write_collapse_report("single", "config", out="precious")
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    Path("empty").mkdir()
    write_collapse_report("single", "config", out="empty")
    assert Path("empty/report.html").exists()


def test_failed_report_keeps_the_earlier_one(runs, few_figures, monkeypatch):
    write_collapse_report("single", "config")
    before = (runs / "single.collapse" / "report.json").read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(collapse_report, "csv_rows", full)
    with pytest.raises(OSError, match="no space"):
        write_collapse_report("single", "config")
    assert (runs / "single.collapse" / "report.json").read_bytes() == before and not list(runs.glob(".building-*"))


def test_report_of_another_checkpoint_without_curves(runs):
    shutil.move(runs / "mine.model", "elsewhere.model")
    (runs / "mine.ia.csv").unlink()
    write_collapse_report("mine", "config", checkpoint="elsewhere.model", out="report")
    assert not Path("report/figures/curves.png").exists()
    with pytest.raises(UsageError, match=r"no checkpoint at checkpoints/tiny_flights/mine\.model"):
        write_collapse_report("mine", "config")


class Evil:
    def __reduce__(self):
        return (Path("it_ran").touch, ())


def evil(path):
    with path.open("wb") as file:
        pickle.dump({"weight": Evil()}, file)


def evil_inside_torchs_format(path):
    torch.save({TABLE.format("month"): Evil()}, path)


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "is not a checkpoint of weights"),
        (evil, "is not a checkpoint of weights"),
        (evil_inside_torchs_format, "is not a checkpoint of weights"),
        (lambda path: path.write_text("no weights"), "is not a checkpoint of weights"),
        (lambda path: path.write_bytes(b""), "is not a checkpoint of weights"),
        (lambda path: torch.save([1, 2], path), "is not a checkpoint of weights: it holds a list"),
        (
            lambda path: torch.save({"conv.weight": torch.zeros(2)}, path),
            "no embedding layer of the fields of 'tiny_fl",
        ),
        (lambda path: torch.save({TABLE.format("month"): torch.zeros(3, 2)}, path), "field 'month' does not fit: the"),
    ],
)
def test_damaged_foreign_and_hostile_checkpoints_are_refused_in_one_line(runs, damage, message):
    damage(runs / "mine.model")
    with pytest.raises(UsageError, match=message) as caught:
        write_collapse_report("mine", "config")
    assert "\n" not in str(caught.value)
    assert not Path("it_ran").exists() and not (runs / "mine.collapse").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expid": "mein"}, "unknown expid in config 'mein'; did you mean 'mine'"),
        ({"config": "confg"}, "no config folder at confg; did you mean config"),
        ({"compare": ["singel"]}, "unknown expid in config 'singel'; did you mean 'single'"),
        ({"gpu": 99}, "gpu 99 does not exist"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(runs, change, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        write_collapse_report(**{"expid": "mine", "config": "config", **change})


def test_a_csv_of_another_kind_and_missing_packages_are_named(runs, monkeypatch):
    (runs / "mine.ia.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"mine\.ia\.csv is not a csv of the callback InformationAbundance"):
        write_collapse_report("mine", "config")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=re.escape("analyze needs matplotlib and jinja2: pip install 'fuxictr-me[re")):
        write_collapse_report("mine", "config")


def test_field_names_are_escaped_in_the_page():
    nasty = '<script>alert("x")</script>'
    feature_map = make_feature_map({nasty: categorical(30), "b & c": categorical(20)})
    weights = {TABLE.format(field): of_rank(n, 6, 1) for field, n in ((nasty, 30), ("b & c", 20))}
    numbers = measure_collapse({**weights, "c.cross_layers.0.weight": torch.randn(12, 12)}, feature_map, INITIALIZER)
    about = {"made_by": "x", "expid": "<b>", "model": "m", "dataset_id": "d", "checkpoint": "c", "initializer": "i"}
    report = {**about, "verdict": judge(numbers), **numbers}
    page = assert_page_stands_alone(render_collapse_page([report]))
    assert not page.of("script") and not page.of("b") and nasty in page.text and "b & c" in page.text
    Path("written").mkdir()
    fill_report_folder(Path("written"), [report])  # the figures take such names, too
    assert len(list(Path("written/figures").iterdir())) == 8


BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)


@pytest.mark.skipif(BROWSER is None, reason="no headless Chromium here")
def test_the_page_in_headless_chromium(runs):
    write_collapse_report("mine", "config", compare=["single"])
    url = (runs / "mine.collapse" / "report.html").resolve().as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    shown = subprocess.run([BROWSER, *flags, "--dump-dom", url], capture_output=True, text=True, check=True, timeout=60)
    assert "CONSOLE" not in shown.stderr
    assert len(Page(shown.stdout).of("img")) == 7
    subprocess.run([BROWSER, *flags, "--screenshot=shot.png", "--window-size=1200,4000", url], check=True, timeout=60)
    assert Path("shot.png").stat().st_size > 50_000


# --------------------------------------------------------------------------------------- FuxiCTR's own zoo

ZOO = {
    "DCNv2": ("DCNv2/src/DCNv2.py", {"parallel_dnn_hidden_units": [8]}, "full-matrix cross layer"),
    "DeepFM": ("DeepFM/DeepFM_torch/src/DeepFM.py", {"hidden_units": [8]}, None),
    "xDeepFM": ("xDeepFM/src/xDeepFM.py", {"dnn_hidden_units": [8], "cin_hidden_units": [4]}, None),
    "AutoInt": ("AutoInt/src/AutoInt.py", {"attention_dim": 4, "num_heads": 1}, None),
    "WuKong": ("WuKong/src/WuKong.py", {}, None),
    "FwFM": ("FwFM/src/FwFM.py", {}, "field-weighted products"),
    "FmFM": ("FmFM/src/FmFM.py", {}, "field-matrixed products"),
    "FFM": ("FFM/src/FFM.py", {}, "field-aware tables"),
    "FFMv2": ("FFM/src/FFMv2.py", {}, "field-aware tables"),
}


@pytest.mark.slow
@pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")
@pytest.mark.parametrize("name", list(ZOO))
def test_checkpoints_of_unmodified_fuxictr_models(name, tmp_path):
    path, options, kind = ZOO[name]
    data = tmp_path / "data" / "made"
    data.mkdir(parents=True)
    feature_map = make_feature_map({f"f{n}": categorical(10 + 30 * n) for n in range(5)}, data, embedding_dim=8)
    model = zoo_class(path, name)(
        feature_map,
        model_id="theirs",
        embedding_dim=8,
        metrics=["AUC"],
        model_root=str(tmp_path / "out"),
        **options,
        **MODEL,
    )
    model._max_gradient_norm = 10.0
    for seed in range(20):
        model.train()
        model.train_step(make_batch(feature_map, 256, seed))
    Path(model.model_dir).mkdir(parents=True)
    model.save_weights(model.checkpoint)
    config = tmp_path / "config"
    config.mkdir()
    roots = {"data_root": str(tmp_path / "data"), "data_format": "parquet"}
    entry = {"model": name, "dataset_id": "made", "embedding_dim": 8, "model_root": str(tmp_path / "out")}
    (config / "model_config.yaml").write_text(yaml.safe_dump({"theirs": entry}))
    (config / "dataset_config.yaml").write_text(yaml.safe_dump({"made": roots}))
    text = write_collapse_report("theirs", str(config))
    report = json.loads((tmp_path / "out" / "made" / "theirs.collapse" / "report.json").read_text())
    assert [field["field"] for field in report["layers"][0]["fields"]] == [f"f{n}" for n in range(5)]
    weights = model.state_dict()
    if name not in ("FFM",):
        key = next(k for k in weights if k.endswith("embedding_layers.f4.weight") and weights[k].shape[1] > 1)
        assert report["layers"][0]["fields"][4]["parts"][0]["ia"] == pytest.approx(ia(weights[key][1:]), rel=1e-5)
    assert (report["interaction"] or {}).get("kind") == kind
    print(f"\n{name}: {text}")


@pytest.mark.parametrize(("ids", "logarithmic"), [((113, 121), False), ((11, 5_000), True)])
def test_the_scale_of_ids_in_the_spectra_has_plain_numbers(ids, logarithmic):
    from fuxictr_me.reports.collapse.field_figures import draw_spectra

    fields = [{"field": str(n), "num_ids": n, "parts": [{"spectrum": [1.0, 0.5, 0.1]}]} for n in ids]
    axes, scale = draw_spectra({"fields": fields}).axes
    assert scale.get_yscale() == ("log" if logarithmic else "linear")
    assert axes.get_legend().get_texts()[0].get_text() == "mean of the 2 fields that have 3 singular values"
    if not logarithmic:
        assert all("10^" not in tick.get_text() for tick in scale.get_yticklabels(which="both"))
