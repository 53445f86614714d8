"""Settings that ``--set`` overrides: how they are read, checked, used and recorded."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from helpers.command_line import fails
from helpers.run_configs import write_config

from fuxictr_me.commands.main import main
from fuxictr_me.config.overrides import format_overrides, parse_overrides
from fuxictr_me.errors import UsageError
from fuxictr_me.runs.finished_run import find_run
from fuxictr_me.runs.run_settings import load_settings
from fuxictr_me.study.study_file import read_study

pytestmark = pytest.mark.usefixtures("own_folder")
RUN = ("--config", "config", "--expid", "mine")


def test_values_are_yaml():
    texts = ["a=1", "b=[8, 4]", "c=", "d={x: 1.5}", "e=a=b", " f = yes"]
    assert parse_overrides(texts) == {"a": 1, "b": [8, 4], "c": None, "d": {"x": 1.5}, "e": "a=b", "f": True}
    assert parse_overrides([]) == {}


@pytest.mark.parametrize(
    "value", [1e-5, 0.1, 3, True, None, "1e-3", "two words", "line\nline", "it's", [1, [2, "x"]], {"a": {"b": 1.0}}]
)
def test_a_recorded_override_is_read_as_the_same_value(value):
    text = format_overrides({"key": value})
    assert "\n" not in text
    option, argument = shlex.split(text)
    assert option == "--set" and parse_overrides([argument]) == {"key": value}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epochs"], "--set takes KEY=VALUE, e.g. --set batch_size=4096, got 'epochs'"),
        (["=3"], "--set takes KEY=VALUE"),
        (["epochs=1", "epochs=2"], "--set gives epochs twice"),
        (["dataset_id=x"], "--set cannot override dataset_id: copy the experiment"),
        (["model_id=x"], "--set cannot override model_id: --expid names the experiment"),
        (["expid=x"], "--set cannot override expid"),
        (["gpu=0"], "--set cannot override gpu: --gpu names the device"),
        (["epochs=[1"], "--set epochs is not valid YAML"),
        (["epochs=!!python/name:os.system"], "--set epochs: the tag !!python/name:os.system is not read"),
        (["seed=1:30"], "--set seed: YAML reads 1:30 as the number 90"),
    ],
)
def test_wrong_arguments_give_one_line(texts, message):
    with pytest.raises(UsageError) as raised:
        parse_overrides(texts)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_set=3", "unknown setting of DCNv2_ME 'num_set'; did you mean 'num_sets'"),
        ("num_sets=0", "num_sets must be an integer of 1 or more, got 0"),
        ("learning_rate=1e-3", "write 1.e-3"),
        ("monitor=auc", "unknown monitor 'auc'; did you mean 'AUC'"),
        ("data_format=csw", "unknown data_format 'csw'; did you mean 'csv'"),
        ("train_data=nowhere.csv", "no train_data at nowhere.csv"),
        ("model=DNNME", "unknown model 'DNNME'; did you mean 'DNN_ME'"),
    ],
)
@pytest.mark.parametrize("command", ["run_expid", "plan"])
def test_keys_and_values_are_checked_as_in_the_config(command, text, message, capsys):
    write_config()
    if text.startswith("train_data") and command == "plan":
        return  # plan needs no data
    assert message in fails(capsys, command, *RUN, "--set", text)
    assert not Path("checkpoints").exists()


def test_a_key_that_a_foreign_model_does_not_read_is_refused(monkeypatch):
    from helpers.own_models import MINE

    Path("foreign_overridden.py").write_text(MINE)
    write_config({"model": "foreign_overridden:WideDNN"})
    assert load_settings("config", "mine", overrides={"hidden_units": [8]})["hidden_units"] == [8]
    with pytest.raises(UsageError, match="unknown setting of WideDNN 'hiden_units'; did you mean 'hidden_units'"):
        load_settings("config", "mine", overrides={"hiden_units": [8]})


def test_a_run_uses_and_records_what_is_overridden(capsys):
    write_config({"num_sets": 2})
    given = ["--set", "num_sets=3", "--set", "min_categr_count=2", "--set", "model_root=else where"]
    assert main(["run_expid", *RUN, *given]) == 0
    folder = Path("else where/tiny_flights")
    result = json.loads((folder / "mine.json").read_text())
    assert result["overridden"] == {"num_sets": 3, "min_categr_count": 2, "model_root": "else where"}
    assert result["settings"]["num_sets"] == 3 and not Path("checkpoints").exists()
    recorded = "--gpu -1 --set num_sets=3 --set min_categr_count=2 --set 'model_root=else where'"
    log = (folder / "mine.log").read_text()
    assert f"Overridden on the command line: {recorded.removeprefix('--gpu -1 ')}\n" in log
    assert f"run_expid --config config --expid mine {recorded},[exp_id] mine," in Path("config.csv").read_text()
    assert main(["run_expid", *RUN]) == 0
    plain = json.loads(Path("checkpoints/tiny_flights/mine.json").read_text())
    assert "overridden" not in plain and plain["settings_digest"] != result["settings_digest"]
    assert plain["data_digest"] != result["data_digest"]  # of other ids
    assert find_run("mine", "config", overrides={"model_root": "else where"}).checkpoint == folder / "mine.model"
    for command in (
        ["analyze"],
        ["export", "--out", "x", "--format", "safetensors"],
        ["export-embeddings", "--out", "x"],
    ):
        assert "setting of mine 'modl_root'; did you mean 'model_root'" in fails(
            capsys, command[0], *RUN, *command[1:], "--set", "modl_root=x"
        )
    assert "no checkpoint at nowhere" in fails(
        capsys, "predict", *RUN, "--data", "x.csv", "--out", "x.parquet", "--set", "model_root=nowhere"
    )
    assert main(["export-embeddings", *RUN, "--out", "tables", "--set", "model_root=checkpoints"]) == 0


def test_plan_estimates_what_is_overridden(capsys):
    write_config({"num_sets": 1})
    Path("ids.json").write_text(json.dumps(dict.fromkeys(FIELDS, 1000)))
    texts = []
    for given in ([], ["--set", "num_sets=4"]):
        assert main(["plan", *RUN, "--vocabulary", "ids.json", *given]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1]


FIELDS = ("month", "day_of_week", "hour", "carrier", "tailnum", "origin", "dest", "visibility")


def test_a_study_takes_them_as_settings(capsys):
    content = {"dataset_id": "tiny_flights", "models": {"DNN_ME": {"expid": "DNN_ME_test"}}, "scales": [2], "seeds": 1}
    Path("s.yaml").write_text(yaml.safe_dump({**content, "settings": {"epochs": 2, "batch_size": 64}}))
    study = read_study("s.yaml", settings={"epochs": 3})
    assert {(cell.settings["epochs"], cell.settings["batch_size"]) for cell in study.cells} == {(3, 64)}
    for text, message in (
        ("net_droput=0.1", "unknown setting of DNN_ME 'net_droput'; did you mean 'net_dropout'"),
        ("seed=3", "settings sets seed, which the study sets itself for each run"),
        ("num_sets=3", "settings sets num_sets, which the study sets itself for each size"),
        ("model_root=x", "settings sets model_root, which the study sets itself"),
        ("train_data=x", "settings sets train_data, which belongs to the data set"),
    ):
        assert message in fails(capsys, "study", "run", "s.yaml", "--set", text)
    Path("made").mkdir()
    message = "made is the folder of a study, which continues as it is: name its YAML file to change it"
    assert message in fails(capsys, "study", "run", "made", "--set", "epochs=3")
    assert not Path("s").exists()
