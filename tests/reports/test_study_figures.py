"""The pictures and the page of a study: what is drawn against numpy, and studies that are far from complete."""

import random
import re
import shutil
import subprocess
import warnings
from dataclasses import replace

import numpy as np
import pytest
from helpers.report_pages import assert_page_stands_alone

from fuxictr_me.reports.study.captioned_figures import draw_figures
from fuxictr_me.reports.study.comparisons import Comparison
from fuxictr_me.reports.study.cost_figure import draw_pareto
from fuxictr_me.reports.study.difference_figure import draw_differences
from fuxictr_me.reports.study.field_figure import draw_fields, find_largest_measured
from fuxictr_me.reports.study.model_panels import DODGE
from fuxictr_me.reports.study.pareto import find_pareto_front
from fuxictr_me.reports.study.report import TitledTable, render_study_page
from fuxictr_me.reports.study.size_figures import draw_abundance, draw_metric
from fuxictr_me.reports.study.statistics import PairedTest
from fuxictr_me.reports.style import SavedFigure, save_figures
from fuxictr_me.reports.tables import Table
from fuxictr_me.study.results import CellResult, RunResult, StudyResults

FIELDS = {"site": 900, "zone": 3, "hour": 24}
CELLS = (("base", 1), ("SE", 2), ("SE", 10), ("ME", 2), ("ME", 10), ("ensemble", 10))
SEEDS = (2021, 2022, 2023)


def a_run(seed, dim, fields=FIELDS):
    """A run of random numbers, the same for the same generator."""
    uniform = random.uniform
    rows = []
    for field, ids in fields.items():
        ceiling = min(dim, ids)
        ia = uniform(1, ceiling)
        row = {"field": field, "num_ids": ids, "dim": dim, "ia": ia, "ia_ratio": ia / ceiling}
        rows.append({**row, "ia_random": None if field == "hour" else 0.9 * ceiling})
    metrics = {"AUC": uniform(0.7, 0.8), "logloss": uniform(0.4, 0.5)}
    size, steps = 50_000 + dim * 927, random.randrange(100, 900)
    return RunResult(f"x_{seed}", seed, metrics, metrics, size, dim * 927, uniform(5, 9), steps, None, rows)


