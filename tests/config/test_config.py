"""Reading configs, looking up data sets, the table of options, and what is refused before anything is made."""

import inspect
import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from fuxictr.pytorch.torch_utils import get_loss
from fuxictr.utils import load_config
from helpers.bad_configs import error_of, write
from helpers.batches import make_batch
from helpers.feature_maps import categorical, make_feature_map, sequence

from fuxictr_me import MultiEmbedding, UsageError, models
from fuxictr_me.commands.main import main
from fuxictr_me.config import bundled_datasets, check_dataset, find_dataset, read_entries, read_params
from fuxictr_me.config.expressions import check_feature_encoder, check_preprocess
from fuxictr_me.config.model_options import MODEL_OPTIONS
from fuxictr_me.config.names import check_field_name, check_plain_name
from fuxictr_me.config.options import COLUMN_OPTIONS, DATASET_OPTIONS, READING_OPTIONS, UNSET
from fuxictr_me.config.training_options import LOSSES, MULTI_TASK_OPTIONS, OPTIMIZERS, TRAINING_OPTIONS
from fuxictr_me.config.yaml_files import read_yaml
from fuxictr_me.data import H5DataLoader, feature_maps
from fuxictr_me.estimates.memory_limits import check_memory, estimate_min_bytes
from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs
from fuxictr_me.runs.run_settings import load_settings

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", "the key 'a' is there twice, in lines 1 and 3"),
        (b"x: {seed: 1, seed: 2}\n", "the key 'seed' is there twice, in lines 1 and 1"),
        ("a: é".encode("utf-16"), "is not UTF-8 text: byte 0xff at 0. Save it as UTF-8"),
        ("a: é".encode("latin-1"), "is not UTF-8 text"),
        (bytes(range(128, 256)), "is not UTF-8 text"),
        (b"a: \0", "is not valid YAML"),
        (BOMB.encode(), "its aliases stand for more than 1,000,000 values"),
        (b"a: &a [*a]", "an alias names what it lies in"),
        (b"[" * 60, "values are nested more than 50 deep"),
        (b"[" * 100_000, "values are nested more than 50 deep"),
        (b"a: " + b"9" * 5000, "a number of 5000 characters is too large"),
        (b"a: 9223372036854775808", "is larger than 9223372036854775807"),
        (b"a: 010", "YAML reads 010 as the number 8: write 8, or quote it"),
        (b"a: 1:30", "YAML reads 1:30 as the number 90"),
        (b"a: 1:30.5", "YAML reads 1:30.5 as the number 90.5"),
        (b"a: 2020-13-45", "is not valid YAML"),
        (b"a: !!python/object/apply:os.system [touch pwned]", "the tag !!python/object/apply:os.system is not read"),
        (b"a: !!python/name:os.system ", "the tag !!python/name:os.system is not read"),
        (
            b"a: !!python/name:fuxictr_me.commands.main.main ",
            "the tag !!python/name:fuxictr_me.commands.main.main is not read",
        ),
        (b"a: !!python/tuple [1, 2]", "the tag !!python/tuple is not read"),
        (b"a: [1,", "is not valid YAML"),
        (b"? [a]\n: 1", "is not valid YAML"),
        (b"x" * 9_000_000, "has 9,000,000 bytes"),
    ],
)
def test_yaml_that_is_no_config_is_one_line_that_names_the_file(tmp_path, content, words):
    path = tmp_path / "model_config.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_yaml(path)
    assert words in str(error.value) and str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


def test_yaml_that_is_a_config_is_read_as_pyyaml_reads_it(tmp_path):
    path = tmp_path / "model_config.yaml"
    text = "base: &b {a: 1, b: [x, 1.e-3, 1e-3, null, ~, yes, 0x10, 'é']}\nover: {<<: *b, a: 2}\nlist: [*b, *b]\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_yaml(path) == yaml.safe_load(text)
    path.write_text("data_loader: !!python/name:fuxictr_me.data.H5DataLoader")
    assert read_yaml(path) == {"data_loader": H5DataLoader}


