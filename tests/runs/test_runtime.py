"""The runtimes of a run: this process alone, or the processes that torchrun has started."""

import pytest

from fuxictr_me import DNN_ME, UsageError
from fuxictr_me.runs import torchrun
from fuxictr_me.runs.open_runtime import open_runtime
from fuxictr_me.runs.runtime import Runtime


def test_without_an_engine_this_process_does_everything():
    with open_runtime(gpu=2) as runtime:
        assert type(runtime) is Runtime and runtime.gpu == 2
        assert (runtime.is_first, runtime.num_processes, runtime.options) == (True, 1, "")
        assert runtime.place_model(DNN_ME, None, {}) is DNN_ME
        assert runtime.find_share(None) is None and runtime.fit_arguments(None) == {}
        assert runtime.describe(None) == {"processes": 1}


def test_options_of_several_processes_need_an_engine():
    with pytest.raises(UsageError, match="--set-groups is for runs on several processes"):
        open_runtime(set_groups=2)


def test_torchruns_processes_are_joined_and_left_unless_the_run_fails(monkeypatch):
    class Second:
        size, is_first = 2, False

    left = []
    monkeypatch.setattr(torchrun, "join_process_group", lambda gpu: (Second(), gpu + 1))
    monkeypatch.setattr(torchrun, "leave_process_group", lambda: left.append(True))
    with open_runtime(0, "sharded") as runtime:
        assert (runtime.gpu, runtime.num_processes, runtime.is_first) == (1, 2, False)
        assert runtime.options == " --engine sharded"
    assert left == [True]
    with pytest.raises(ZeroDivisionError), open_runtime(0, "sharded"):
        raise ZeroDivisionError  # the other processes may have ended: waiting for them could take minutes
    assert left == [True]


def test_only_a_run_that_can_be_resumed_keeps_its_state():
    class Model:
        model_dir, model_id = "runs/made", "m"

    resumed, plain = (torchrun.TorchrunRuntime(-1, "ddp", resume=resume) for resume in (True, False))
    assert str(resumed.fit_arguments(Model())["resume_from"]) == "runs/made/m.resume"
    assert plain.fit_arguments(Model()) == {}


def test_the_state_of_one_process_is_no_state_of_several(tmp_path):
    class Model:
        model_dir, model_id = tmp_path, "m"

    (tmp_path / "m.resume").write_bytes(b"")
    with pytest.raises(UsageError, match=r"m\.resume is of a run in one process: continue it without --engine"):
        torchrun.TorchrunRuntime(-1, "ddp", resume=True).prepare_training(Model(), {}, 0.0)
    torchrun.TorchrunRuntime(-1, "ddp").prepare_training(Model(), {}, 0.0)
