"""The tables and sentences of a study's report, of results made by hand."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fuxictr_me.reports.study.cautions import list_cautions
from fuxictr_me.reports.study.cost_table import cost_table
from fuxictr_me.reports.study.csv_rows import cost_rows, difference_rows, mean_rows, run_rows
from fuxictr_me.reports.study.findings import list_findings
from fuxictr_me.reports.study.metric_tables import abundance_table, difference_table, headline_table
from fuxictr_me.reports.study.metric_values import IA_RATIO
from fuxictr_me.reports.study.statistics import NO_DIFFERENCE
from fuxictr_me.reports.study.tuning import tuning_table
from fuxictr_me.reports.study.winner import describe_winners
from fuxictr_me.reports.tables import Table, to_latex, to_markdown
from fuxictr_me.study.results import CellResult, RunResult, StudyResults

SEEDS = (2021, 190034, 992817, 27011, 948432)
NOISE = (3e-5, -2e-5, 0.0, 5e-5, -4e-5)
LEVELS = {"base": 0.8, "SE": 0.799, "ME": 0.802, "ensemble": 0.801}  # AUC, and 1e-5 more a scale
TURNS = {"base": 0, "SE": 1, "ME": 3, "ensemble": 4}  # of NOISE, so that differences vary with the seed
TEX = next((path for name in ("pdflatex", "xelatex", "tectonic") if (path := shutil.which(name))), None)


def a_run(model, kind, scale, i, auc, abundance=True, **more):
    ratio = {"base": 0.5, "SE": 0.5 / scale, "ME": 0.4, "ensemble": 0.45}[kind] + np.roll(NOISE, TURNS[kind])[i]
    fields = [
        {"field": f, "num_ids": 99, "dim": 10 * scale, "ia": 10 * scale * r, "ia_ratio": r, "ia_random": 8.0 * scale}
        for f, r in (("user", ratio - 0.1), ("item", ratio + 0.1))
    ]
    run = RunResult(
        expid=f"{model}_{kind}_{scale}_{i}",
        seed=SEEDS[i],
        valid={"AUC": auc + 0.001, "logloss": 1.25 - auc},
        test={"AUC": auc, "logloss": 1.249 - auc},
        parameters=1_000_000 * scale + 500,
        embedding_parameters=1_000_000 * scale,
        seconds=60.0 * scale + i,
        steps=1200 + 100 * i,
        peak_memory=50_000_000 * scale,
        abundance=fields if abundance else [],
    )
    return replace(run, **more)


def a_study(num_seeds=5, models=("DCNv2_ME", "DNN_ME"), scales=(2, 4), kinds=("SE", "ME"), dataset_id="made", **more):
    cells = []
    for model in models:
        for kind, scale in [("base", 1), *((kind, k) for kind in kinds for k in scales)]:
            aucs = LEVELS[kind] + 1e-5 * scale + np.roll(NOISE, TURNS[kind])[:num_seeds]
            runs = tuple(a_run(model, kind, scale, i, float(auc)) for i, auc in enumerate(aucs))
            sets, dim = (1, 10 * scale) if kind in ("base", "SE") else (scale, 10)
            cells.append(CellResult(model, kind, scale, sets, dim, {}, runs))
    made = StudyResults("made", dataset_id, SEEDS[:num_seeds], "AUC", "max", {}, {"batch_size": 512}, {}, tuple(cells))
    made = replace(made, paper_data="" if dataset_id == "made" else dataset_id)
    return replace(made, **more)


def with_cell(results, model, kind, scale, **changes):
    """The study with one cell changed."""
    chosen = results.cell(model, kind, scale)
    return replace(results, cells=tuple(replace(c, **changes) if c is chosen else c for c in results.cells))


def empty_cell(results):
    return with_cell(results, "DNN_ME", "ME", 4, runs=())


def markdown_table(results, metric):
    return to_markdown(headline_table(results, metric))


def read_markdown(text):
    """Header and rows of the table in a text, whose columns must be aligned."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [[i for i, letter in enumerate(line) if letter == "|" and line[i - 1] != "\\"] for line in lines]
    assert all(b == bars[0] for b in bars), text
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert all(set(cell) <= set("-:") for cell in rows[1])
    return rows[0], rows[2:]


