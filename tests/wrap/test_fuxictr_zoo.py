"""Embedding sets on every torch model of FuxiCTR's zoo, with its settings and tiny data (needs FUXICTR_SRC)."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from fuxictr_me import MultiEmbeddingOf
from fuxictr_me.errors import UsageError

SOURCE = os.environ.get("FUXICTR_SRC")
pytestmark = [
    pytest.mark.skipif(SOURCE is None, reason="FUXICTR_SRC names no checkout"),
    pytest.mark.filterwarnings("ignore"),  # of FuxiCTR's models
]
sys.path.append(str(ROOT / "benchmarks"))

import zoo_checks  # noqa: E402
import zoo_models  # noqa: E402

ENTRIES = zoo_models.find_entries(SOURCE) if SOURCE else {}
BROKEN = {"QNN", "QNN_alpha"}  # in FuxiCTR itself
REFUSED = {"LR", *BROKEN}
WRAPPED = [label for label in ENTRIES if label not in REFUSED]
LOGITS = {"FFM", "FFMv2", "FM", "FmFM", "HOFM", "LorentzFM"}
IN_TURN = {"DIEN", "LongCTR/DIEN", "LongCTR/SDIM"}
SMALL = {  # where FuxiCTR's settings take seconds
    "tiny_mtl": {"embedding_dim": 4, "num_experts": 2, "expert_hidden_units": [16, 8], "bottom_hidden_units": [16, 8]},
    "tiny_long": {"embedding_dim": 8, "dnn_hidden_units": [16, 8], "dcn_hidden_units": [16, 8], "dim_feedforward": 16},
}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Entries of a copy in which tiny_mtl is built, because Ray takes half a minute on the wheel."""
    folder = tmp_path_factory.mktemp("zoo")
    entries = zoo_models.find_entries(zoo_models.copy_checkout(SOURCE, folder / "FuxiCTR"))
    zoo_models.construction(entries["MMoE"], zoo_models.prepare(entries["MMoE"], folder / "built"))
    shutil.copytree(folder / "built" / "data", folder / "FuxiCTR" / "data", dirs_exist_ok=True)
    return entries


@pytest.fixture
def case(request, entries, tmp_path, monkeypatch):
    entry = entries[request.param]
    if entry.label.startswith("LongCTR"):
        pytest.importorskip("keras_preprocessing", reason="LongCTR's loader needs keras_preprocessing")
        monkeypatch.setattr(np, "unicode_", np.str_, raising=False)
    more = SMALL.get(entry.settings["dataset_id"], {})
    return zoo_checks.Case(entry, zoo_models.prepare(entry, tmp_path / "run", **more))


def parametrize(labels):
    return pytest.mark.parametrize("case", labels, indirect=True)


def test_all_exported_models_are_found():
    exported = re.findall(r"^from \.\S+ import (.*)$", (Path(SOURCE) / "model_zoo" / "__init__.py").read_text(), re.M)
    names = {name for line in exported for name in line.split(", ")}
    assert len(names) > 40 and names <= set(ENTRIES)
    assert sum(label.startswith("LongCTR/") for label in ENTRIES) == 10


@parametrize([label for label in ENTRIES if label not in BROKEN])
def test_one_set_is_the_plain_model_bit_for_bit(case):
    assert zoo_checks.one_set_differs(case) == []


@parametrize(WRAPPED)
def test_two_equal_sets_predict_as_the_plain_model(case, request):
    plain, model = case.model(), case.sets(2)
    label = request.node.callspec.params["case"]
    assert ([str(point) for point in model.merge_points] == [">output_activation"]) == (label in LOGITS)
    assert [name for name in model.state_dict() if not name.startswith("sets.")] == list(plain.state_dict())
    assert zoo_checks.embedding_parameters(model) == 2 * zoo_checks.embedding_parameters(plain) > 0
    assert zoo_checks.without_gradient(case, model) == []
    assert zoo_checks.difference_of_equal_sets(case, 2) < 1e-12


@parametrize([label for label in WRAPPED if label not in IN_TURN])
def test_sets_can_run_at_once(case):
    """The tolerance is larger because gradients of LongCTR/MIRRN's filters are always float32."""
    assert case.sets(3, batched=True).batched
    assert zoo_checks.difference_of_equal_sets(case, 3, batched=True) < 1e-6


@parametrize([label for label in ENTRIES if label in IN_TURN])
def test_sets_that_cannot_run_at_once_run_in_turn(case):
    model = case.sets(3, batched=True)
    assert not model.batched
    assert "in turn (torch.func.vmap fails: " in model.describe()


@parametrize([label for label in ENTRIES if label in REFUSED])
@pytest.mark.parametrize("merge", [None, "logits"])
def test_models_without_merge_points_are_refused_in_one_line(case, merge):
    with pytest.raises(UsageError) as refused:
        case.model(MultiEmbeddingOf(case.backbone), num_sets=2, merge=merge)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_zoo_page_trains_an_epoch_of_each_model(tmp_path):
    import zoo
    import zoo_page

    results = zoo.run(SOURCE, tmp_path, ["AutoInt", "DIN", "MMoE", "LR", "QNN", "QNN_alpha"])
    for label in ("AutoInt", "DIN", "MMoE"):
        assert zoo_page.trains(results[label]), results[label]
        assert results[label]["merge_points"] == results[label]["checks"]["merge_points"]
        assert results[label]["merge"] is None and results[label]["checks"]["exact"] < 1e-12
    for label in REFUSED:
        assert not results[label]["finished"] and results[label]["steps"] == 0
        assert "cannot have 2 sets" in results[label]["checks"]["refused"]
    assert results["LR"]["refused"] and results["LR"]["reason"] == results["LR"]["checks"]["refused"]
    assert "cannot import" in results["QNN"]["reason"]  # FuxiCTR's own script