def a_study(models=("DNN_ME", "DCNv2_ME"), cells=CELLS, seeds=SEEDS, fields=FIELDS, **more):
    random.seed(0)
    made = []
    for model in models:
        for kind, scale in cells:
            sets = 1 if kind in ("base", "SE") else scale
            runs = tuple(a_run(seed, 10 * scale, fields) for seed in seeds)
            made.append(CellResult(model, kind, scale, sets, 10 * scale // sets, {}, runs))
    settings = {"grid": {}, "shared": {"batch_size": 2048}, "versions": {"torch": "2.8.0"}, "cells": tuple(made)}
    return StudyResults("demo", "tiny", tuple(seeds), "AUC", "max", **{**settings, **more})


def without(results, *cells):
    """The study with those (model, kind, scale) not run."""
    kept = [replace(c, runs=()) if (c.model, c.kind, c.scale) in cells else c for c in results.cells]
    return replace(results, cells=tuple(kept))


def labelled(axes, label):
    """x and y of the one line that has a label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def segments(axes):
    """(vertical, horizontal) pieces of error bars and dashes: rows of x, y and length of x or y."""
    pieces = [np.asarray(piece) for collection in axes.collections for piece in collection.get_segments()]
    pieces = [piece for piece in pieces if len(piece) and np.isfinite(piece).all()]
    vertical = [(p[0, 0], p[:, 1].mean(), np.ptp(p[:, 1])) for p in pieces if p[0, 0] == p[1, 0]]
    return np.array(vertical), np.array([(p[:, 0].mean(), p[0, 1]) for p in pieces if p[0, 1] == p[1, 1]])


def of_runs(results, model, kind, scale, metric="AUC"):
    return np.array([run.test[metric] for run in results.cell(model, kind, scale).runs])


# ------------------------------------------------------------------------------------------------ pareto


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1, 0.7)], [0]),
        ([(1, 0.70), (2, 0.69), (4, 0.72)], [0, 2]),
        ([(4, 0.72), (2, 0.71), (1, 0.70)], [2, 1, 0]),
        ([(1, 0.7), (1, 0.8)], [1]),  # of equal cost the better
        ([(1, 0.7), (2, 0.7)], [0]),  # of equal metric the cheaper
        ([(1, 0.7), (1, 0.7)], [0, 1]),  # equal in both: neither beats the other
    ],
)
def test_pareto_front_of_given_points(points, front):
    assert find_pareto_front(points) == front
    assert find_pareto_front([(cost, -metric) for cost, metric in points], larger_is_better=False) == front


@pytest.mark.parametrize("seed", range(30))
def test_pareto_front_equals_a_comparison_of_all_pairs(seed):
    points = [tuple(point) for point in np.random.default_rng(seed).integers(0, 6, (12, 2)).tolist()]

    def dominated(p):
        return any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)

    expected = {n for n, point in enumerate(points) if not dominated(point)}
    front = find_pareto_front(points)
    assert set(front) == expected and len(front) == len(expected)
    assert [points[n][0] for n in front] == sorted(points[n][0] for n in front)


# ------------------------------------------------------------------------------------------------ by size


@pytest.mark.parametrize("metric", ["AUC", "logloss"])
def test_means_deviations_and_seeds_of_a_metric(metric):
    results = a_study()
    figure = draw_metric(results, metric)
    assert [axes.get_title() for axes in figure.axes] == ["DNN_ME", "DCNv2_ME"]
    assert ("lower is better" in figure._supylabel.get_text()) == (metric == "logloss")
    for axes in figure.axes:
        model, bars = axes.get_title(), segments(axes)[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1x", "2x", "10x"]
        for kind, shift in (("base", 1), ("SE", 1 / DODGE), ("ME", 1), ("ensemble", DODGE)):
            scales = [scale for other, scale in CELLS if other == kind]
            runs = [of_runs(results, model, kind, scale, metric) for scale in scales]
            x, y = labelled(axes, kind)
            np.testing.assert_allclose(x, np.array(scales) * shift)
            np.testing.assert_allclose(y, [values.mean() for values in runs])
            for at, values in zip(x, runs, strict=True):
                _, middle, length = bars[np.isclose(bars[:, 0], at)][0]
                assert middle == pytest.approx(values.mean()) and length == pytest.approx(2 * values.std(ddof=1))
                seeds = [line.get_ydata() for line in axes.lines if np.allclose(line.get_xdata(), at)]
                assert any(np.array_equal(found, values) for found in seeds)
        base = of_runs(results, model, "base", 1, metric).mean()
        for kind in ("SE", "ME", "ensemble"):  # lines start at the base that they share
            x, y = labelled(axes, f"line of {kind}")
            assert (x[0], y[0]) == (1, pytest.approx(base))
            np.testing.assert_allclose(y[1:], labelled(axes, kind)[1])


def test_published_values_are_hollow_and_of_the_kind_beside_them():
    results = a_study()
    published = {("DNN_ME", "base", 1): 0.81, ("DNN_ME", "ME", 10): 0.82, ("PNN_ME", "SE", 2): 0.83}
    figure = draw_metric(results, "AUC", published)
    left, right = figure.axes
    hollow = [line for line in left.lines if line.get_label() == "published"]
    assert [float(line.get_ydata()[0]) for line in hollow] == [0.81, 0.82]
    assert {line.get_markerfacecolor() for line in hollow} == {"none"}
    (own,) = [line for line in left.lines if line.get_label() == "ME"]
    assert (hollow[1].get_color(), hollow[1].get_marker()) == (own.get_color(), own.get_marker())
    assert not [line for line in right.lines if line.get_label() == "published"]
    assert "published" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_kinds_have_different_colours_and_markers():
    cells = [*CELLS, *((f"own {n}", 2) for n in range(3))]
    (axes,) = draw_metric(a_study(["DNN_ME"], cells), "AUC").axes
    kinds = dict.fromkeys(kind for kind, _ in cells)
    lines = [line for line in axes.lines if line.get_label() in kinds]
    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == len(kinds) == 7


def test_sizes_of_other_kinds_are_connected_without_base():
    cells = [*CELLS, ("own", 2), ("own", 10), ("at one size", 10)]
    figure = draw_metric(a_study(["DNN_ME"], cells), "AUC")
    (axes,) = figure.axes
    for points, line in zip(labelled(axes, "own"), labelled(axes, "line of own"), strict=True):
        np.testing.assert_array_equal(line, points)
    assert "line of at one size" not in [line.get_label() for line in axes.lines]
    entries = {line.get_label(): line.get_linestyle() for line in figure.legends[0].get_lines()}
    assert (entries["SE"], entries["ensemble"], entries["own"]) == ("-", "--", ":")
    assert entries["base"] == entries["at one size"] == "None"


def test_abundance_is_the_mean_over_fields_and_its_reference_over_those_that_have_one():
    results = a_study()
    for axes in draw_abundance(results).axes:
        model = axes.get_title()
        for kind, scale in (("base", 1), ("SE", 10), ("ME", 2)):
            runs = results.cell(model, kind, scale).runs
            ratios = [np.mean([row["ia"] / min(row["dim"], row["num_ids"]) for row in run.abundance]) for run in runs]
            x, y = labelled(axes, kind)
            assert y[np.argmin(abs(x - scale))] == pytest.approx(np.mean(ratios))
        x, y = labelled(axes, "random initialisation")
        np.testing.assert_array_equal(x, [1, 2, 10])
        np.testing.assert_allclose(y, 0.9)  # "hour" has none
        assert axes.get_ylim()[0] == 0


# ----------------------------------------------------------------------------------------------- by field


def test_fields_by_number_of_ids_at_the_largest_size():
    results = a_study()
    (axes,) = draw_fields(results, "DCNv2_ME").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["zone  3", "hour  24", "site  900"]
    assert [bar.get_height() for bar in axes.patches] == [3, 24, 100]
    bars, dashes = segments(axes)
    for label, kind in (("SE 10x (1 × 100)", "SE"), ("ME 10x (10 × 10)", "ME")):
        x, y = labelled(axes, label)
        assert np.abs(x - np.arange(3)).max() < 0.5
        for n, field in enumerate(("zone", "hour", "site")):
            runs = results.cell("DCNv2_ME", kind, 10).runs
            ia = np.array([row["ia"] for run in runs for row in run.abundance if row["field"] == field])
            assert y[n] == pytest.approx(ia.mean())
            assert bars[np.isclose(bars[:, 0], x[n])][0][2] == pytest.approx(2 * ia.std(ddof=1))
        at = dashes[np.isclose(dashes[:, 0][:, None], x).any(axis=1)]
        np.testing.assert_allclose(sorted(at[:, 1]), [0.9 * 3, 0.9 * 100])  # none for "hour"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], ["SE 10x", "ME 10x"]),
        ([("SE", 10)], ["SE 2x", "ME 2x"]),  # both of a smaller size rather than one alone
        ([("SE", 10), ("SE", 2)], ["ME 10x"]),
        ([("SE", 10), ("SE", 2), ("ME", 2), ("ME", 10)], ["base"]),
        ([(kind, scale) for kind, scale in CELLS if kind != "ensemble"], []),
    ],
)
def test_the_largest_size_at_which_both_were_measured(missing, expected):
    results = without(a_study(["DNN_ME"]), *(("DNN_ME", *cell) for cell in missing))
    assert [cell.title for cell in find_largest_measured(results, "DNN_ME")] == expected
    assert (draw_fields(results, "DNN_ME") is None) == (not expected)


# ------------------------------------------------------------------------------------- cost and differences


@pytest.mark.parametrize(("metric", "sign"), [("AUC", 1), ("logloss", -1)])
@pytest.mark.parametrize("cost", ["bytes", "seconds"])
def test_cost_figure_has_one_point_per_cell_and_the_pareto_front(metric, sign, cost):
    results = a_study()
    for axes in draw_pareto(results, metric, cost).axes:
        expected = {}
        for kind, scale in CELLS:
            runs = results.cell(axes.get_title(), kind, scale).runs
            price = 4 * runs[0].parameters / 1e6
            if cost == "seconds":
                price = 1000 * sum(run.seconds for run in runs) / sum(run.steps for run in runs)
            expected[kind, scale] = (price, of_runs(results, axes.get_title(), kind, scale, metric).mean())
        for kind in ("base", "SE", "ME", "ensemble"):
            own = [point for (other, _), point in expected.items() if other == kind]
            np.testing.assert_allclose(np.column_stack(labelled(axes, kind)), own)
        front = [
            p
            for p in expected.values()
            if not any(q[0] <= p[0] and sign * q[1] >= sign * p[1] and q != p for q in expected.values())
        ]
        np.testing.assert_allclose(np.column_stack(labelled(axes, "Pareto front")), sorted(front))
        (line,) = [line for line in axes.lines if line.get_label() == "Pareto front"]
        assert line.get_drawstyle() == "steps-post"
        texts = {tuple(np.round(text.xy, 9)): text.get_text() for text in axes.texts}
        assert texts == {tuple(np.round(p, 9)): f"{k}x" for (kind, k), p in expected.items() if kind != "base"}


def difference(model, scale, mean, low, high, conclusion="nothing can be concluded (3 seeds)", metric="AUC"):
    test = PairedTest(3, mean, low=low, high=high)
    return Comparison(model, scale, metric, "ME", "SE", test, None, None, conclusion)


DIFFERENCES = [
    difference("DNN_ME", 2, 3e-4, -1e-4, 7e-4),
    difference("DNN_ME", 10, -2e-4, None, None, "nothing can be concluded (1 seed)"),
    difference("DCNv2_ME", 2, None, None, None),
    difference("DCNv2_ME", 10, 9e-4, 5e-4, None),
]


def test_differences_are_drawn_in_order_with_their_intervals():
    axes, right = draw_differences(DIFFERENCES).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "DNN_ME 2x",
        "DNN_ME 10x",
        "DCNv2_ME 2x",
        "DCNv2_ME 10x",
    ]
    assert [label.get_text() for label in right.get_yticklabels()] == [one.conclusion for one in DIFFERENCES]
    assert axes.get_ylim() == right.get_ylim() and axes.yaxis_inverted()
    zero, *drawn = [(line.get_xdata(), line.get_ydata()) for line in axes.lines]
    assert list(zero[0]) == [0, 0]
    intervals = [(list(x), list(y)) for x, y in drawn if len(x) == 2]
    assert intervals == [([-1e-4, 7e-4], [0, 0])]
    assert [(x[0], y[0]) for x, y in drawn if len(x) == 1] == [(3e-4, 0), (-2e-4, 1), (9e-4, 3)]
    assert "ME is better right of 0" in axes.get_xlabel()
    losses = [replace(one, metric="logloss") for one in DIFFERENCES]
    assert "ME is better left of 0" in draw_differences(losses).axes[0].get_xlabel()


# --------------------------------------------------------------------------------------------- all of them

BY_SIZE, PARETO = {"auc_by_size", "logloss_by_size", "abundance_by_size"}, {"pareto_bytes", "pareto_seconds"}


def names_of(results, folder, differences=()):
    drawn = save_figures(draw_figures(results, differences), folder)
    names = [one.name for one in drawn]
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("png", "svg")
    }
    for one in drawn:
        assert one.png == (folder / f"{one.name}.png").read_bytes() and one.png.startswith(b"\x89PNG")
        assert one.caption and one.alt and 300 < one.width < 1400
    return set(names)


def test_all_figures_are_written_as_png_and_svg(tmp_path):
    found = names_of(a_study(), tmp_path, DIFFERENCES)
    assert found == BY_SIZE | PARETO | {"differences", "fields_DNN_ME", "fields_DCNv2_ME"}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (a_study(["DNN_ME"]), BY_SIZE | PARETO | {"fields_DNN_ME"}),
        (a_study(["DNN_ME"], seeds=(1,)), BY_SIZE | PARETO | {"fields_DNN_ME"}),
        (a_study(["DNN_ME"], cells=[("base", 1)]), BY_SIZE | PARETO | {"fields_DNN_ME"}),
        (a_study(["DNN_ME"], seeds=()), set()),
        (a_study([]), set()),
        (a_study(fields={}), {"auc_by_size", "logloss_by_size"} | PARETO),
        (
            without(a_study(), *(("DNN_ME", *cell) for cell in CELLS), ("DCNv2_ME", "base", 1), ("DCNv2_ME", "ME", 2)),
            BY_SIZE | PARETO | {"fields_DCNv2_ME"},
        ),
    ],
    ids=["one model", "one seed", "base alone", "nothing finished", "no cells", "no IA", "missing cells"],
)
def test_incomplete_studies_have_the_figures_they_can_have(results, expected, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names_of(results, tmp_path) == expected


def test_a_missing_base_and_a_missing_size_are_left_out_of_the_line():
    results = without(a_study(["DNN_ME"]), ("DNN_ME", "base", 1), ("DNN_ME", "ME", 2))
    (axes,) = draw_metric(results, "AUC").axes
    assert len(labelled(axes, "line of SE")[0]) == 2 and len(labelled(axes, "base")[0]) == 0
    np.testing.assert_allclose(labelled(axes, "line of ME"), labelled(axes, "ME"))
    assert len(labelled(axes, "ME")[0]) == 1


def test_a_run_without_a_metric_or_with_nan_counts_as_none():
    results = a_study(["DNN_ME"], cells=[("base", 1), ("SE", 2)])
    base, single = results.cells
    broken = replace(base.runs[0], test={"AUC": float("nan")}), replace(base.runs[1], test={}), base.runs[2]
    (axes,) = draw_metric(replace(results, cells=(replace(base, runs=broken), single)), "AUC").axes
    assert labelled(axes, "base")[1] == [base.runs[2].test["AUC"]]
    assert not (segments(axes)[0][:, 0] == 1).any()  # one value: no bar


@pytest.mark.parametrize("count", range(1, 8))
def test_one_panel_per_model(count):
    models = [f"Model{n}_ME" for n in range(count)]
    figure = draw_metric(a_study(models, cells=[("base", 1), ("ME", 4)], seeds=(1,)), "AUC")
    assert [axes.get_title() for axes in figure.axes] == models


def test_dollar_signs_in_names_are_not_mathematics(tmp_path):
    cells = [("base", 1), *((kind, 4) for kind in ("SE", "ME", "own $x_$y"))]
    results = a_study(["DNN_ME"], cells, fields={"C $a$_$b^$": 7, "D": 9})
    assert names_of(results, tmp_path) == BY_SIZE | PARETO | {"fields_DNN_ME"}


# ------------------------------------------------------------------------------------------------- the page

NASTY = '<script>alert("x")</script> & more'
ROWS = (("DNN_ME", "0.8", "a"), ("published", "0.9", "b"))
TABLE = Table("Mean ± sd", ("model", ("ME", "4x"), "note"), "lrl", ROWS, ("n.",), frozenset({1}))


FINDINGS = ("ME is ahead nowhere.", "IA falls.")


def a_page(results=None, findings=FINDINGS, cautions=("Few seeds.",), main_tables=(), more_tables=(), figures=()):
    return render_study_page(results or a_study(), findings, cautions, main_tables, more_tables, figures)


def test_page_has_all_results_in_order(tmp_path):
    tuned = {"SE": {"net_dropout": [0.1, 0.2]}, "ME": {"net_dropout": [0.1, 0.2]}}
    results = a_study(["DNN_ME"], grid=tuned, failed=(("DNN_ME_SE_2x_001", "RuntimeError: out of memory"),))
    tried = (({"net_dropout": 0.1}, 0.7), ({"net_dropout": 0.2}, 0.75))
    cells = tuple(replace(cell, chosen=tried[1][0], tried=tried) for cell in results.cells)
    figures = save_figures(draw_figures(results, DIFFERENCES), tmp_path)
    plain = Table("A plain one.", ("a", "b"), "lr", (("c", "d"), ("e", "f")))
    tables = [TitledTable("Test AUC", TABLE), TitledTable("Plain", plain)], [TitledTable("Cost", TABLE)]
    text = a_page(replace(results, cells=cells), FINDINGS, ("Few seeds.",), *tables, figures)
    page = assert_page_stands_alone(text)
    words = ("ME is ahead nowhere.", "IA falls.", "Few seeds.", "RuntimeError: out of memory", "batch_size 2048")
    words += ("18 of 18 runs finished", "1 failed", "torch 2.8.0", "2021, 2022, 2023", "A plain one.", "ME 4x", "n.")
    words += ("net_dropout from 0.1, 0.2", "net_dropout 0.2", *(figure.caption for figure in figures))
    assert not [text for text in words if text not in page.text]
    assert [image["alt"] for image in page.of("img")] == [figure.alt for figure in figures]
    order = ["ME is ahead nowhere.", "Test AUC", "A plain one.", figures[0].caption, "Cost", "Each cell (a model"]
    body = page.text[page.text.index("ME is ahead nowhere.") :]
    assert [body.index(words) for words in order] == sorted(body.index(words) for words in order)
    assert len(page.of("table")) == 4 and all(box["tabindex"] == "0" for box in page.of("div"))
    rows = re.findall(r"<tr( class=\"quoted\")?><th scope=\"row\">(\w+)", text[: text.index("A plain one.")])
    assert rows == [("", "DNN_ME"), (' class="quoted"', "published")]


def test_page_omits_sections_without_content():
    page = assert_page_stands_alone(a_page(a_study(seeds=(1,)), cautions=()))
    assert "Nothing was tuned" in page.text and "1 seed ·" in page.text
    for title in ("Failed runs", "Figures", "Tables", "Limitations"):
        assert title not in page.text
    assert_page_stands_alone(a_page(a_study(["DNN_ME"], seeds=()), findings=()))


def test_texts_are_escaped_in_the_page():
    table = TitledTable(NASTY, Table(NASTY, (NASTY, (NASTY, NASTY)), "ll", ((NASTY, NASTY),), (NASTY,)))
    results = replace(a_study([NASTY]), name=NASTY, shared={NASTY: NASTY}, failed=((NASTY, NASTY),))
    figure = SavedFigure("x", b"\x89PNG\r\n\x1a\n", 300, caption=NASTY, alt=NASTY)
    text = a_page(results, [NASTY, NASTY], [NASTY], [table], [table], [figure])
    page = assert_page_stands_alone(text)
    assert "<script" not in text and not page.of("script") and page.text.count("alert(") >= 12


BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)


@pytest.mark.skipif(BROWSER is None, reason="no headless Chromium here")
def test_a_wide_table_scrolls_inside_its_box_on_a_phone(tmp_path):
    wide = TitledTable("Wide", Table("", ["cell"] * 30, "r" * 30, [["0.81234 ± 0.00012"] * 30]))
    probe = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    (tmp_path / "page.html").write_text(a_page(main_tables=[wide]).replace("</body>", probe), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--dump-dom"]
    url = (tmp_path / "page.html").as_uri()
    shown = subprocess.run([BROWSER, *flags, url], capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(re.search(r"<title>(\d+)</title>", shown)[1]) <= 500
