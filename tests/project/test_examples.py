"""The scripts and the notebook of ``examples/`` run, and compute what they say."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.paths import ROOT

from fuxictr_me import information_abundance
from fuxictr_me.commands.main import main

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "multi_embedding.ipynb"


def read_notebook():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_every_example_is_listed_and_found_from_the_readme_and_the_guide():
    listed = set(re.findall(r"\]\(([\w.]+\.(?:py|ipynb))\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert "(examples/README.md)" in (ROOT / "README.md").read_text()
    assert "examples/README.md" in (ROOT / "mkdocs.yml").read_text()


def test_the_plain_model_is_the_formula_of_the_paper_and_learns():
    example = runpy.run_path(str(EXAMPLES / "plain_multi_embedding.py"))
    model = example["MultiEmbedding"](num_sets=3, dim=2, hidden=5)
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    torch.manual_seed(1)
    x, _ = example["make_clicks"](rows=7)
    hidden = []
    for m in range(3):
        e = weights[f"embeddings.{m}.weight"][x].reshape(7, -1)
        crossed = e * (e @ weights[f"crosses.{m}.weight"].T + weights[f"crosses.{m}.bias"]) + e
        projection = weights[f"projections.{m}.0.weight"], weights[f"projections.{m}.0.bias"]
        hidden.append(np.maximum(crossed @ projection[0].T + projection[1], 0))
    logits = np.mean(hidden, axis=0) @ weights["head.weight"][0] + weights["head.bias"]
    assert np.allclose(model(x).detach().numpy(), logits, atol=1e-5)
    table = model.embeddings[0].weight.detach()
    assert example["information_abundance"](table) == pytest.approx(information_abundance(table), rel=1e-5)
    untrained, trained = (example["train"](num_sets=2, dim=4, epochs=epochs)[1] for epochs in (0, 2))
    assert trained < untrained - 0.02


def test_the_gates_of_your_own_model_are_its_formula():
    example = runpy.run_path(str(EXAMPLES / "own_model.py"))
    gates = example["Gates"](3, [2, 4]).double()
    e = torch.randn(5, 3, 6, dtype=torch.float64)
    (out,) = gates(e)
    weight, bias = (parameter.detach() for parameter in gates.gate.parameters())
    for m in range(3):
        expected = e[:, m] / (1 + torch.exp(-(e[:, m] @ weight[m].reshape(6, 6).T + bias[m].reshape(6))))
        torch.testing.assert_close(out[:, m], expected)


@pytest.mark.parametrize("expid", ["GateNet_ME_4x", "DeepFM_ME_4x"])
def test_the_config_trains_the_models_of_the_examples(expid, own_folder, monkeypatch):
    monkeypatch.setenv("FUXICTR_ME_PATH", str(EXAMPLES))
    assert main(["run_expid", "--config", str(EXAMPLES / "config"), "--expid", expid]) == 0
    result = json.loads(Path(f"checkpoints/tiny_flights/{expid}.json").read_text())
    assert 0 < result["test"]["logloss"] < 1 and result["settings"]["num_sets"] == 4
    seen = pd.read_csv(f"checkpoints/tiny_flights/{expid}.ia.csv", dtype={"set": str})
    assert set(seen["set"]) == {"0", "1", "2", "3", "all"}


@pytest.mark.parametrize(
    ("script", "arguments"), [("own_model", {}), ("any_fuxictr_model", {"num_sets": 2, "embedding_dim": 2})]
)
def test_a_script_trains_by_itself(script, arguments, own_folder):
    trained = runpy.run_path(str(EXAMPLES / f"{script}.py"))["train"](epochs=1, **arguments)
    metrics = trained if script == "own_model" else trained[1]
    assert 0 < metrics["logloss"] < 1
    if script == "any_fuxictr_model":
        assert trained[0].describe().startswith("DeepFM with 2 embedding sets\n")


def test_the_notebook_runs_in_one_namespace_and_draws_what_was_measured(own_folder, monkeypatch):
    """Its code cells are run here, without a kernel. They are stored without outputs."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    monkeypatch.syspath_prepend(EXAMPLES)  # the folder of the notebook
    cells = [cell for cell in read_notebook().cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    namespace = {}
    try:
        for cell in cells:
            exec(compile(cell.source, f"{NOTEBOOK.name}, {cell.id}", "exec"), namespace)
        watched, spectra = (plt.figure(number).axes for number in plt.get_fignums())
        for axis, name, sets in zip(watched, ("SE", "ME"), (1, 4), strict=True):
            curves = [line for line in axis.lines if line.get_label().startswith("set")]
            tables = namespace["models"][name].embedding_layer.tables()["tailnum"]
            assert len(curves) == sets == len(tables) and all(len(curve.get_ydata()) == 3 for curve in curves)
        spectrum = [np.asarray(line.get_ydata()) for line in spectra[0].lines]
        assert [len(values) for values in spectrum] == [16, 4, 4, 4, 4]
        expected = np.linalg.svd(
            namespace["models"]["ME"].embedding_layer.tables()["tailnum"][2].numpy(), compute_uv=False
        )
        assert np.allclose(spectrum[3], expected / expected[0], atol=1e-4)
        assert namespace["wrapped"].describe().startswith("DeepFM with 4 embedding sets")
    finally:
        plt.close("all")
        sys.modules.pop("any_fuxictr_model", None)


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path):
    from nbclient import NotebookClient

    shutil.copy(EXAMPLES / "any_fuxictr_model.py", tmp_path)
    notebook = read_notebook()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 2