def aucs_of(results, model, kind, scale):
    return np.array([run.test["AUC"] for run in results.cell(model, kind, scale).runs])


# --- the paper's table -------------------------------------------------------------------------------


def test_the_headline_table_has_the_papers_layout():
    results = a_study()
    header, rows = read_markdown(markdown_table(results, "AUC"))
    assert header == ["model", "base", "SE 2x", "SE 4x", "ME 2x", "ME 4x"]
    for row, model in zip(rows, ("DCNv2_ME", "DNN_ME"), strict=True):
        assert row[0] == model
        for cell, (kind, scale) in zip(row[1:], [("base", 1), ("SE", 2), ("SE", 4), ("ME", 2), ("ME", 4)], strict=True):
            seen = aucs_of(results, model, kind, scale)
            assert cell == f"{sum(seen) / 5:.5f} ± {np.sqrt(((seen - seen.mean()) ** 2).sum() / 4):.5f}"
    text = markdown_table(results, "logloss")
    assert text.startswith("**Test logloss on made, mean ± sd over 5 seeds, lower is better**\n\n|")
    _, rows = read_markdown(text)
    assert rows[0][1].startswith(f"{1.249 - aucs_of(results, 'DCNv2_ME', 'base', 1).mean():.5f} ± ")


def test_cells_with_missing_seeds_or_runs_say_so():
    results = a_study(models=("DCNv2_ME",), kinds=("ensemble", "ME", "SE"))
    results = with_cell(results, "DCNv2_ME", "ME", 4, runs=results.cell("DCNv2_ME", "ME", 4).runs[:1])
    results = with_cell(results, "DCNv2_ME", "SE", 2, runs=())
    other = CellResult("DNN_ME", "base", 1, 1, 10, {}, ())
    results = replace(results, cells=(*results.cells, other))
    text = markdown_table(results, "AUC")
    header, rows = read_markdown(text)
    assert header == ["model", "base", "SE 2x", "SE 4x", "ME 2x", "ME 4x", "ensemble 2x", "ensemble 4x"]
    assert (rows[0][2], rows[0][5]) == ("–", f"{aucs_of(results, 'DCNv2_ME', 'ME', 4)[0]:.5f} (1 of 5)")
    assert rows[1] == ["DNN_ME", *["–"] * 7]
    assert "only n of N seeds have finished" in text and "only n of N" not in markdown_table(
        empty_cell(a_study()), "AUC"
    )
    _, rows = read_markdown(markdown_table(a_study(num_seeds=1), "AUC"))
    assert re.fullmatch(r"0\.\d{5}", rows[0][1])  # a study of one seed has no sd, and no seed is missing


def test_published_numbers_stand_below_if_the_paper_has_the_data_set():
    results = a_study(models=("DCNv2_ME", "PNN_ME"), kinds=("SE", "ME", "ensemble"), dataset_id="criteo_paper")
    text = markdown_table(results, "AUC")
    _, rows = read_markdown(text)
    assert [row[0] for row in rows] == ["DCNv2_ME", "*published*", "PNN_ME", "*published*"]
    assert rows[1][1:] == ["*0.81339*", "*0.81341*", "*0.81346*", "*0.81348*", "*0.81382*", "*–*", "*–*"]
    assert rows[3][1:] == ["*0.81272*", "*0.81273*", "*0.81271*", "*0.81268*", "*0.81273*", "*–*", "*–*"]
    assert "sd 0.00002 to 0.00022" in text and "most likely never scaled" in text
    assert "published" not in markdown_table(results, "logloss") and "ublished" not in markdown_table(a_study(), "AUC")
    header, rows = read_markdown(to_markdown(difference_table(results, "ME", "SE", "AUC")))
    assert [row[header.index("published")] for row in rows] == ["+0.00007", "+0.00036", "−0.00005", "+0.00002"]


# --- differences -------------------------------------------------------------------------------------


