"""Entries of BARS are written from finished runs, checked, and run again."""

import csv
import getpass
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from fuxictr.autotuner import enumerate_params
from helpers.logs import close_logs

from fuxictr_me import RunError, UsageError, __version__
from fuxictr_me.bars import SEEDS
from fuxictr_me.bars import write_entry as entry
from fuxictr_me.bars.anonymize import clean_log, find_personal, make_settings_relative
from fuxictr_me.bars.check import check_entry, check_files
from fuxictr_me.bars.check_result import MISSING, OK, UNCHECKED, WRONG
from fuxictr_me.bars.environment import read_environment
from fuxictr_me.bars.leaderboard_row import leaderboard_row
from fuxictr_me.bars.read_entry import Entry
from fuxictr_me.bars.rerun import compare_metrics, find_data, rerun
from fuxictr_me.bars.result_rows import parse_row
from fuxictr_me.bars.tuner_names import name_runs, tuner_hash
from fuxictr_me.bars.write_entry import write_entry
from fuxictr_me.commands.bars import run
from fuxictr_me.commands.parser import parse_arguments
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs
from fuxictr_me.runs.experiment import run_expid

TINY = find_bundled_folder("dataset_configs") / "tiny_flights"
NAME = "DCNv2_ME_tiny_flights"
SPLITS = ("train", "valid", "test")
REAL = json.loads((Path(__file__).parent / "bars_entries.json").read_text())
FINISHED = "checkpoints/tiny_flights/{}.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with two finished runs, ``seed_7`` and ``seed_2021``."""
    folder = tmp_path_factory.mktemp("alicia")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_config({f"seed_{seed}": {"seed": seed} for seed in (7, 2021)})
        for seed in (7, 2021):
            run_expid(f"seed_{seed}", "config")
        close_logs()
    return folder