def test_the_merge_is_that_of_fuxictr(tmp_path):
    """Over the bundled model zoo, and over files in a folder, each of which may have a Base."""
    for folder in [*find_zoo_configs().values()][:2]:
        entries = read_entries(folder, "model_config")
        ready = [expid for expid, entry in entries.items() if expid != "Base" and entry.get("dataset_id") != "TBD"]
        for expid in ready[:: len(ready) // 3]:
            assert read_params(folder, expid) == load_config(str(folder), expid)
    files = {"a": {"Base": {"seed": 1}, "x": {"dataset_id": "d"}}, "b": {"Base": {"seed": 2}, "y": {"dataset_id": "d"}}}
    (tmp_path / "model_config").mkdir()
    for name, content in files.items():
        (tmp_path / "model_config" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    data = {"data_root": "d", "data_format": "h5", "train_data": "t", "valid_data": "v"}
    (tmp_path / "dataset_config.yaml").write_text(yaml.safe_dump({"d": data}))
    for expid, seed in (("x", 1), ("y", 2)):
        assert read_params(tmp_path, expid)["seed"] == seed
    (tmp_path / "model_config" / "c.yaml").write_text(yaml.safe_dump({"z": {"dataset_id": "d"}}))
    with pytest.raises(UsageError, match=r"z has no Base in its own file, and .*a.yaml and .*b.yaml each have one"):
        read_params(tmp_path, "z")
    (tmp_path / "model_config" / "c.yaml").write_text(yaml.safe_dump({"x": {"dataset_id": "d"}}))
    with pytest.raises(UsageError, match=r"x is in .*a.yaml and in .*c.yaml"):
        read_params(tmp_path, "x")


def test_a_config_folder_may_have_glob_characters(folder):
    write("model", "seed", 1)
    Path("config").rename("a[b]*")
    assert load_settings("a[b]*", "x")["seed"] == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".x", " x", "x\n", "x\0", "a*", "a?", "[a]", "é" * 100, 5, None]
)
def test_names_that_are_not_plain(name):
    with pytest.raises(UsageError, match="expid must be a plain name"):
        check_plain_name("expid", name)


def test_plain_names():
    for name in ("x", "DCNv2_ME_001_ab12", "été 2024", "a.b", "a-b", "a,b", "x" * 150):
        assert check_plain_name("expid", name) == name


def test_field_names_are_those_that_torch_can_hold():
    """By setting a layer of each name, with every name that a ModuleDict has."""
    for name in {*dir(torch.nn.ModuleDict()), "user", "user id", "été", "a.b", "0"}:
        layers = torch.nn.ModuleDict()
        try:
            layers[name] = torch.nn.Identity()
        except KeyError:
            with pytest.raises(UsageError, match="cannot be named"):
                check_field_name(name)
        else:
            check_field_name(name)


@pytest.mark.parametrize("dataset_id", bundled_datasets())
def test_every_bundled_data_set_is_found_and_right(dataset_id, monkeypatch):
    entry, place = find_dataset(dataset_id)
    params = {**entry, "dataset_id": dataset_id}
    for split in ("train", "valid", "test"):  # the published files are not here
        params[f"{split}_data"] = str(find_bundled_folder("dataset_configs") / "tiny_flights" / "train.csv")
    check_dataset(params, place)
    assert all(column["active"] in (True, False) for column in params["feature_cols"])
    assert find_dataset(dataset_id, place.parent)[0] == entry


def test_data_sets_are_found_by_id(tmp_path):
    assert find_dataset("criteo_x4_001")[1].parent.name == "criteo_x4"
    with pytest.raises(
        UsageError, match="criteo_x4 comes in several settings: name one of criteo_x4_001, criteo_x4_002"
    ):
        find_dataset("criteo_x4")
    (tmp_path / "dataset_config.yaml").write_text("mine: {data_root: a, data_format: h5}\n")
    assert find_dataset("mine", tmp_path)[0] == find_dataset("mine", tmp_path / "dataset_config.yaml")[0]
    assert find_dataset("criteo_x1", tmp_path)[1].parent.name == "criteo_x1"
    with pytest.raises(UsageError, match=r"unknown dataset_id 'mime'; did you mean 'mine'\? \(known: mine\)"):
        find_dataset("mime", tmp_path)


def test_data_build_takes_the_data_root_of_the_config(folder):
    write("dataset", "data_root", "elsewhere")
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    assert Path("elsewhere/shop/train.h5").is_file() and not Path("data").exists()
    assert main(["data", "build", "shop", "--config", "config", "--out", "here"]) == 0
    assert Path("here/shop/train.h5").is_file()


def test_a_column_is_active_where_it_does_not_say(folder):
    write("user", "active", True)
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    content = yaml.safe_load(Path("config/dataset_config.yaml").read_text())
    del content["shop"]["feature_cols"][0]["active"]
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump(content))
    built = Path("data/shop/train.h5").stat().st_mtime_ns
    assert main(["data", "build", "shop", "--config", "config"]) == 0
    assert Path("data/shop/train.h5").stat().st_mtime_ns == built  # the same settings: not built again


