"""Importing changes nothing, code runs only from folders that the user chose, and no result is lost or mixed up."""

import fcntl
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fuxictr.pytorch import dataloaders
from fuxictr.pytorch import models as fuxictr_models
from fuxictr.pytorch.models import BaseModel, rank_model
from helpers.batches import make_batch
from helpers.command_line import fails, run_cli
from helpers.feature_maps import MODEL
from helpers.forked_processes import run_forked
from helpers.fuxictr_checkout import checkout  # noqa: F401
from helpers.own_models import MINE
from helpers.run_configs import TINY, write_config

from fuxictr_me import DNN_ME, MultiEmbeddingOf, UsageError
from fuxictr_me.commands.interrupts import Terminated, sigterm_as_interrupt
from fuxictr_me.commands.main import main
from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.distributed.convert_checkpoint import run as convert
from fuxictr_me.errors import RunError
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained
from fuxictr_me.runs.run_data import load_feature_map, load_split
from fuxictr_me.runs.run_lock import locked_run
from fuxictr_me.runs.run_result import finish_results, format_row, write_result
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.training.callbacks import InformationAbundance, build
from fuxictr_me.zoo.find_model import find_model
from fuxictr_me.zoo.host import run_script

pytestmark = pytest.mark.usefixtures("own_folder")
RUN = ("run_expid", "--config", "config", "--expid", "mine")
FOLDER = Path("checkpoints/tiny_flights")


# --- importing changes nothing

IMPORTS = """
import importlib.util, logging, os, sys, warnings
import polars, torch  # whose own doings are not the package's
def state():
    return (list(sys.meta_path), list(sys.path), list(sys.argv), os.getcwd(), dict(os.environ), list(warnings.filters),
            list(logging.root.handlers), logging.root.level, torch.get_default_dtype(), torch.get_num_threads(),
            torch.backends.cudnn.deterministic, torch.get_rng_state().tolist())
before = state()
import fuxictr_me
from fuxictr_me import DCNv2_ME, H5DataLoader
import fuxictr_me.runs.experiment, fuxictr_me.zoo.host
after = state()
for x, y in zip(before, after):
    assert x == y, (x, y)
assert not [n for n in ("ray", "sklearn", "pandas", "scipy.stats", "matplotlib") if n in sys.modules]
for name in ("ray", "sklearn", "ray.data" if importlib.util.find_spec("ray") else "pandas"):
    importlib.util.find_spec(name)  # raises where a fake module is left
"""


