"""A study resumes the runs that were killed."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from helpers.studies import TINY

from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.resume_file import read_resume_file
from fuxictr_me.runs.runtime import Runtime
from fuxictr_me.study.launch import launch_study
from fuxictr_me.study.plan_file import read_plan, write_plan
from fuxictr_me.study.run_process import _discard_other_state, make_command
from fuxictr_me.study.study_data import prepare_data
from fuxictr_me.study.study_file import read_study
from fuxictr_me.study.study_layout import lay_out_study

pytestmark = pytest.mark.usefixtures("own_folder")


class KilledInThirdEpoch(Runtime):
    def prepare_training(self, model, params, started):
        super().prepare_training(model, params, started)
        train_epoch = model.train_epoch

        def train_or_stop(batches):
            if model._epoch_index == 2:
                raise KeyboardInterrupt
            train_epoch(batches)

        model.train_epoch = train_or_stop


def test_a_run_that_was_killed_is_resumed_and_its_state_removed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    design = {**TINY, "scales": [1], "seeds": 1, "settings": {"epochs": 4, "early_stop_patience": 9}}
    Path("s.yaml").write_text(yaml.safe_dump(design))
    plan = lay_out_study(read_study("s.yaml"), "s")
    plan = prepare_data(plan, Path("s"))
    write_plan(plan, "s")
    (run,) = plan.runs
    assert make_command(run, -1)[-1] == "--resume"
    place = Path("s/checkpoints", Path(plan.data_folder).name).resolve()
    result, checkpoint, state = (place / f"{run.expid}.{kind}" for kind in ("json", "model", "resume"))
    home = Path.cwd()
    os.chdir("s")  # runs of a study start there
    run_expid(run.expid, run.config)
    expected, weights = json.loads(result.read_text()), load_state_dict(checkpoint)
    result.unlink(), checkpoint.unlink()
    with pytest.raises(KeyboardInterrupt):
        run_expid(run.expid, run.config, runtime=KilledInThirdEpoch(resume=True))
    os.chdir(home)
    content = read_resume_file(state)
    assert content["epoch"] == 2
    planned = {"settings_digest": run.settings_digest, "data_digest": plan.data["digest"]}
    assert {name: content[name] for name in planned} == planned  # or the study would discard it

    assert "1 of 1 runs finished" in launch_study("s.yaml")
    resumed = json.loads(result.read_text())
    assert resumed["resumed_after_epochs"] == 2 and not state.exists()
    assert (resumed["valid"], resumed["test"]) == (expected["valid"], expected["test"])
    found = load_state_dict(checkpoint)
    assert all(torch.equal(found[name], weights[name]) for name in weights)

    state.write_bytes(b"damaged")  # e.g. of a killed run of other settings
    _discard_other_state(run, read_plan("s"), Path("s"))
    assert not state.exists()
    for name, digest in (*planned.items(), (None, None)):
        torch.save({**content, **({name: f"{digest}x"} if name else {})}, state)
        _discard_other_state(run, read_plan("s"), Path("s"))
        assert state.exists() == (name is None)