@pytest.fixture
def runs(finished, own_folder, tmp_path):
    """Change to a copy of ``finished``."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def made(runs):
    """Write the entry of both runs."""
    write_entry(["seed_7", "seed_2021"], "config", allow_fewer=True)
    return Path(NAME)


def write_config(runs, data=None, folder="config", base="DCNv2_ME_test"):
    """Write a config folder: the bundled test with changes, one expid each."""
    entries = yaml.safe_load((find_zoo_configs()[base.removesuffix("_test")] / "model_config.yaml").read_text())
    datasets = yaml.safe_load((TINY / "dataset_config.yaml").read_text())
    datasets["tiny_flights"] |= {f"{split}_data": str(TINY / f"{split}.csv") for split in SPLITS} | (data or {})
    common = {**entries["Base"], **entries[base], "epochs": 1, "verbose": 0, "debug_mode": False}
    Path(folder).mkdir(exist_ok=True)
    experiments = {expid: {**common, **settings} for expid, settings in runs.items()}
    Path(folder, "model_config.yaml").write_text(yaml.safe_dump(experiments))
    Path(folder, "dataset_config.yaml").write_text(yaml.safe_dump(datasets))


def pretend(expid, ran=None, **settings):
    """Write files of another finished run: those of ``seed_7`` with other settings (``ran``: in the result only)."""
    entries = yaml.safe_load(Path("config/model_config.yaml").read_text())
    entries[expid] = {**entries["seed_7"], **settings}
    Path("config/model_config.yaml").write_text(yaml.safe_dump(entries))
    result = json.loads(Path(FINISHED.format("seed_7")).read_text())
    result["settings"] |= {"model_id": expid, **settings, **(ran or {})}
    path = Path(FINISHED.format(expid))
    path.write_text(json.dumps(result))
    log = path.with_name("seed_7.log").read_text().replace('"model_id": "seed_7"', f'"model_id": "{expid}"')
    for key, value in settings.items():
        log = re.sub(rf'"{key}": ".*"', f'"{key}": "{value}"', log)
    path.with_suffix(".log").write_text(log)
    return expid


def command(*words):
    """Run ``fuxictr-me bars`` and return its text."""
    return run(parse_arguments(["bars", *map(str, words)]))


def find_problems(folder):
    """Return subject -> result of what is missing or wrong."""
    return {result.subject: result for result in check_entry(folder) if result.is_bad}


def change(path, old, new, count=-1):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, count))


def texts(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def config_of(folder, kind="model_config"):
    return yaml.safe_load(next(folder.glob(f"*_tuner_config_01/{kind}.yaml")).read_text())


# --- what is written ----------------------------------------------------------------------------------


def test_an_entry_has_the_form_of_bars_entries(made):
    results = [json.loads(Path(FINISHED.format(f"seed_{seed}")).read_text()) for seed in (2021, 7)]
    expids = list(config_of(made))
    assert set(texts(made)) == {
        "README.md",
        "environments.txt",
        "results.csv",
        f"{expids[0]}.log",
        "run_expid.py",
        f"{NAME}_tuner_config_01.yaml",
        f"{NAME}_tuner_config_01/model_config.yaml",
        f"{NAME}_tuner_config_01/dataset_config.yaml",
        "leaderboard_row.csv",
    }
    lines = (made / "results.csv").read_text().splitlines()
    for line, seed, expid, result in zip(lines, (2021, 7), expids, results, strict=True):
        valid, test = result["valid"], result["test"]
        assert re.fullmatch(
            rf"seed={seed}, \d{{8}}-\d{{6}},\[command\] python run_expid.py --config ./{NAME}_tuner_config_01 "
            rf"--expid {expid} --gpu -1,\[exp_id\] {expid},\[dataset_id\] tiny_flights_[0-9a-f]{{8}},\[train\] N.A.,"
            rf"\[val\] AUC: {valid['AUC']:.6f} - logloss: {valid['logloss']:.6f},"
            rf"\[test\] AUC: {test['AUC']:.6f} - logloss: {test['logloss']:.6f}",
            line,
        )
        assert config_of(made)[expid]["seed"] == seed
    said = (made / "README.md").read_text()
    values = np.array([[round(r["test"][m], 6) for m in ("AUC", "logloss")] for r in results])
    assert "| Avg |  | {:.6f} | {:.6f} |".format(*values.mean(axis=0)) in said
    assert "| Std |  | &#177;{:.8f} | &#177;{:.8f} |".format(*np.sqrt(((values - values.mean(0)) ** 2).mean(0))) in said
    assert "with seeds 2021, 7. Missing seeds of BARS: 190034, 992817, 27011, 948432." in said
    assert f"pip install fuxictr-me=={__version__}" in said and "arxiv.org/abs/2310.04400" in said
    assert "The runs were named `seed_2021`, `seed_7`" in said and "with num_sets 2, embedding_dim 4" in said
    assert (made / f"{expids[0]}.log").read_text().rstrip() in said
    row = list(csv.reader((made / "leaderboard_row.csv").open()))
    assert row[0] == ["Year", "Publication", "Model", "Paper URL", "AUC", "Logloss", "Running Steps", "Contributor"]
    place = f"https://github.com/reczoo/BARS/tree/main/ranking/ctr/DCNv2_ME/{NAME}"
    assert row[1][4:] == [f"{values[0, 0]:.6f}", f"{values[0, 1]:.6f}", place, ""]


def test_runs_have_the_names_of_fuxictrs_autotuner(made, tmp_path):
    models, datasets = config_of(made), config_of(made, "dataset_config")
    shutil.copy(made / f"{NAME}_tuner_config_01.yaml", tmp_path / "again.yaml")
    again = Path(enumerate_params(str(tmp_path / "again.yaml")))
    assert yaml.safe_load((again / "model_config.yaml").read_text()) == models
    assert yaml.safe_load((again / "dataset_config.yaml").read_text()) == datasets
    for name, settings in {**models, **datasets}.items():
        text = json.dumps({key: str(settings[key]) for key in sorted(settings)}, indent=4)
        assert name.endswith(hashlib.md5("".join(sorted(text)).encode()).hexdigest()[:8])
    assert next(iter(models)).startswith(f"{NAME}_001_")
    assert {settings["dataset_id"] for settings in models.values()} == set(datasets)
    shown = (made / f"{next(iter(models))}.log").read_text()
    assert f'"model_id": "{next(iter(models))}"' in shown and f'"dataset_id": "{next(iter(datasets))}"' in shown
    assert "seed_2021" not in shown and f"/{next(iter(models))}.model" in shown


def test_the_environment_is_that_of_this_machine(made):
    text = (made / "environments.txt").read_text()
    assert text.startswith("[Hardware]\nCPU: ") and "\n\n[Software]\nCUDA: none used\n" in text
    stated = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    keys = "CPU GPU RAM CUDA python pytorch pandas numpy scipy sklearn pyyaml h5py tqdm fuxictr-me fuxictr"
    assert list(stated) == keys.split()
    assert stated["sklearn"] == importlib.metadata.version("scikit-learn") and stated["pytorch"] == torch.__version__
    assert stated["fuxictr"] == importlib.metadata.version("fuxictr") and stated["fuxictr-me"] == __version__
    memory = int(re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) / 2**20
    assert stated["RAM"].endswith("G") and float(stated["RAM"][:-1]) == pytest.approx(memory, abs=1)
    assert "  scipy: " + stated["scipy"] in (made / "README.md").read_text()


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    device = SimpleNamespace(name="Some GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", [None, device].__getitem__)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    versions = {"python": "3.12.1", "torch": "2.9.0+cu126", "fuxictr": "2.3.10 (main)", "fuxictr_me": "0.1.0"}
    stated = read_environment(versions, gpu=1)
    assert (stated["GPU"], stated["CUDA"], stated["fuxictr"]) == ("Some GPU 80G", "12.6", "2.3.10")
    assert list(stated)[-1] == "fuxictr"  # BARS' scripts read it there
    assert read_environment(versions, gpu=-1)["GPU"] == "none used"


def test_the_leaderboard_row_has_the_group_auc_if_there_is_one():
    text = leaderboard_row("DNN_ME_4x", "DNN_ME", "kuaivideo_x1", {"logloss": 0.44, "AUC": 0.7453, "gAUC": 0.6658421})
    (row,) = csv.DictReader(text.splitlines())
    assert list(row)[4:7] == ["gAUC", "AUC", "Logloss"] and row["Model"] == "DNN_ME_4x"
    assert (row["gAUC"], row["AUC"], row["Logloss"]) == ("0.665842", "0.745300", "0.440000")
    assert row["Running Steps"].endswith("/ranking/ctr/DNN_ME/DNN_ME_4x_kuaivideo_x1")


@pytest.mark.parametrize("data_format", ["h5", "parquet", "npz"])
def test_a_built_set_keeps_its_id(data_format):
    """FuxiCTR's autotuner would hash the id of an H5 set, and there is no data set with that id."""
    models = {f"run_{seed}": {"model": "DNN_ME", "dataset_id": "flights", "seed": seed} for seed in (3, 1)}
    dataset = {"data_root": "./data/", "data_format": data_format, "rebuild_dataset": False}
    named = name_runs(models, "flights", dataset)
    assert named.datasets == {"flights": dataset} and named.dataset_id == "flights"
    for expid, seed in zip(named.models, (3, 1), strict=True):
        settings = {"model": "DNN_ME", "dataset_id": "flights", "seed": seed, "debug_mode": False}
        assert named.models[expid] == settings and named.names[f"run_{seed}"] == expid
        assert expid == f"DNN_ME_flights_{1 if seed == 3 else 2:03d}_{tuner_hash(settings)}"