def test_importing_the_package_changes_nothing_in_the_process(tmp_path):
    run = subprocess.run([sys.executable, "-c", IMPORTS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


RAY = """
import sys
calls = []
def is_initialized():
    return False
def init(**kwargs):
    calls.append("init")
"""
RAY_DATA = """
import numpy as np, pandas as pd, torch
class SaveMode:
    OVERWRITE = "overwrite"
class TaskPoolStrategy:
    pass
class DataContext:
    get_current = classmethod(lambda cls: cls())
class Read:
    def __init__(self, files, columns):
        self.table = pd.concat([pd.read_parquet(file, columns=columns) for file in files])
    def count(self):
        return len(self.table)
    def iter_torch_batches(self, batch_size, **kwargs):
        for start in range(0, len(self.table), batch_size):
            part = self.table.iloc[start : start + batch_size]
            yield {name: torch.from_numpy(part[name].to_numpy().copy()) for name in part}
read_parquet = Read
"""
READS_PARQUET = """
import sys, numpy as np, pandas as pd
import fuxictr_me.runs.experiment
assert "ray" not in sys.modules
from types import SimpleNamespace
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr_me.compat.loaders import make_rank_loaders
pd.DataFrame({"a": range(5), "y": [0.0, 1, 0, 1, 1]}).to_parquet("x.parquet")
feature_map = SimpleNamespace(features={"a": {}}, labels=["y"])
data = make_rank_loaders(feature_map, stage="test", test_data="x.parquet", batch_size=2, data_format="parquet")
assert [batch["a"].tolist() for batch in data] == [[0, 1], [2, 3], [4]]
import ray
from fuxictr.preprocess.build_dataset import SimpleFilenameProvider
assert ray.calls == ["init"] and sys.modules["fuxictr.preprocess.build_dataset"].ray is ray
assert SimpleFilenameProvider.__mro__[1].__module__ == "ray.data.datasource.filename_provider"
"""


@pytest.mark.skipif(detect_flavour() == "main", reason="FuxiCTR's main branch does not use ray")
def test_fuxictrs_parquet_loader_gets_the_real_ray_when_it_is_used(tmp_path):
    """A package of a few lines replaces the real ray, whose start takes half a minute."""
    package = tmp_path / "ray" / "data" / "datasource"
    package.mkdir(parents=True)
    (tmp_path / "ray" / "__init__.py").write_text(RAY)
    (tmp_path / "ray" / "data" / "__init__.py").write_text(RAY_DATA)
    (package / "__init__.py").write_text("")
    (package / "filename_provider.py").write_text("class FilenameProvider:\n    pass\n")
    run = run_forked(code=READS_PARQUET, cwd=tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("ending", ["", "raise ZeroDivisionError('theirs')", "raise SystemExit(7)"])
def test_host_restores_what_it_changed_when_the_script_ends(checkout, monkeypatch, ending):
    script = checkout / "experiment" / "run_expid.py"
    script.write_text(script.read_text() + f"\n{ending}\n")
    monkeypatch.chdir(checkout)
    patched = [(fuxictr_models, "BaseModel"), (fuxictr_models, "MultiTaskModel"), (rank_model, "BaseModel")]
    patched += [(dataloaders, "RankDataLoader"), (BaseModel, "__init__"), (BaseModel, "__new__")]

    def state():
        modules = {name: m for name, m in sys.modules.items() if name.partition(".")[0] in ("model_zoo", "src")}
        found = [getattr(owner, name) for owner, name in patched]
        return found, vars(BaseModel).keys(), modules, list(sys.path), list(sys.meta_path), list(sys.argv), os.getcwd()

    before = state()
    raised = None
    try:
        run_script("experiment/run_expid.py", ["--config", "../config", "--expid", "theirs_ME"])
    except (ZeroDivisionError, SystemExit) as error:
        raised = error
    assert state() == before and "zoo_path" not in sys.modules
    assert type(raised).__name__ in ending if ending else raised is None
    assert (checkout / "experiment" / "checkpoints" / "made" / "theirs_ME.model").exists()  # the script did run


# --- what runs code

MODULE = """
import pathlib
pathlib.Path("it_ran").touch()
from fuxictr_me import Callback, DNN_ME
class Sent(DNN_ME):
    pass
class Watch(Callback):
    pass
"""


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A folder that somebody sent: a config, and beside it the module that it names."""
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "sent_any.py").write_text(MODULE)
    write_config({"model": "sent_any:Sent", "callbacks": ["sent_any.Watch"]}, base="DNN_ME_test")
    shutil.move("config", folder / "config")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("sent_any", None)


def test_code_beside_a_config_does_not_run(sent, capsys):
    message = fails(capsys, "run_expid", "--config", "sent/config", "--expid", "mine")
    assert f"sent_any lies in {sent.resolve()}, and code beside a config runs only if you name its folder" in message
    assert not Path("it_ran").exists() and str(sent) not in sys.path and "sent_any" not in sys.modules
    with pytest.raises(UsageError, match=r"callback 'sent_any.Watch': unknown module 'sent_any'"):
        build(["sent_any.Watch"])


def test_code_runs_from_the_working_directory_and_from_a_folder_that_the_environment_names(sent, monkeypatch):
    monkeypatch.setenv("FUXICTR_ME_PATH", str(sent))
    assert find_model("sent_any:Sent").__name__ == "Sent" and Path("it_ran").exists()
    assert type(build(["sent_any.Watch"])[0]).__name__ == "Watch"
    del sys.modules["sent_any"]
    monkeypatch.delenv("FUXICTR_ME_PATH")
    sys.path[:] = [path for path in sys.path if path != str(sent)]
    with pytest.raises(UsageError, match="unknown module"):
        find_model("sent_any:Sent")
    assert find_model("sent_any:Sent", named=sent).__name__ == "Sent"
    del sys.modules["sent_any"]
    sys.path[:] = [path for path in sys.path if path != str(sent)]
    monkeypatch.chdir(sent)
    assert find_model("sent_any:Sent").__name__ == "Sent"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("broken_any.Watch", "callback 'broken_any.Watch' cannot be imported: SystemExit: 3"),
        ("whole_any.Wach", "unknown class in whole_any .* 'Wach'; did you mean 'Watch'"),
        ("../whole_any.Watch", "is not a class: write package.module.Class"),
        ("os.path", "unknown class in os|is not a subclass of fuxictr_me.Callback"),
        ({"InformationAbundance": ["tensorboard"]}, "arguments must be {argument: value}, got"),
    ],
)
def test_wrong_callbacks_are_named_in_one_line(spec, words, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("broken_any.py").write_text("raise SystemExit(3)\n")
    Path("whole_any.py").write_text(MODULE)
    with pytest.raises(UsageError, match=words) as error:
        build([spec])
    assert "\n" not in str(error.value)


def test_a_data_loader_must_yield_batches(capsys):
    write_config()
    config = Path("config/dataset_config.yaml")
    data = yaml.safe_load(config.read_text())
    text = yaml.safe_dump(data).replace("  data_root:", "  data_loader: !!python/name:os.system\n  data_root:")
    config.write_text(text)
    fails(capsys, *RUN)


# --- two at once, kills and interrupts


def test_a_second_run_of_one_expid_is_refused_in_one_line(capsys):
    write_config()
    with locked_run(FOLDER, "mine"):
        (FOLDER / "mine.log").write_text("of the first run")
        message = fails(capsys, *RUN, code=1)
        assert f"mine is being trained in {FOLDER} by another process (process {os.getpid()})" in message
        assert (FOLDER / "mine.log").read_text() == "of the first run" and not Path("config.csv").exists()
    assert {path.name for path in FOLDER.iterdir()} == {"mine.log"}
    (FOLDER / ".mine.lock").write_text("left by a process that was killed")
    assert main(list(RUN)) == 0


def test_the_lock_of_a_removed_file_is_ignored():
    with locked_run(FOLDER, "mine"):
        old = os.open(FOLDER / ".mine.lock", os.O_RDWR)
    fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as one that opened it just before
    with locked_run(FOLDER, "mine"), pytest.raises(RunError, match="by another"), locked_run(FOLDER, "mine"):
        pass
    os.close(old)


@pytest.mark.parametrize("name", ["mine.ia.csv", "mine.model", "mine.log", "mine.json", ".mine.lock"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_path_in_the_way_is_named_before_the_run(name, kind, capsys):
    write_config()
    FOLDER.mkdir(parents=True)
    Path("victim").write_text("keep")
    (FOLDER / name).mkdir() if kind == "folder" else (FOLDER / name).symlink_to(Path("victim").resolve())
    message = fails(capsys, *RUN, code=1)
    assert name in message and Path("victim").read_text() == "keep" and not Path("data").exists()


def result_of(expid="mine"):
    return {"expid": expid, "dataset_id": "d", "valid": {"AUC": 0.75}, "test": {}}


@pytest.mark.parametrize("killed_in", ["before json", "append_atomically", "unlink"])
def test_a_result_is_complete_whenever_its_writer_is_killed(killed_in, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    unlink = Path.unlink
    folder, row = tmp_path / "c", format_row("run_expid --expid mine", result_of())
    folder.mkdir()
    with monkeypatch.context() as patch:
        if killed_in == "append_atomically":
            patch.setattr("fuxictr_me.runs.run_result.append_atomically", killed)
        elif killed_in == "unlink":
            patch.setattr(Path, "unlink", lambda p, **more: killed() if p.suffix == ".result" else unlink(p, **more))
        else:
            patch.setattr("fuxictr_me.runs.run_result._complete", killed)
        with pytest.raises(Killed):
            write_result(folder, result_of(), "config.csv", row)
    for part in folder.glob("*.part*"):
        os.unlink(part)
    for _ in range(2):
        finish_results(folder, "mine")
        assert Path("config.csv").read_text() == row
        assert json.loads((folder / "mine.json").read_text()) == result_of()
        assert [path.name for path in folder.iterdir()] == ["mine.json"]


@pytest.mark.parametrize("content", [b"a row that was c", b"caf\xe9\n", b"", b"whole\r\n"])
def test_a_result_row_begins_a_new_line_whatever_the_file_contains(content, tmp_path):
    row = format_row("run_expid --expid mine", result_of())
    Path("config.csv").write_bytes(content)
    write_result(tmp_path, result_of(), "config.csv", row)
    lines = Path("config.csv").read_bytes().splitlines()
    assert lines == [*content.splitlines(), row.encode().rstrip(b"\n")]


@pytest.mark.parametrize("change", [{"csv": "../x.csv"}, {"csv": ".bashrc"}, {"row": "evil\n"}, {"folder": "/"}])
def test_a_pending_result_of_a_stranger_is_not_written_elsewhere(change, tmp_path):
    row = format_row("run_expid --expid mine", result_of())
    content = {"json": "{}", "csv": "config.csv", "folder": os.getcwd(), "row": row, **change}
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / ".mine.result").write_text(json.dumps(content))
    finish_results(folder, "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["c"] and not (tmp_path.parent / "x.csv").exists()
    assert [path.name for path in folder.iterdir()] == [".mine.result"]


def test_sigterm_is_an_interrupt_and_the_handler_ends_with_the_command(monkeypatch, capsys):
    for number, code, word in ((signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")):
        monkeypatch.setattr("fuxictr_me.commands.zoo.run", lambda _, number=number: signal.raise_signal(number))
        assert main(["zoo"]) == code
        assert capsys.readouterr().err == (
            f"fuxictr-me: error: {word}; the last checkpoint and everything written before are complete\n"
        )
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(Terminated), sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_an_interrupt_waits_until_the_result_is_written(monkeypatch, tmp_path):
    append = "fuxictr_me.runs.run_result.append_atomically"
    monkeypatch.setattr(append, lambda path, block: (signal.raise_signal(signal.SIGINT), Path(path).write_bytes(block)))
    with pytest.raises(KeyboardInterrupt):
        write_result(tmp_path, result_of(), "config.csv", format_row("x", result_of()))
    assert Path("config.csv").exists() and not (tmp_path / ".mine.result").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (ZeroDivisionError("x"), r"a bug in fuxictr-me, .*\(ZeroDivisionError: x\); the traceback is in "),
        (RecursionError("too deep"), r"\(RecursionError: too deep\)"),
        (IsADirectoryError(21, "Is a directory", "there"), "Is a directory: 'there'"),
    ],
)
def test_unexpected_errors_are_one_line(error, words, monkeypatch, capsys, tmp_path):
    def fail(_):
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("fuxictr_me.commands.zoo.run", fail)
    assert re.search(words, fails(capsys, "zoo", code=1))
    for file in tmp_path.glob("*.traceback.txt"):
        assert "Traceback" in file.read_text()


def test_a_closed_pipe_and_a_terminal_without_greek_end_quietly(tmp_path):
    command = [sys.executable, "-m", "fuxictr_me", "zoo"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()
    assert process.wait(60) == 141 and process.stderr.read() == b""
    run = run_cli("export-embeddings", "--help", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert run.returncode == 0 and run.stderr == ""


def test_rows_of_two_runs_never_go_into_one_file(plain_map, caplog):
    first, second = (
        DNN_ME(plain_map, model_id="m", model_root="r", metrics=["AUC"], embedding_dim=2, **MODEL) for _ in range(2)
    )
    callbacks = [InformationAbundance(), InformationAbundance()]
    for model, callback in zip((first, second), callbacks, strict=True):
        model._epoch_index = model._total_steps = 0
        callback.on_fit_start(model)
    callbacks[1].on_evaluation_end(second, {})
    whole = Path("r/made/m.ia.csv").read_text()
    with pytest.raises(RunError, match=r"another run has replaced r/made/m.ia.csv"):
        callbacks[0].on_evaluation_end(first, {})
    assert Path("r/made/m.ia.csv").read_text() == whole


# --- tasks


def regression_data(**data):
    """Tiny flights with a label of any size."""
    for split in ("train", "valid", "test"):
        table = pd.read_csv(TINY / f"{split}.csv")
        table["late"] = table["distance"] / 500 + 2 * table["late"] - 1
        table.to_csv(f"{split}.csv", index=False)
    return {f"{split}_data": f"{split}.csv" for split in ("train", "valid", "test")} | data


REGRESSION = {"task": "regression", "loss": "mse_loss", "metrics": ["MSE", "MAE", "RMSE"], "monitor": "MSE"}
REGRESSION |= {"monitor_mode": "min", "epochs": 2, "learning_rate": 1e-2}


@pytest.mark.parametrize("data_format", ["csv", "h5"])
def test_a_regression_from_config_to_result(data_format):
    config = write_config(REGRESSION, regression_data(data_format=data_format))
    result = run_expid("mine", config)
    labels = pd.read_csv("test.csv")["late"].to_numpy()
    model = load_trained("mine", config)
    params = load_settings(config, "mine")
    params |= {"test_data": f"data/tiny_flights/test.{'h5' if data_format == 'h5' else 'parquet'}"}
    feature_map = load_feature_map(Path("data/tiny_flights"), params)
    wrong = model.predict(load_split(feature_map, params, "test")) - labels
    expected = {"MSE": np.mean(wrong**2), "MAE": np.mean(np.abs(wrong)), "RMSE": np.sqrt(np.mean(wrong**2))}
    assert result["test"] == pytest.approx(expected, rel=1e-5)
    assert result["test"]["MSE"] < labels.var()  # better than the mean
    assert f"[test] MSE: {result['test']['MSE']:.6f} - MAE: " in Path("config.csv").read_text()
    log = (FOLDER / "mine.log").read_text()
    assert "Save best model: monitor(min)=" in log


@pytest.mark.parametrize("num_sets", [1, 2])
def test_a_regression_of_a_foreign_model_of_several_tasks(plain_map, num_sets):
    names = {"__name__": "foreign_any"}
    exec(compile(MINE, "foreign_any", "exec"), names)
    plain_map.labels, plain_map.default_emb_dim = ["label", "other"], 4
    data = [make_batch(plain_map, seed=seed) for seed in range(3)]
    for batch in data:
        batch["label"], batch["other"] = batch["user"] / 3.0, 5.0 - batch["item"]
    settings = {**MODEL, **REGRESSION, "task": ["regression"] * 2, "loss": ["mse_loss"] * 2, "num_tasks": 2}
    settings = {key: value for key, value in settings.items() if key != "epochs"} | {"model_id": "m", "model_root": "r"}
    model = MultiEmbeddingOf(names["TwoTowers"])(plain_map, num_sets=num_sets, embedding_dim=4, **settings)
    model.fit(data, epochs=20, validation_data=data)
    logs, predicted = model.evaluate(data), model.predict(data)
    errors = {}
    for label in plain_map.labels:
        wrong = np.array(predicted[label]) - torch.cat([batch[label] for batch in data]).numpy()
        errors[label] = np.mean(wrong**2), np.mean(np.abs(wrong))
        assert logs[f"{label}_MSE"] == pytest.approx(errors[label][0], rel=1e-4)
    assert logs["MAE"] == pytest.approx(np.mean([mae for _, mae in errors.values()]), rel=1e-4)
    assert logs["MSE"] == pytest.approx(model._best_metric, rel=1e-4) and logs["MSE"] < 2


def test_labels_that_metrics_of_classes_cannot_use_are_named(capsys):
    write_config({**REGRESSION, "metrics": ["AUC"], "monitor": "AUC", "monitor_mode": "max"}, regression_data())
    message = fails(capsys, *RUN)
    assert "regression" in message and "MSE" in message


def test_a_test_split_of_one_class_keeps_the_validation_result(capsys):
    table = pd.read_csv(TINY / "test.csv").assign(late=0)
    table.to_csv("test.csv", index=False)
    write_config(data={"test_data": "test.csv"})
    message = fails(capsys, *RUN)
    assert "test split: every label of the split to evaluate is 0" in message and "mine.json and config.csv" in message
    result = json.loads((FOLDER / "mine.json").read_text())
    assert result["valid"]["AUC"] > 0.5 and result["test"] == {} and "every label" in result["test_error"]
    assert f"[val] AUC: {result['valid']['AUC']:.6f}" in Path("config.csv").read_text()


def test_a_batch_of_one_row_and_batch_norm(capsys):
    write_config({"batch_size": 1, "batch_norm": True})
    assert "2000 rows in batches of 1 end in a batch of one row, on which batch norm cannot" in fails(capsys, *RUN)


# --- files of weights


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(2)], "it holds a list"),
        ({1: torch.zeros(2)}, "names -> tensors: it holds 1 -> Tensor"),
        ({"w": [1.0]}, "names -> tensors: it holds 'w' -> list"),
        (b"a,b\n1,2\n", "is not a checkpoint of weights"),
        (b"", "is not a checkpoint of weights"),
        (b"PK\x03\x04", "is not a checkpoint of weights"),
        (b"(lp0\n.", "is not a checkpoint of weights"),
    ],
)
def test_files_that_are_not_checkpoints_are_named_in_one_line(content, words, capsys):
    Path("c.model").write_bytes(content) if isinstance(content, bytes) else torch.save(content, "c.model")
    with pytest.raises(UsageError, match=words):
        load_state_dict("c.model")
    assert words in fails(capsys, "convert", "c.model", "out") and not Path("out").exists()


def test_weights_that_are_not_finite_are_named(capsys):
    config = write_config({"embedding_dim": 4})
    run_expid("mine", config)
    weights = load_state_dict(FOLDER / "mine.model")
    name = next(name for name, value in weights.items() if value.ndim == 2)
    for value, problem in ((float("nan"), "NaN"), (float("inf"), "infinite"), (-float("inf"), "infinite")):
        weights[name][1, 0] = value
        torch.save(weights, "bad.model")
        for command in ("export-embeddings", "analyze"):
            message = fails(capsys, command, *RUN[1:], "--checkpoint", "bad.model", "--out", "out")
            assert f"bad.model: 1 of {weights[name].numel()} values of {name!r} are {problem}" in message


class Evil:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


def test_a_folder_to_resume_from_runs_no_code(capsys):
    for name, content in (("epoch-1", pickle.dumps(Evil())), ("epoch-2", b"x"), ("epoch-x", pickle.dumps(Evil()))):
        Path("s.resume", name).mkdir(parents=True)
        Path("s.resume", name, ".metadata").write_bytes(content)
    assert "is not the metadata of a saved state" in fails(capsys, "convert", "s.resume", "out")
    message = fails(capsys, "convert", "s.resume/epoch-1", "out")
    assert "posix.mkdir, which could run code" in message and not Path("it_ran").exists()
    with pytest.raises(UsageError, match="could run code"):
        convert("s.resume/epoch-x", "out")