def test_what_monitor_watches_is_among_the_metrics(folder):
    write("model", "metrics", ["AUC"])
    assert load_settings("config", "x")["metrics"] == ["AUC"]
    write("model", "monitor", {"AUC": 1, "logloss": -1})
    assert load_settings("config", "x")["metrics"] == ["AUC", "logloss"]
    write("model", "metrics", ["logloss"])
    assert load_settings("config", "x")["metrics"] == ["logloss", "AUC"]  # AUC is what is watched by default


def test_a_regression_has_metrics_of_its_own(folder):
    entries = {"task": "regression", "loss": "mse_loss", "metrics": ["MSE", "MAE", "RMSE"], "monitor": "RMSE"}
    for changes, words in (
        ({"monitor_mode": "min"}, None),
        ({"monitor_mode": "max"}, "monitor RMSE needs monitor_mode: min, got max"),
        ({"monitor_mode": "min", "metrics": ["AUC"]}, "metric AUC does not fit task regression"),
        ({"monitor_mode": "min", "loss": "binary_crossentropy"}, "loss binary_crossentropy is for probabilities"),
        (
            {"monitor_mode": "min", "task": "binary_classification"},
            "metric MSE does not fit task binary_classification",
        ),
    ):
        write("model", "seed", 1)
        model = yaml.safe_load(Path("config/model_config.yaml").read_text())
        model["x"] |= entries | changes
        Path("config/model_config.yaml").write_text(yaml.safe_dump(model))
        if words is None:
            assert load_settings("config", "x")["metrics"] == ["MSE", "MAE", "RMSE"]
        else:
            with pytest.raises(UsageError, match=words):
                load_settings("config", "x")


def test_every_argument_of_our_models_is_in_the_table():
    tables = MODEL_OPTIONS | TRAINING_OPTIONS | READING_OPTIONS | MULTI_TASK_OPTIONS
    for name in models.__all__:
        for argument in list(inspect.signature(getattr(models, name).__init__).parameters.values())[2:]:
            if argument.kind is argument.VAR_KEYWORD:
                continue
            option = tables[argument.name]
            assert option.doc
            if not isinstance(argument.default, tuple) and argument.default is not None:
                option.check(argument.default)