@pytest.mark.slow
def test_a_grid_that_fuxictr_enumerated_keeps_its_names(own_folder):
    data = {f"{split}_data": f"./{split}.csv" for split in SPLITS}
    for split in SPLITS:
        shutil.copy(TINY / f"{split}.csv", ".")
    write_config({"cell": {"seed": 1}}, data)
    space = {"embedding_dim": [2, 4], "seed": [5, 2021]}
    tuner = {"base_config": "config", "base_expid": "cell", "dataset_id": "tiny_flights", "tuner_space": space}
    Path("tuner").mkdir()
    Path("tuner/cell.yaml").write_text(yaml.safe_dump(tuner))
    grid = Path(enumerate_params("tuner/cell.yaml"))
    entries = yaml.safe_load((grid / "model_config.yaml").read_text())
    named = {(of["embedding_dim"], of["seed"]): expid for expid, of in entries.items()}
    chosen = [named[4, 5], named[4, 2021]]
    for expid in (*chosen, named[2, 2021]):
        run_expid(expid, str(grid))
    with pytest.raises(UsageError, match=r"must differ in the seed only; embedding_dim is 4 in .*, 2 in "):
        write_entry([named[4, 5], named[2, 2021]], str(grid), allow_fewer=True)
    write_entry(chosen, str(grid), title="DCNv2_ME_2x", allow_fewer=True)
    made = Path("DCNv2_ME_2x_tiny_flights")
    assert find_problems(made) == {} and config_of(made) == entries
    assert [parse_row(line).expid for line in (made / "results.csv").read_text().splitlines()] == chosen[::-1]
    tuned = (made / "DCNv2_ME_2x_tiny_flights_tuner_config_01.csv").read_text().splitlines()
    assert [parse_row(line).expid for line in tuned] == [*chosen[::-1], named[2, 2021]]
    stated = yaml.safe_load((made / "DCNv2_ME_2x_tiny_flights_tuner_config_01.yaml").read_text())
    assert stated["tuner_space"] == space and "The runs were named" not in (made / "README.md").read_text()


def test_bars_five_seeds_need_no_option(runs):
    expids = [pretend(f"run_{seed}", seed=seed) for seed in reversed(SEEDS)]
    said = command(*expids, "--config", "config", "--out", "entries", "--title", "DCNv2_ME_big")
    made = Path("entries/DCNv2_ME_big_tiny_flights")
    assert "5 runs" in said and (made / "leaderboard_row.csv").read_text().splitlines()[1] in said
    assert find_problems(made) == {} and "with BARS' seeds 2021, 190034," in (made / "README.md").read_text()
    assert [parse_row(line).seed for line in (made / "results.csv").read_text().splitlines()] == list(SEEDS)
    assert next(made.glob("*.log")).stem == next(iter(config_of(made)))


def test_one_run_gives_the_row_that_fuxictr_writes(runs):
    write_entry(["seed_7"], "config", allow_fewer=True)
    line = Path(NAME, "results.csv").read_text()
    assert line.startswith(" 20") and "Avg" not in Path(NAME, "README.md").read_text() and find_problems(NAME) == {}