def test_the_table_of_differences():
    results = a_study()
    table = difference_table(results, "ME", "SE", "logloss")
    header, rows = read_markdown(to_markdown(table))
    assert header[-1] == "conclusion" and "published" not in header
    d = aucs_of(results, "DCNv2_ME", "SE", 4) - aucs_of(results, "DCNv2_ME", "ME", 4)  # logloss is 1.249 − AUC
    row = dict(zip(header, rows[1], strict=True))
    half = 2.7764451 * d.std(ddof=1) / np.sqrt(5)
    assert (row["model"], row["size"], row["seeds"], row["conclusion"]) == ("DCNv2_ME", "4x", "5", "ME ahead")
    assert row["difference"] == f"{d.mean():+.5f}".replace("-", "−")
    assert row["95 % interval"] == f"{d.mean() - half:+.5f} to {d.mean() + half:+.5f}".replace("-", "−")
    assert (row["p (Wilcoxon)"], row["p (Holm)"]) == ("0.062", "<0.0001")
    notes = " ".join(table.notes)
    assert "for the 4 cells tested" in notes and "a negative difference is in favour of ME" in notes
    assert "cannot reach 0.05 here: its smallest possible p is 0.0625 with 5 seeds" in notes


def test_differences_of_few_seeds_show_their_interval_and_no_conclusion():
    results = a_study(num_seeds=3)
    results = with_cell(results, "DNN_ME", "ME", 4, runs=results.cell("DNN_ME", "ME", 4).runs[:1])
    table = difference_table(results, "ME", "base", "AUC")
    header, rows = read_markdown(to_markdown(table))
    of = {column: [row[n] for row in rows] for n, column in enumerate(header)}
    assert of["conclusion"] == ["nothing can be concluded (3 seeds)"] * 3 + ["nothing can be concluded (1 seed)"]
    assert all(re.fullmatch(r"\+0\.00\d{3} to \+0\.00\d{3}", cell) for cell in of["95 % interval"][:3])
    assert [of[name][3] for name in ("95 % interval", "p (t)", "p (Holm)", "detectable")] == ["–"] * 4
    assert "1 with 1 seed and 0.25 with 3 seeds" in " ".join(table.notes) and "the 3 cells tested" in table.notes[0]


# --- cost, abundance, tuning -------------------------------------------------------------------------


def test_the_table_of_costs():
    results = a_study(models=("DNN_ME",))
    header, rows = read_markdown(to_markdown(cost_table(empty_cell(results))))
    of = {row[1]: dict(zip(header, row, strict=True)) for row in rows}
    assert list(of) == ["base", "SE 2x", "SE 4x", "ME 2x"]
    cell = of["SE 4x"]
    assert (cell["parameters"], cell["embedding parameters"], cell["weights, MB"]) == ("4,000,500", "4,000,000", "16.0")
    assert (cell["peak memory, MB"], cell["s per run"]) == ("200", "242.0")  # 240 to 244 s, of 1200 to 1600 steps
    assert cell["s per 1000 steps"] == f"{(240 + 241 + 242 + 243 + 244) / 7.0:.2f}"
    gain = aucs_of(results, "DNN_ME", "SE", 4).mean() - aucs_of(results, "DNN_ME", "base", 1).mean()
    assert cell["gain over base"] == f"{gain:+.5f}".replace("-", "−")
    assert cell["gain per added MB"] == f"{gain / 12:+.1e}".replace("-", "−")
    assert cell["gain per added s"] == f"{gain / 180:+.1e}".replace("-", "−")
    assert of["ME 2x"]["gain over base"].startswith("+") and of["base"]["gain over base"] == "–"


def test_unknown_costs_and_costs_not_above_base_are_dashes():
    results = a_study(models=("DNN_ME",), scales=(2,), monitor="logloss", monitor_mode="min")
    quick = tuple(replace(run, seconds=1.0, peak_memory=None, steps=0) for run in results.cell("DNN_ME", "ME", 2).runs)
    header, rows = read_markdown(to_markdown(cost_table(with_cell(results, "DNN_ME", "ME", 2, runs=quick))))
    row = dict(zip(header, rows[-1], strict=True))
    assert [row[name] for name in ("peak memory, MB", "s per 1000 steps", "gain per added s")] == ["–"] * 3
    assert "logloss" in header and row["gain over base"].startswith("+0.002")  # lower, so a gain


