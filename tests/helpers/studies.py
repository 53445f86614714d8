"""Replace the runs of a study by stubs that take no time."""

import sys
from pathlib import Path

import pytest

from fuxictr_me.study import run_process, schedule

TINY = {"dataset_id": "tiny_flights", "models": {"DNN_ME": {"expid": "DNN_ME_test", "epochs": 1}}}
TINY |= {"kinds": ["SE", "ME"]}  # without the ensemble there are fewer runs
STUB = """
import json, sys, time, pathlib, yaml
folder, expid = pathlib.Path(sys.argv[1]), sys.argv[2]
settings = yaml.safe_load((folder / "model_config.yaml").read_text())[expid]
with open("started.txt", "a") as file:
    file.write(expid + chr(10))
auc = 0.7 + settings["num_sets"] / 100 + settings.get("embedding_regularizer", 0)
{behaviour}
planned = json.loads(pathlib.Path("study.json").read_text())
run = next(run for run in planned["runs"] if run["expid"] == expid)
out = pathlib.Path("checkpoints") / settings["dataset_id"]
out.mkdir(parents=True, exist_ok=True)
result = {{"expid": expid, "settings": settings, "model": settings["model"], "dataset_id": settings["dataset_id"]}}
result |= {{"valid": {{"AUC": auc, "logloss": 0.5}}, "test": {{"AUC": auc - 0.01, "logloss": 0.6}}, "versions": {{}}}}
result |= {{"parameters": 1000, "parameters_without_embeddings": 100, "seconds": 1.0, "steps": 10, "peak_memory": None}}
as_planned = json.loads(json.dumps(settings)) == run["settings"]
result |= {{"data_digest": planned["data"].get("digest"), "settings_digest": run["settings_digest"] * as_planned}}
(out / (expid + ".json")).write_text(json.dumps(result))
"""


@pytest.fixture
def stub(monkeypatch):
    """Return a function that replaces runs by ``STUB``, which runs code of the test. Its AUC depends on settings."""

    def use(behaviour=""):
        Path("stub.py").write_text(STUB.format(behaviour=behaviour))
        script = str(Path("stub.py").resolve())
        command = lambda run, device: [sys.executable, script, run.config, run.expid]  # noqa: E731
        monkeypatch.setattr(run_process, "make_command", command)
        monkeypatch.setattr(schedule, "POLL_SECONDS", 0.02)

    return use


def started(folder):
    """Return the expids of the stubs that were started, in order."""
    path = Path(folder) / "started.txt"
    return path.read_text().split() if path.exists() else []