def test_versions_that_differ_from_this_machine_are_reported(runs):
    for seed in (7, 2021):
        change(FINISHED.format(f"seed_{seed}"), torch.__version__, "2.4.0")
    said = write_entry(["seed_7", "seed_2021"], "config", allow_fewer=True)
    assert "caution: the runs had torch 2.4.0, but this machine has" in said
    assert "pytorch: 2.4.0\n" in Path(NAME, "environments.txt").read_text()


# --- nothing personal ---------------------------------------------------------------------------------


@pytest.fixture
def alicia(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/homes/alicia")
    monkeypatch.setattr(getpass, "getuser", lambda: "alicia")
    monkeypatch.setattr(platform, "node", lambda: "wonder7.example.org")


def test_no_user_host_or_path_gets_into_an_entry(runs, finished, alicia):
    log = Path(FINISHED.format("seed_2021")).with_suffix(".log")
    told = "2026-01-01 00:00:00,000 P1 WARNING wonder7 at /opt/x/alicia/site.py: ~/big/file\n"
    log.write_text(told + log.read_text())
    assert str(finished) in log.read_text()  # it is in the log, and is not the working directory
    write_entry(["seed_7", "seed_2021"], "config", allow_fewer=True)
    assert find_problems(NAME) == {}
    for name, text in texts(Path(NAME)).items():
        for word in ("alicia", "wonder7", "example.org", "/homes", str(TINY), "/opt", str(finished), str(Path.cwd())):
            assert word not in text, (name, word)
    stated = config_of(Path(NAME), "dataset_config")
    assert next(iter(stated.values()))["train_data"] == "../data/tiny_flights/train.csv"


def test_personal_settings_that_cannot_be_removed_are_refused(runs, alicia):
    Path("checkpoints").rename("of_alicia")
    for path in ("of_alicia/tiny_flights/seed_7.json", "config/model_config.yaml"):
        change(path, "./checkpoints/", "./of_alicia/")
    with pytest.raises(UsageError, match="'alicia' would be in "):
        write_entry(["seed_7"], "config", allow_fewer=True)
    assert not Path(NAME).exists()


@pytest.mark.parametrize(
    ("settings", "relative"),
    [
        ({"data_root": "/big/data/", "train_data": "/big/data/set/train.csv"}, ["../data/", "../data/set/train.csv"]),
        ({"data_root": "./data/", "train_data": "../set/train.csv"}, ["./data/", "../set/train.csv"]),
        ({"data_root": "data", "train_data": "/other/set/train.csv"}, ["data", "../data/set/train.csv"]),
        ({"data_root": "../../bob/x/", "train_data": "../../bob/x/t.csv"}, ["../data/", "../data/t.csv"]),
        ({"data_root": "../data/", "train_data": "../../../mnt/set/t.csv"}, ["../data/", "../data/set/t.csv"]),
        ({"model_root": "/scratch/runs", "sep": "/"}, ["./checkpoints/", "/"]),
        ({"feature_cols": [{"name": "x", "file": "/a/b/e.npz"}]}, [[{"name": "x", "file": "../data/b/e.npz"}]]),
    ],
)
def test_settings_are_made_relative(settings, relative):
    study = Path("/home/alicia/study")
    assert list(make_settings_relative(settings, study).values()) == relative
    settings = {"train_data": f"{Path.cwd()}/x/train.csv", "model_root": f"{Path.cwd()}/runs/"}
    here = make_settings_relative(settings, study)
    assert here == {"train_data": "./x/train.csv", "model_root": "./runs/"}


def test_addresses_and_numbers_in_a_log_are_kept(alicia, tmp_path):
    line = "see https://github.com/a/b, total/3234, blocks/1, N/A, ../data/x/y.csv and 37.5% of 3/4"
    assert clean_log(line, {}, tmp_path) == line
    assert clean_log(f"{tmp_path}/runs/a.model", {}, tmp_path) == "runs/a.model"
    assert clean_log("by alicia_2 on wonder7", {}, tmp_path) == "by XXX_2 on XXX"


def test_a_log_shows_the_paths_of_the_entry(tmp_path):
    shown = {"data_root": "../../../mnt/data", "train_data": "/mnt/set/train.csv", "model_root": "/scratch/runs/"}
    log = json.dumps(shown) + " reading /mnt/set/train.csv to ../../../mnt/data/set/x, best /scratch/runs/set/a.model"
    settings = {"data_root": "../data/", "train_data": "../data/set/train.csv", "model_root": "./checkpoints/"}
    cleaned = json.dumps(settings) + " reading ../data/set/train.csv to ../data/set/x, best checkpoints/set/a.model"
    assert clean_log(log, settings, tmp_path) == cleaned


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/home/bob/x", "/home/bob"),
        ("C:\\Users\\bob\\x", "C:\\Users\\bob"),
        ("/Users/bob", "/Users/bob"),
        ("/root/x/y", "/root/x"),
        ("at /somewhere/homes/alicia/x", "/somewhere/homes/alicia"),
        ("on wonder7", "wonder7"),
        ("/home/XXX/FuxiCTR and /home/FuxiCTR/x, ./home/x and data/home/y, malicia", None),
    ],
)
def test_what_counts_as_personal(text, found, alicia):
    assert find_personal(text) in (found, *(["alicia"] if found and "alicia" in found else []))


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expids", "others", "message"),
    [
        (["seed_7", "seed_2021"], {}, rf"seeds are {', '.join(map(str, SEEDS))}; these runs have 7, 2021 \(--allow"),
        (["seed_7", "again"], {"again": {}}, "two runs have the seed 7"),
        (["seed_7", "x"], {"x": {"seed": 8, "num_sets": 3}}, "seed only; num_sets is 2 in seed_7, 3 in x"),
        (["seed_7", "x"], {"x": {"seed": 8, "low_rnk": 3}}, "low_rnk is 'not set' in seed_7, 3 in x"),
        (["seed_8"], {}, "unknown expid in config 'seed_8'; did you mean"),
        (["x"], {"x": {"ran": {"epochs": 9}}}, "x ran with epochs 9, but its config now says 1: run it again"),
    ],
)
def test_runs_that_differ_too_much_are_refused(expids, others, message, runs):
    for expid, settings in others.items():
        pretend(expid, **settings)
    with pytest.raises(UsageError, match=message):
        write_entry(expids, "config", allow_fewer=expids[-1] != "seed_2021")
    assert not Path(NAME).exists()