def test_the_table_of_abundance():
    results = a_study(models=("DNN_ME",), shared={"embedding_initializer": "xavier_uniform"})
    bare = tuple(a_run("DNN_ME", "SE", 4, i, 0.8, abundance=False) for i in range(5))
    table = abundance_table(with_cell(results, "DNN_ME", "SE", 4, runs=bare))
    sd = np.std(NOISE, ddof=1)
    assert table.rows[1] == ("DNN_ME", "SE 2x", f"5.00 ± {20 * sd:.2f}", f"0.250 ± {sd:.3f}", "16.00 ± 0.00")
    assert [row[1] for row in table.rows] == ["base", "SE 2x", "ME 2x", "ME 4x"]
    assert "(initialised by xavier_uniform)" in table.notes[0]


def test_the_table_of_tuning():
    tried = (({"embedding_regularizer": 0}, 0.79), ({"embedding_regularizer": 1e-6}, 0.8125))
    results = with_cell(a_study(), "DNN_ME", "ME", 4, tried=tried, chosen=tried[1][0])
    assert tuning_table(results).rows == [("DNN_ME", "ME 4x", "2", "embedding_regularizer 1e-06", "0.81250")]
    other = with_cell(a_study(), "DNN_ME", "ME", 4, tried=tried, chosen=tried[0][0])
    assert tuning_table(other).rows[0][-1] == "0.79000"  # of the choice, whatever is largest


# --- rows for csv ------------------------------------------------------------------------------------


def test_csv_rows_hold_every_seeds_value():
    results = a_study(dataset_id="avazu_paper")
    results = with_cell(results, "DNN_ME", "ME", 4, runs=results.cell("DNN_ME", "ME", 4).runs[1:])
    rows = mean_rows(results)
    assert len(rows) == 10 * 5 and len({tuple(row) for row in rows}) == 1  # two metrics, three of IA
    row = next(r for r in rows if (r["model"], r["title"], r["metric"]) == ("DNN_ME", "ME 4x", "AUC"))
    seen = aucs_of(results, "DNN_ME", "ME", 4)
    assert [row[f"seed_{seed}"] for seed in SEEDS] == [None, *seen] and (row["n"], row["n_asked"]) == (4, 5)
    assert (row["mean"], row["sd"]) == (pytest.approx(seen.mean()), pytest.approx(seen.std(ddof=1)))
    assert (row["published"], row["num_sets"], row["embedding_dim"], row["scale"]) == (0.78862, 4, 10, 4)
    assert [r["published"] for r in rows if r["metric"] != "AUC"] == [None] * 40


def test_rows_of_runs_and_costs():
    results = with_cell(a_study(), "DCNv2_ME", "SE", 2, chosen={"net_dropout": 0.1}, runs=a_study().cells[1].runs[:2])
    rows = run_rows(results)
    assert len(rows) == 9 * 5 + 2 and len({tuple(row) for row in rows}) == 1
    row = next(r for r in rows if r["expid"] == "DCNv2_ME_SE_2_1")
    run = results.cells[1].runs[1]
    assert (row["seed"], row["chosen"], row["seconds"], row["steps"]) == (190034, "net_dropout 0.1", 121.0, 1300)
    assert (row["test_AUC"], row["valid_logloss"]) == (run.test["AUC"], run.valid["logloss"])
    assert (row["mean_ia"], row["mean_ia_ratio"], row["mean_ia_random"]) == pytest.approx((5.0006, 0.25003, 16.0))
    (of_cell,) = [r for r in cost_rows(results) if r["model"] == "DCNv2_ME" and r["title"] == "SE 2x"]
    assert (of_cell["weight_bytes"], of_cell["seconds"]) == (8_002_000, 120.5)


def test_rows_of_differences():
    rows = difference_rows(a_study(kinds=("SE", "ME", "ensemble")))
    questions = {(row["first"], row["second"]) for row in rows}
    assert questions == {("ME", "SE"), ("ensemble", "ME"), ("ME", "base"), ("SE", "base")}
    assert len(rows) == 4 * 3 * 4 and len({tuple(row) for row in rows}) == 1
    assert {row["metric"] for row in rows} == {"AUC", "logloss", IA_RATIO}
    first = rows[0]
    assert (first["n"], first["conclusion"]) == (5, "ME ahead") and first["p_t"] < first["p_holm"]


# --- LaTeX -------------------------------------------------------------------------------------------