def test_every_default_in_the_table_is_of_its_kind():
    for table in (COLUMN_OPTIONS, DATASET_OPTIONS, READING_OPTIONS, TRAINING_OPTIONS, MODEL_OPTIONS):
        for name, option in table.items():
            assert option.name == name and option.doc and "\n" not in option.doc
            json.dumps(option.kind.schema)
            if option.default is not UNSET:
                option.check(option.default)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_of_the_table_trains(optimizer, plain_map):
    model = models.DNN_ME(plain_map, optimizer=optimizer, embedding_dim=2, num_sets=2, hidden_units=[4], verbose=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    model._max_gradient_norm = 10
    for _ in range(2):
        assert torch.isfinite(model.train_step(make_batch(plain_map)))
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_the_table_has_a_gradient(loss):
    prediction = torch.full((4, 1), 0.3, requires_grad=True)
    get_loss(loss)(prediction, torch.tensor([[0.0], [1.0], [1.0], [1.0]]), reduction="mean").backward()
    assert (prediction.grad[1:] < 0).all() and prediction.grad[0] > 0  # towards the labels


@pytest.mark.parametrize(
    "encoder",
    [
        "layers.MaskedAveragePooling()",
        ["layers.MaskedSumPooling()", "nn.Linear(4, 8, bias=False)"],
        "layers.KMaxPooling(1, dim=1)",
        None,
        "null",
    ],
)
def test_feature_encoders_that_are_documented(encoder):
    check_feature_encoder("feature_encoder", encoder)


def test_no_code_runs_from_a_feature_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = "(open('pwned', 'w').close(), layers.MaskedAveragePooling())[1]"
    feature_map = make_feature_map({"history": sequence(9, 3, feature_encoder=evil)}, tmp_path)
    with pytest.raises(UsageError, match="feature_encoder"):
        MultiEmbedding(feature_map, 2, 1)
    with pytest.raises(UsageError, match=r"feature_encoder of feature 'history' in .*feature_map.json must be like"):
        feature_maps.load(tmp_path)
    make_feature_map({"history": sequence(9, 3)}, tmp_path)
    with pytest.raises(UsageError, match="feature_encoder of 'history' in feature_specs must be like"):
        feature_maps.load(tmp_path, params={"feature_specs": [{"name": "history", "feature_encoder": evil}]})
    for text in ("load_pickle(x)", "__init__", "read_data(x)", "copy_from(a); x()"):
        with pytest.raises(UsageError, match="preprocess"):
            check_preprocess("preprocess", text)
    assert not Path("pwned").exists()


FEATURES = {"user": categorical(9, embedding_dim=4), "history": sequence(9, 3, share_embedding="user")}
WRONG = [None, True, -1, 0, 1.5, "x", "", [], {}, [1], 10**12, "print(1)", "../x"]


def test_a_damaged_feature_map_is_one_line_that_names_the_file(tmp_path):
    make_feature_map(FEATURES, tmp_path)
    path = tmp_path / "feature_map.json"
    whole = path.read_text()
    for key in (*FEATURES["history"], "pretrained_emb", "pretrain_dim", "oov_idx", "embedding_dim", "emb_output_dim"):
        for value in WRONG:
            content = json.loads(whole)
            content["features"][1]["history"][key] = value
            path.write_text(json.dumps(content))
            try:
                features = feature_maps.load(tmp_path).features
            except UsageError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert features["history"][key] == value  # and a model can be made of it
                if (key, value) == ("feature_encoder", None):
                    continue  # in which a sequence needs one
                MultiEmbedding(
                    make_feature_map({"history": {**FEATURES["history"], key: value}, "user": FEATURES["user"]}), 4, 1
                )
    for content in (
        "[]",
        "5",
        '"x"',
        "{}",
        '{"features": 5}',
        '{"dataset_id": "x", "features": [5]}',
        "[" * 10**5,
        "9" * 5000,
        "\udcff",
    ):
        path.write_text(content, errors="surrogateescape")
        with pytest.raises(UsageError, match=r"feature_map\.json"):
            feature_maps.load(tmp_path)


def test_cut_and_changed_feature_maps(tmp_path):
    make_feature_map(FEATURES, tmp_path)
    path, rng = tmp_path / "feature_map.json", random.Random(0)
    whole = path.read_bytes()
    for _ in range(300):
        at = rng.randrange(len(whole))
        path.write_bytes(rng.choice([whole[:at], whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1 :]]))
        try:
            feature_maps.load(tmp_path)
        except UsageError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_dim": 10**9},
        {"embedding_dim": 10**6, "num_sets": 1000},
        {"embedding_dim": 2 * 10**5},  # tables that fit, and cross layers of 600,000 x 600,000
        {"stacked_dnn_hidden_units": [10**9]},
        {"stacked_dnn_hidden_units": [10**6, 10**6]},
    ],
)
def test_a_model_that_cannot_fit_is_refused_with_the_memory_it_takes(settings, plain_map, monkeypatch):
    monkeypatch.setattr("fuxictr_me.estimates.memory_limits.free_memory", lambda: 16e9)
    params = {"model": "DCNv2_ME", "gpu": -1, "num_sets": 2, **settings}
    with pytest.raises(UsageError, match=r"needs at least [\d,.]+ [GTPE]B to train, and 16 GB of RAM are free"):
        check_memory(models.DCNv2_ME, params, plain_map)


def test_the_least_memory_is_that_of_the_model(plain_map):
    params = {"embedding_dim": 40, "num_sets": 3, "hidden_units": [7], "verbose": 0}
    model = models.DNN_ME(plain_map, **params)
    tables = sum(weight.numel() for name, weight in model.named_parameters() if "embedding" in name)
    least = estimate_min_bytes(models.DNN_ME, params, plain_map)
    assert 12 * tables <= least <= 16 * model.num_parameters()
    assert estimate_min_bytes(models.DNN_ME, {**params, "optimizer": "AdamW"}, plain_map) >= 16 * tables
    assert 8 * tables <= estimate_min_bytes(models.DNN_ME, {**params, "optimizer": "SGD"}, plain_map) <= least
    check_memory(models.DNN_ME, {**params, "gpu": -1}, plain_map)


@pytest.mark.parametrize(
    "changes", [{"embedding_dim": 10**9}, {"num_sets": 10**9}, {"stacked_dnn_hidden_units": [10**12]}]
)
@pytest.mark.parametrize("command", ["plan", "run_expid"])
def test_plan_and_run_refuse_at_once(folder, capsys, command, changes, monkeypatch):
    monkeypatch.setattr("fuxictr_me.estimates.memory_limits.free_memory", lambda: 16e9)
    write("model", "seed", 1)
    assert command == "run_expid" or main(["data", "build", "shop", "--config", "config"]) == 0
    model = yaml.safe_load(Path("config/model_config.yaml").read_text())
    model["x"] |= changes
    Path("config/model_config.yaml").write_text(yaml.safe_dump(model))
    code, line = error_of([command, "--config", "config", "--expid", "x"], capsys)
    assert code == 2 and ("to train, and" in line or "the largest is " in line)