def test_unfinished_runs_are_refused(runs):
    path = Path(FINISHED.format("seed_7"))
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "test": {"AUC": 0.5}}))
    with pytest.raises(UsageError, match="seed_7 has no logloss"):
        write_entry(["seed_7"], "config", allow_fewer=True)
    path.write_text('{"half"')
    with pytest.raises(UsageError, match=r"seed_7.json is not the result of a run"):
        write_entry(["seed_7"], "config", allow_fewer=True)
    path.unlink()
    with pytest.raises(UsageError, match="no result of a finished run seed_7 at checkpoints"):
        write_entry(["seed_7"], "config", allow_fewer=True)
    path.write_text(json.dumps(whole))
    path.with_suffix(".log").unlink()
    with pytest.raises(UsageError, match="no log of run seed_7"):
        write_entry(["seed_7"], "config", allow_fewer=True)


def test_runs_of_different_versions_are_refused(runs):
    change(FINISHED.format("seed_7"), torch.__version__, "2.4.0")
    with pytest.raises(UsageError, match=r"version of torch is '2.4.0' in seed_7, "):
        write_entry(["seed_7", "seed_2021"], "config", allow_fewer=True)


def test_a_log_of_another_run_is_refused(runs):
    log = Path(FINISHED.format("seed_7")).with_suffix(".log")
    log.write_text(re.sub(r"AUC: 0\.\d+ - logloss", "AUC: 0.100000 - logloss", log.read_text()))
    with pytest.raises(RunError, match=r"do not fit together: wrong .* metrics of the log"):
        write_entry(["seed_7"], "config", allow_fewer=True)
    assert not list(Path().glob("*building*")) and not Path(NAME).exists()


def test_an_existing_folder_is_not_changed(made):
    before = texts(made)
    with pytest.raises(UsageError, match=f"{NAME} exists already"):
        write_entry(["seed_7"], "config", allow_fewer=True)
    assert texts(made) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed_7", "--config", "config", "--run"], "--run goes with `bars check DIR`"),
        (["seed_7", "--gpu", "0"], "--gpu goes with"),
        (["seed_7", "--config", "config", "--allow-fewer", "--title", "a/b"], "--title names a folder"),
        (["check", "a", "--allow-fewer"], "--allow-fewer goes with `bars EXPID`"),
        (["check"], "takes the folder of one entry, got 0"),
        (["check", "a", "b"], "takes the folder of one entry, got 2"),
        (["check", "a", "--data-root", "b"], "are for --run"),
        (["check", "nowhere"], "no entry at nowhere"),
        (["check", "config", "--run", "--config", "config"], "--config goes with"),
    ],
)
def test_wrong_arguments_are_refused(words, message, runs):
    with pytest.raises(UsageError, match=message):
        command(*words)