def every_table():
    full = a_study(models=("DCNv2_ME", "PNN_ME"), kinds=("SE", "ME", "ensemble"), dataset_id="criteo_paper")
    full = with_cell(full, "PNN_ME", "ME", 4, runs=full.cell("PNN_ME", "ME", 4).runs[:2])
    tables = [headline_table(full, metric) for metric in ("AUC", "logloss")]
    tables += [difference_table(full, "ME", "SE", metric) for metric in ("AUC", "logloss", IA_RATIO)]
    odd = Table("100 % & _more_ #1", ("a|b", ("$", "x^2 ~ {y}")), "lr", (("\\", "<1 … 2 × 3 ≤ 4 – 5"),))
    return [*tables, cost_table(full), abundance_table(full), tuning_table(full), odd]


def test_latex_is_balanced_and_escaped():
    for table in every_table():
        text = to_latex(table)
        assert text.isascii() and text.count(r"\begin{") == text.count(r"\end{") == 2
        content = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        plain = re.sub(r"\\[&%$#_{}]", "", content)
        assert plain.count("{") == plain.count("}") and plain.count("$") % 2 == 0
        assert not set("_#") & set(plain) and plain.count("%") == 1  # which ends the line of the resizebox
        body = content[content.index(r"\toprule") : content.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        for row in rows:
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            cells = len(re.findall(r"(?<!\\)&", row)) + 1
            assert cells - len(spans) + sum(spans) == len(table.align) == len(table.columns), row
        grouped = any(isinstance(column, tuple) for column in table.columns)
        assert len(rows) == len(table.rows) + 1 + grouped


def test_latex_of_the_headline_table():
    text = to_latex(headline_table(a_study(dataset_id="criteo_paper"), "AUC"))
    assert r"\multicolumn{2}{c}{SE} & \multicolumn{2}{c}{ME} \\" in text
    assert r"\cmidrule(lr){3-4}" in text and r"\cmidrule(lr){5-6}" in text
    assert r"model & base & 2x & 4x & 2x & 4x \\" in text and r"DCNv2\_ME & 0.80001 $\pm$ 0.00004 & " in text
    assert r"\textit{published} & \textit{0.81339} & " in text


@pytest.mark.skipif(TEX is None, reason="no TeX here")
def test_latex_compiles(tmp_path):
    body = "\n".join(to_latex(table) for table in every_table())
    begin = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (tmp_path / "tables.tex").write_text(begin + body + "\\end{document}\n")
    options = [] if TEX.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([TEX, *options, "tables.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and (tmp_path / "tables.pdf").stat().st_size > 10_000, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_markdown_escapes_bars_and_allows_no_rows():
    header, rows = read_markdown(to_markdown(Table("c", ("a|b",), "l", (("x | y",), ("z",)), ("note",))))
    assert (header, rows) == (["a\\|b"], [["x \\| y"], ["z"]])
    assert read_markdown(to_markdown(tuning_table(a_study())))[1] == []


# --- findings ----------------------------------------------------------------------------------------


def test_findings_of_a_study_with_five_seeds():
    results = a_study(kinds=("SE", "ME", "ensemble"))
    found = list_findings(results)
    gains = [aucs_of(results, "DNN_ME", "ME", k).mean() - aucs_of(results, "DNN_ME", "SE", k).mean() for k in (2, 4)]
    answer = f"test AUC: ME ahead in all 4 cells, by {gains[0]:.5f}; test logloss: the same conclusions."
    assert found[0] == (
        "At the largest size (4x), by test AUC: ME wins, ahead of ensemble and SE by 0.00100 or more (DCNv2_ME, "
        "DNN_ME). All pairs of kinds are corrected together by Holm's method."
    )
    found = found[1:]
    assert found[0] == f"ME against SE at equal size, {answer}" and gains[0] == pytest.approx(gains[1])
    assert found[1].startswith("Does SE scale? SE against base, test AUC: base ahead in all 4 cells, by 0.00")
    assert found[2].startswith("Does ME scale? ME against base, test AUC: ME ahead in all 4 cells, by 0.00")
    assert found.pop(3) == "Scaling curves need 4 sizes and 3 seeds; this study has 3 sizes and 5 seeds."
    assert found[3].startswith("IA / min(K, D), mean over the fields. ME against SE: ME ahead in all 4 cells")
    assert "SE against base: base ahead in all 4 cells, by 0.250 to 0.375" in found[3]
    assert found[4].startswith("Control ensemble against ME, test AUC: ME ahead in all 4 cells, by 0.00100; test")
    assert found[5].startswith("Nothing was tuned")
    assert found[6] == "All runs: early stopping and selection by AUC (max); batch_size 512." and len(found) == 7


def test_findings_that_differ_between_cells_and_metrics():
    results = a_study()
    shift = [run.test["AUC"] - 0.006 for run in results.cell("DNN_ME", "ME", 2).runs]
    even = np.array(NOISE)[[1, 0, 3, 4, 2]] + results.cell("DNN_ME", "SE", 4).runs[0].test["AUC"]
    for scale, aucs in ((2, shift), (4, even)):
        runs = results.cell("DNN_ME", "ME", scale).runs
        changed = tuple(replace(r, test={**r.test, "AUC": auc}) for r, auc in zip(runs, aucs, strict=True))
        results = with_cell(results, "DNN_ME", "ME", scale, runs=changed)
    (answer,) = [sentence for sentence in list_findings(results) if sentence.startswith("ME against SE")]
    of_auc, of_logloss = answer.split("; test ")
    assert "ME ahead in 2 of 4 cells, by 0.00300 (DCNv2_ME 2x, 4x), SE ahead in 1 of 4 cells" in of_auc
    assert "(DNN_ME 2x), no significant difference in 1 of 4 cells (0.000" in of_auc
    assert of_logloss.startswith("logloss: ME ahead in all 4 cells")


def test_few_seeds_conclude_nothing():
    results = a_study(num_seeds=3, kinds=("SE", "ME", "ensemble"))
    text = " ".join(list_findings(results))
    assert "ahead" not in text and NO_DIFFERENCE not in text
    assert "nothing can be concluded in any cell (3 of the 5 required seeds; mean differences +0.0030" in text
    assert "The study has only 3 seeds: nothing is concluded from fewer than 5." in list_cautions(results)
    assert not any("only" in sentence for sentence in list_cautions(a_study()))


def test_findings_of_an_empty_study_and_of_one_kind():
    empty = replace(a_study(), cells=tuple(replace(cell, runs=()) for cell in a_study().cells))
    assert (
        list_findings(empty)[0] == "No run has finished: there is nothing to compare."
        and len(list_findings(empty)) == 3
    )
    assert "0 of 50 runs have finished: the conclusions may change." in list_cautions(empty)
    single = a_study(kinds=("SE",), models=("DNN_ME",))
    assert [re.split("[,.?:]", sentence)[0] for sentence in list_findings(single)][:2] == [
        "Does SE scale",
        "Scaling curves need 4 sizes and 3 seeds; this study has 3 sizes and 5 seeds",
    ]
    assert 3 <= len(list_findings(single)) <= 8


def shift_aucs(results, model, kind, scale, values):
    """Set the test AUC of each run of a cell."""
    runs = results.cell(model, kind, scale).runs
    changed = tuple(replace(run, test={**run.test, "AUC": value}) for run, value in zip(runs, values, strict=True))
    return with_cell(results, model, kind, scale, runs=changed)


def test_the_winner_must_be_ahead_of_every_other_kind():
    """By paired t tests that are corrected for all pairs of all models, computed here by scipy."""
    results = a_study(models=("DNN_ME",), kinds=("SE", "ME", "ensemble"))
    aucs = {kind: aucs_of(results, "DNN_ME", kind, 4) for kind in ("ME", "ensemble", "SE")}
    wins = "ME wins, ahead of ensemble and SE by 0.00100 or more (DNN_ME)"
    assert wins in describe_winners(results, "AUC")
    tied = aucs["ME"] + np.array([3e-4, -2e-4, 1e-4, -3e-4, 2e-4])
    assert stats.ttest_rel(tied, aucs["ME"]).pvalue > 0.05 > 3 * stats.ttest_rel(tied, aucs["SE"]).pvalue
    text = describe_winners(shift_aucs(results, "DNN_ME", "ensemble", 4, tied), "AUC")
    words = "ME and ensemble are ahead of SE, and the seeds cannot tell ME and ensemble apart (DNN_ME)"
    assert words in text and "wins" not in text
    of_two = shift_aucs(a_study(kinds=("SE", "ME", "ensemble")), "DNN_ME", "ensemble", 4, tied)
    one = "ME wins in 1 of 2 models, ahead of ensemble and SE by 0.00100 or more (DCNv2_ME); ME and ensemble are ahead"
    assert one in describe_winners(of_two, "AUC")
    weak = aucs["ME"] - 2e-4 + np.array([2e-4, -1e-4, 1e-4, -1.5e-4, -0.5e-4])
    assert 0.05 / 3 < stats.ttest_rel(aucs["ME"], weak).pvalue < 0.05  # so that only the correction says no
    both = shift_aucs(shift_aucs(results, "DNN_ME", "ensemble", 4, weak), "DNN_ME", "SE", 4, weak)
    assert "the seeds cannot tell ME, ensemble and SE apart (DNN_ME)" in describe_winners(both, "AUC")
    few = a_study(num_seeds=3, models=("DNN_ME",), kinds=("SE", "ME", "ensemble"))
    assert "apart, with 3 of the 5 required seeds (DNN_ME)" in describe_winners(few, "AUC")
    assert describe_winners(a_study(kinds=("SE",)), "AUC") is None


def test_a_kind_of_the_studys_own_can_win_unless_there_are_too_many():
    results = a_study(models=("DNN_ME",), kinds=("SE", "ME", "ensemble"))

    def with_kinds(*kinds):
        copies = [replace(c, kind=kind) for kind in kinds for c in results.cells if c.kind == "ensemble"]
        more = replace(results, cells=(*results.cells, *copies))
        aucs = aucs_of(results, "DNN_ME", "ME", 4) + np.array([2.1e-3, 1.9e-3, 2e-3, 2.2e-3, 1.8e-3])
        return shift_aucs(more, "DNN_ME", "mine", 4, aucs)

    four, seven = with_kinds("mine"), with_kinds("mine", "a", "b", "c")
    assert ": mine wins, ahead of ME, ensemble and SE by 0.00200 or more (DNN_ME)" in describe_winners(four, "AUC")
    assert ": ME wins, ahead of ensemble and SE by " in describe_winners(seven, "AUC")


# --- what was tuned, and cautions --------------------------------------------------------------------


def cautions_of(results):
    """Return all limitations but that of a study without the ensemble."""
    return [text for text in list_cautions(results) if not text.startswith("No ensemble control")]


def test_a_study_without_the_ensemble_says_so():
    text = "No ensemble control for DCNv2_ME, DNN_ME: a gain of ME over SE may come from averaging several models."
    assert list_cautions(a_study())[-1] == text
    assert not any("No ensemble" in text for text in list_cautions(a_study(kinds=("SE", "ME", "ensemble"))))
    assert not any("No ensemble" in text for text in list_cautions(a_study(kinds=("SE",))))


def tuned_study(grid, tries, chosen):
    """Of one model at 2x; the grid of each kind, how many values each tried, and what it chose."""
    results = a_study(models=("DNN_ME",), scales=(2,), grid=grid)
    for cell in results.cells:
        values = [{"embedding_regularizer": v} for v in grid[cell.kind]["embedding_regularizer"]][: tries[cell.kind]]
        value = {"embedding_regularizer": chosen[cell.kind]}
        tried = tuple((v, 0.8 if v == value else 0.7) for v in values)
        results = with_cell(results, "DNN_ME", cell.kind, cell.scale, tried=tried, chosen=value)
    return results


def test_equal_tuning_is_described():
    grid = {kind: {"embedding_regularizer": [0, 1e-6, 1e-5]} for kind in TURNS}
    results = tuned_study(grid, {"base": 3, "SE": 3, "ME": 3}, {"base": 0, "SE": 1e-6, "ME": 1e-5})
    assert (
        "Each cell was tuned by the validation AUC of the first seed: the same grid for all kinds, "
        "embedding_regularizer 0/1e-06/1e-05. Tuning runs: base 3 for 1 cell, SE 3 for 1 cell, ME 3 for 1 cell."
    ) in list_findings(results)
    assert cautions_of(results) == [  # 0 is no edge
        "The chosen embedding_regularizer is at the edge of its grid in 1 cell: DNN_ME ME 2x."
    ]


def test_a_choice_that_another_seed_may_change_is_a_limitation():
    """Against numpy: the lead over the next best value is compared with the sd of the validation AUC over seeds."""
    grid = {kind: {"embedding_regularizer": [1e-6, 1e-5, 1e-4]} for kind in TURNS}
    results = tuned_study(grid, dict.fromkeys(TURNS, 3), dict.fromkeys(TURNS, 1e-5))
    cell = results.cell("DNN_ME", "SE", 2)
    sd = np.std([run.valid["AUC"] for run in cell.runs], ddof=1)
    values = [values for values, _ in cell.tried]

    def cautions(lead, **more):
        tried = tuple(zip(values, (0.5, 0.8, 0.8 - lead), strict=True))
        return cautions_of(replace(with_cell(results, "DNN_ME", "SE", 2, tried=tried), **more))

    assert cautions(1.01 * sd) == []
    (close,) = cautions(0.99 * sd)
    assert close.startswith(
        "In 1 of 3 tuned cells, the validation AUC of the chosen setting leads the next by less than"
    )
    assert len(cautions(0.72 * sd, tuning_seeds=1)) == 1 and cautions(0.72 * sd, tuning_seeds=2) == []
    assert len(cautions(0.70 * sd, tuning_seeds=2)) == 1


def test_several_seeds_for_tuning_are_described():
    grid = {kind: {"embedding_regularizer": [1e-6, 1e-5, 1e-4]} for kind in TURNS}
    results = replace(tuned_study(grid, dict.fromkeys(TURNS, 3), dict.fromkeys(TURNS, 1e-5)), tuning_seeds=2)
    (text,) = [text for text in list_findings(results) if text.startswith("Each cell was tuned")]
    assert "by the mean validation AUC of the first 2 seeds" in text and "base 6 for 1 cell" in text


def test_unequal_tuning_is_a_limitation():
    grid = {kind: {"embedding_regularizer": [1e-7, 1e-6, 1e-5]} for kind in ("base", "SE")}
    grid["ME"] = {"embedding_regularizer": [1e-6, 1e-5, 1e-4, 1e-3]}
    results = tuned_study(grid, {"base": 3, "SE": 3, "ME": 4}, {"base": 1e-6, "SE": 1e-6, "ME": 1e-4})
    assert cautions_of(results) == [
        "The kinds were tuned over different grids.",
        "The tuning budgets are not equal: base 3, SE 3, ME 4 runs per cell.",
    ]
    assert "a grid for each kind, base: embedding_regularizer 1e-07/1e-06/1e-05; SE: " in list_findings(results)[-2]
    same = {kind: {"embedding_regularizer": [1e-7, 1e-6, 1e-5]} for kind in TURNS}
    fewer = tuned_study(same, {"base": 3, "SE": 3, "ME": 2}, dict.fromkeys(same, 1e-6))
    assert cautions_of(fewer) == ["The tuning budgets are not equal: base 3, SE 3, ME 2 runs per cell."]


def test_cautions_on_failures_and_sizes():
    results = a_study(failed=(("DNN_ME_ME_4x_000_ab", "the loss is NaN"), ("x", "y")))
    wide = tuple(replace(run, embedding_parameters=5_000_000) for run in results.cell("DNN_ME", "ME", 4).runs[:4])
    found = cautions_of(with_cell(results, "DNN_ME", "ME", 4, runs=wide))
    assert found == [
        "49 of 50 runs have finished: the conclusions may change.",
        "2 runs failed, the first DNN_ME_ME_4x_000_ab: the loss is NaN.",
        "DNN_ME 4x: SE has 4,000,000 embedding parameters, ME 5,000,000.",
    ]


def test_cautions_on_differences_that_are_small_or_cannot_be_seen():
    results = a_study()
    for model in results.models:
        for scale in (2, 4):
            runs = results.cell(model, "ME", scale).runs
            near = tuple(replace(r, test={"AUC": r.test["AUC"] - 0.0025}) for r in runs)
            results = with_cell(results, model, "ME", scale, runs=near)
    same = "All significant differences in AUC between ME and SE are below 0.001: BARS calls results that are so close"
    same += " the same."
    assert cautions_of(results) == [same] and cautions_of(a_study()) == []
    noisy = tuple(replace(r, test={"AUC": 0.8 + 50 * NOISE[i]}) for i, r in enumerate(results.cells[1].runs))
    found = cautions_of(with_cell(results, "DCNv2_ME", "SE", 2, runs=noisy))
    assert found[0].startswith("In 1 of 4 cells, a difference between ME and SE must exceed 0.001 AUC to be detected")