@pytest.mark.parametrize("moment", ["check", "write"])
def test_interrupted_writing_leaves_nothing(moment, runs, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    if moment == "check":
        monkeypatch.setattr(entry, "check_entry", interrupt)
    else:
        whole = Path.write_text
        monkeypatch.setattr(Path, "write_text", lambda p, t: whole(p, t) if p.name != "results.csv" else interrupt())
    with pytest.raises(KeyboardInterrupt):
        write_entry(["seed_7"], "config", out="entries", allow_fewer=True)
    assert list(Path("entries").iterdir()) == []


# --- the check ----------------------------------------------------------------------------------------


def test_a_good_entry_passes(made):
    findings = check_entry(made)
    assert {finding.verdict for finding in findings} == {OK} and len(findings) > 15
    lines = command("check", made).splitlines()
    assert len(lines) == len(findings) and lines[0] == "ok                README.md"


def rename_in_results(folder):
    expid = list(config_of(folder))[1]
    change(folder / "results.csv", expid, expid[:-1] + ("0" if expid[-1] != "0" else "1"))


def rename_log(folder):
    log = next(folder.glob("*.log"))
    log.rename(log.with_name(f"{NAME}_001_01234567.log"))


def edit_metric(folder):
    line = (folder / "results.csv").read_text().splitlines()[0]
    auc = re.search(r"\[test\] AUC: (\S+)", line)[1]
    for name in ("results.csv", "README.md", "leaderboard_row.csv"):
        change(folder / name, auc, "0.999999")
    change(folder / "README.md", "[Metrics] AUC: 0.999999", f"[Metrics] AUC: {auc}")


def edit(pattern, old, new, count=-1):
    """Return a fault that changes the text of a file."""
    return lambda folder: change(next(folder.glob(pattern)), old, new, count)


def remove(pattern):
    """Return a fault that removes a file."""
    return lambda folder: next(folder.glob(pattern)).unlink()


def repeat_row(folder):
    rows = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(rows + rows.splitlines(keepends=True)[0])


def add(name, content="x"):
    """Return a fault that writes a file into the entry."""
    return lambda folder: (folder / name).write_text(content)


FAULTS = {
    "a row twice": (repeat_row, "one row of each run"),
    "an unknown file": (add("weights.model"), "files"),
    "an empty script": (add("run_expid.py", ""), "files"),
    "a second log": (add(f"{NAME}_002_01234567.log"), "files"),
    "another metric in the log of README": (
        edit("README.md", "[Metrics] AUC: 0.", "[Metrics] AUC: 1."),
        "log in README.md",
    ),
    "an edited metric": (edit_metric, "metrics of the log"),
    "a renamed run": (rename_in_results, "expids in model_config.yaml"),
    "a renamed log": (rename_log, f"{NAME}_001_01234567.log"),
    "another seed": (edit("*/model_config.yaml", "seed: 7", "seed: 8"), "hashes of expids and dataset_id"),
    "another seed in a row": (edit("results.csv", "seed=7", "seed=9"), "seeds"),
    "another data set": (edit("results.csv", "[dataset_id] t", "[dataset_id] T"), "dataset_id in dataset_config.yaml"),
    "another path of data": (edit("*/dataset_config.yaml", "../data", "../more"), "hashes of expids and dataset_id"),
    "another setting in the log": (edit("*.log", '"epochs": "1"', '"epochs": "2"'), "settings of the log"),
    "a home": (edit("run_expid.py", "import os", "import os  # /home/alicia/main"), "no personal path or name"),
    "a lost section": (edit("README.md", "### Code", "#### Code"), "sections of README.md"),
    "another metric in the table": (edit("README.md", "| 2 | 7 | 0.", "| 2 | 7 | 1."), "results in README.md"),
    "another command": (edit("README.md", "--expid ", "--exp "), "command in README.md"),
    "a lost key": (edit("environments.txt", "scipy: ", "skipy: "), "keys of environments.txt"),
    "a broken row": (edit("results.csv", "[exp_id]", "[expid]", 1), "1 rows of results.csv"),
    "broken YAML": (edit("*/model_config.yaml", "seed: 7", "seed: [7"), "config"),
    "another leaderboard row": (edit("leaderboard_row.csv", ",0.", ",1."), "leaderboard_row.csv"),
    "no leaderboard row": (remove("leaderboard_row.csv"), "leaderboard_row.csv"),
    "no script": (remove("run_expid.py"), "run_expid.py"),
    "no log": (remove("*.log"), "<expid>.log"),
    "no README": (remove("README.md"), "README.md"),
    "no config": (remove("*/model_config.yaml"), "model_config.yaml"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, made, capsys):
    plant, subject = FAULTS[fault]
    plant(made)
    assert subject in find_problems(made)
    with pytest.raises(RunError, match=rf"{NAME}: \d+ of \d+ checks failed"):
        command("check", made)
    assert str(find_problems(made)[subject]) in capsys.readouterr().out


def test_what_old_entries_cannot_show_is_not_an_error(made):
    """FuxiCTR 1 had other hashes and names, and its runs were renumbered, but metrics must agree."""
    first, second = config_of(made)
    change(made / "environments.txt", "fuxictr: 2.3.10", "fuxictr: 1.1.0")
    change(made / "environments.txt", f"fuxictr-me: {__version__}\n", "")
    (made / "leaderboard_row.csv").unlink()
    change(made / "results.csv", f"[exp_id] {first}", f"[exp_id] {first.replace('_001_', '_013_')}")
    change(made / "results.csv", "[dataset_id] tiny_flights_", "[dataset_id] tiny_f_")
    change(made / "results.csv", f"[exp_id] {second}", f"[exp_id] {second[:-8]}01234567")
    verdicts = {finding.subject: finding.verdict for finding in check_entry(made)}
    assert {subject for subject, verdict in verdicts.items() if verdict == UNCHECKED} == {
        "dataset_id in dataset_config.yaml",
        "expids in model_config.yaml",
        "data set of the log",
    }
    assert set(verdicts.values()) == {OK, UNCHECKED}
    change(next(made.glob("*/model_config.yaml")), "num_sets: 2", "num_sets: 3")
    verdicts = {finding.subject: finding.verdict for finding in check_entry(made)}
    assert verdicts["hashes of expids and dataset_id"] == UNCHECKED and verdicts["settings of the log"] == WRONG
    edit = re.search(r"\[test\] AUC: (\S+)", (made / "results.csv").read_text())[1]
    change(made / "results.csv", edit, "0.999999")
    assert "metrics of the log" in find_problems(made)


@pytest.mark.parametrize("path", REAL["entries"])
def test_published_entries_have_all_files(path):
    names = REAL["entries"][path]
    assert {finding.verdict for finding in check_files(names)} == {OK}
    needed = ("README.md", "environments.txt", "results.csv", ".log", "model_config.yaml", "dataset_config.yaml")
    for kind in needed:
        without = [name for name in names if not name.endswith(kind)]
        assert len(without) == len(names) - 1
        assert [finding.verdict for finding in check_files(without)].count(MISSING) == 1
    ways = [name for name in names if name != "run_expid.py" and not (name.endswith(".yaml") and "/" not in name)]
    assert [str(f) for f in check_files(ways) if f.is_bad] == ["missing           run_expid.py or the tuner's yaml"]


@pytest.mark.parametrize(
    ("line", "seed", "expid", "test"),
    [
        (
            "seed=2021, 20220208-115010,[command] python run_expid.py --expid A_001_be50edb0 --gpu 0,[exp_id] "
            "A_001_be50edb0,[dataset_id] c_7b681156,[train] N.A.,[val] AUC: 0.81 - logloss: 0.43,[test] AUC: 0.8137 - "
            "logloss: 0.4382",
            2021,
            "A_001_be50edb0",
            {"AUC": 0.8137, "logloss": 0.4382},
        ),
        (
            " 20240222-130933,[command] python x.py,[exp_id] B,[dataset_id] d,[train] ,[val] ,[test] gAUC: 0.6 - "
            "NDCG(k=1): 0.5 ",
            None,
            "B",
            {"gAUC": 0.6, "NDCG(k=1)": 0.5},
        ),
    ],
)
def test_rows_of_both_forms_are_read(line, seed, expid, test):
    row = parse_row(line)
    assert (row.seed, row.expid, row.test) == (seed, expid, test)
    assert parse_row(line.replace("[exp_id]", "")) is None and parse_row(",,,,,,") is None
    assert parse_row(line[: line.index("[test]")] + "[test] ") is None


# --- run again ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_the_first_row_again_gives_its_metrics(made, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # the last digits depend on it
    before = texts(made)
    said = command("check", made, "--run", "--data-root", TINY.parent).splitlines()[-1]
    same = r"0\.\d{6} \([+-]0\.000000\)"
    assert re.fullmatch(rf"ok +first row run again: AUC {same}, logloss {same}; tolerance 0\.0001", said)
    assert texts(made) == before


def test_a_faulty_entry_is_not_run_again(made, monkeypatch):
    edit_metric(made)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(RunError, match="checks failed"):
        command("check", made, "--run", "--data-root", TINY.parent)


def test_a_run_that_fails_is_reported(made, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 2))
    with pytest.raises(RunError, match=f"{NAME}_001_.* could not be run again: exit code 2"):
        rerun(made, TINY.parent)


@pytest.mark.parametrize(("by", "verdict"), [(0.9e-4, OK), (-0.9e-4, OK), (1.1e-4, WRONG), (-1.1e-4, WRONG)])
def test_metrics_are_compared_with_the_stated_tolerance(by, verdict):
    finding = compare_metrics({"AUC": 0.8, "logloss": 0.4}, {"AUC": 0.8, "logloss": 0.4 + by})
    assert finding.verdict == verdict
    assert f"AUC 0.800000 (+0.000000), logloss {0.4 + by:.6f} ({by:+.6f}); tolerance 0.0001" in str(finding)


def test_the_command_for_fuxictrs_own_models_is_shown(made):
    change(next(made.glob("*/model_config.yaml")), "model: DCNv2_ME", "model: DCNv2")
    change(made / "environments.txt", "fuxictr-me: ", "something-else: ")
    (finding,) = rerun(made)
    assert (
        finding.verdict == UNCHECKED and "DCNv2 is not a model of fuxictr-me; with FuxiCTR 2.3.10: " in finding.detail
    )
    config = (made / f"{NAME}_tuner_config_01").resolve()
    expid = next(iter(config_of(made)))
    assert f"cd FuxiCTR/model_zoo/DCNv2 && python run_expid.py --config {config} --expid {expid} " in finding.detail


def test_raw_data_are_found(made, tmp_path):
    entry = Entry(made)
    (dataset_id,) = entry.datasets  # its train_data: ../data/tiny_flights/train.csv, its data_root ./data/
    with pytest.raises(UsageError, match="no train_data at "):
        find_data(entry, dataset_id)
    folders = ["data/tiny_flights", "user/tiny_flights", "flat"]
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            Path(folder, f"{split}.csv").touch()
    for data_root, folder in zip((None, "user", "flat"), folders, strict=True):
        found, dataset = find_data(entry, dataset_id, data_root)
        assert found == dataset_id and dataset["data_root"] == "./data/"
        assert [Path(dataset[f"{s}_data"]).resolve() for s in ("train", "test")] == [
            tmp_path / folder / "train.csv",
            tmp_path / folder / "test.csv",
        ]


@pytest.mark.parametrize("hashed", [False, True])
def test_a_built_set_is_found_with_or_without_its_hash(hashed, made, tmp_path):
    file = next(made.glob("*/dataset_config.yaml"))
    settings = {"data_root": "./data/", "data_format": "h5", "feature_cols": None, "label_col": None}
    settings |= {f"{split}_data": f"./data/flights/{split}.h5" for split in SPLITS}
    text = json.dumps({key: str(settings[key]) for key in sorted(settings)}, indent=4)
    dataset_id = f"flights_{hashlib.md5(''.join(sorted(text)).encode()).hexdigest()[:8]}"
    file.write_text(yaml.safe_dump({dataset_id: settings}))
    with pytest.raises(UsageError, match="no train_data at "):
        find_data(Entry(made), dataset_id, "mine")
    built = Path("mine", dataset_id if hashed else "flights")
    built.mkdir(parents=True)
    Path("mine/flights").mkdir(exist_ok=True)
    for split in SPLITS:
        Path("mine/flights", f"{split}.h5").touch()
    with pytest.raises(UsageError, match=f"no built data set at {tmp_path}/mine/{dataset_id}"):
        find_data(Entry(made), dataset_id, "mine")
    (built / "feature_map.json").touch()
    found, dataset = find_data(Entry(made), dataset_id, "mine")
    assert found == built.name and Path(dataset["data_root"]) == tmp_path / "mine"
    assert Path(dataset["train_data"]) == tmp_path / "mine/flights/train.h5"


# --- entries and results of other people


def test_damaged_entries_end_in_check_results(made):
    """None of 150 random damages ends in a traceback or writes a file."""
    random = np.random.default_rng(3)
    names = sorted(path for path in made.rglob("*") if path.is_file())
    for i in range(150):
        path = names[i % len(names)]
        good = path.read_bytes()
        damaged = bytearray(good)
        start = int(random.integers(len(good)))
        kind = int(random.integers(5))
        if kind == 0:
            damaged = good[:start]
        elif kind == 1:
            damaged[start : start + 20] = bytes(random.integers(0, 256, 20, dtype=np.uint8))
        elif kind == 2:
            damaged[start:start] = [b"{", b"[", b": ", b"\n- ", b"null", b"\n\n", b"\0"][int(random.integers(7))]
        elif kind == 3:
            damaged = b"[3, {}, null]"
        else:
            damaged = re.sub(rb"(\w+): [\w.-]+", rb"\1: [1, {a: b}]", good, count=3)
        path.write_bytes(bytes(damaged))
        before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
        assert all(str(finding).strip() for finding in check_entry(made))
        assert before == {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
        path.write_bytes(good)
    assert not find_problems(made)


def test_an_entry_with_a_link_is_refused(made):
    Path("secret.csv").write_text("mine")
    (made / "results.csv").unlink()
    (made / "results.csv").symlink_to(Path("secret.csv").resolve())
    with pytest.raises(UsageError, match=r"results\.csv is a symbolic link"):
        check_entry(made)


@pytest.mark.parametrize(
    "change",
    [
        {"test": None},
        {"test": {"AUC": "0.7", "logloss": 0.5}},
        {"versions": {}},
        {"versions": []},
        {"settings": []},
        {"seconds": "long"},
        {"model_source": "x"},
        {"model_source": {"class": "a:B", "file": 3, "md5": "", "origin": "own", "wrapped": True}},
    ],
)
def test_damaged_results_are_reported_in_one_line(change, runs):
    path = Path(FINISHED.format("seed_7"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=r"seed_7\.json is not the result of a run") as raised:
        write_entry(["seed_7"], "config", allow_fewer=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("file", ["../stolen.py", "/tmp/stolen.py", "a/../../stolen.py", "notes.txt"])
def test_a_result_cannot_name_code_outside_the_entry(file, runs):
    """Otherwise a result could name any path, and writing the entry would write to it."""
    path = Path(FINISHED.format("seed_7"))
    content = json.loads(path.read_text())
    source = {"class": content["model"], "file": file, "md5": "x", "origin": "own", "wrapped": False}
    path.write_text(json.dumps({**content, "model_source": source}))
    with pytest.raises(UsageError, match=r"which is no \.py file in an entry"):
        write_entry(["seed_7"], "config", allow_fewer=True)
