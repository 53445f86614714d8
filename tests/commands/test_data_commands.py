"""``fuxictr-me data``, runs on H5 data from raw files to metrics, and runs without ray."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.command_line import fails, run_cli
from helpers.h5_sets import SPLITS, random_columns, read_epoch
from helpers.paths import ROOT
from helpers.raw_files import write_raw
from helpers.run_configs import write_config
from helpers.sample_files import write_sample

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data import H5DataLoader, build_dataset, build_h5, feature_maps
from fuxictr_me.data.h5.h5_file import H5File
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.synthetic_clicks import SyntheticClicks
from fuxictr_me.runs.experiment import run_expid

pytestmark = pytest.mark.usefixtures("own_folder")


# --- runs --------------------------------------------------------------------------------------------


def test_h5_gives_the_metrics_of_other_formats():
    same = {"shuffle": False, "net_dropout": 0}
    of_csv = run_expid("mine", write_config(same))
    of_h5 = run_expid("mine", write_config(same, {"data_format": "h5"}))
    streamed = {**same, "data_placement": "stream", "window_rows": 500}
    of_stream = run_expid("mine", write_config(streamed, {"data_format": "h5"}))
    assert of_h5["test"] == of_stream["test"]
    for metric, value in of_csv["test"].items():
        assert of_h5["test"][metric] == pytest.approx(value, abs=1e-6)
    assert Path("data/tiny_flights/train.h5").exists() and not Path("data/tiny_flights/train.parquet").exists()


def test_a_bundled_data_set_can_be_built_in_any_folder():
    assert main(["data", "build", "tiny_flights", "--out", "elsewhere"]) == 0
    assert Path("elsewhere/tiny_flights/train.h5").exists()


def test_built_h5_needs_no_raw_data():
    run_expid("mine", write_config({"shuffle": False}, {"data_format": "h5"}))
    paths = {f"{split}_data": f"data/tiny_flights/{split}.h5" for split in SPLITS}
    built = {"feature_cols": None, "label_col": None, "data_format": "h5", **paths}
    assert run_expid("mine", write_config(data=built))["test"]["AUC"] > 0.5


def test_group_metrics_are_computed_on_h5(tmp_path):
    write_sample("kuaivideo_x1", Path("data/KuaiVideo_x1"))
    assert main(["data", "build", "kuaivideo_x1"]) == 0
    built = {f"{split}_data": f"data/kuaivideo_x1/{split}.h5" for split in SPLITS}
    config = write_config({"metrics": ["AUC", "gAUC"], "group_id": "group_id", "dataset_id": "kuaivideo_x1"})
    dataset = {"kuaivideo_x1": {"data_root": "./data/", "data_format": "h5", **built}}
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump(dataset))
    assert 0 < run_expid("mine", config)["test"]["gAUC"] < 1


# --- commands ----------------------------------------------------------------------------------------


def test_build_info_verify_and_convert_agree(capsys):
    write_sample("criteo_x4", Path("raw/Criteo_x4"))
    assert main(["data", "build", "criteo_paper", "--raw", "raw/Criteo_x4", "--out", "sets"]) == 0
    out = capsys.readouterr().out
    assert "sets/criteo_paper: 39 fields" in out and "train           300 rows, 1 file," in out
    assert main(["data", "verify", "sets/criteo_paper"]) == 0
    kept = ["feature_map.json", "feature_processor.pkl", "feature_vocab.json", *(f"{split}.h5" for split in SPLITS)]
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"{name}: as it was built" for name in kept)
    assert main(["data", "convert", "sets/criteo_paper", "sets/again"]) == 0
    for split in SPLITS:
        assert H5File(f"sets/again/{split}.h5").rows == H5File(f"sets/criteo_paper/{split}.h5").rows
    assert "sets/again exists already" in fails(capsys, "data", "convert", "sets/criteo_paper", "sets/again")
    with h5py.File("sets/criteo_paper/valid.h5", "r+") as file:
        file["uint8"][0, 0] ^= 1
    assert "sets/criteo_paper is not as it should be" in fails(capsys, "data", "verify", "sets/criteo_paper", code=1)
    os.truncate("sets/again/test.h5", 100)
    assert main(["data", "verify", "sets/again"]) == 1
    assert "test.h5: sets/again/test.h5 is damaged: the checksums at its end are gone" in capsys.readouterr().out


@pytest.mark.parametrize("block_size", [0, 100])
def test_damaged_parquet_is_refused(tmp_path, capsys, block_size):
    params = write_raw(tmp_path) | {"data_block_size": block_size}
    path = Path(build_dataset(params)["train_data"])
    folder = tmp_path / "ours/made"
    assert main(["data", "info", str(folder)]) == 0
    assert "files are checked as a whole at every start" in capsys.readouterr().out
    assert main(["data", "verify", str(folder)]) == 0
    feature_map, file = feature_maps.load(folder), path if path.is_file() else sorted(path.glob("*"))[1]
    read_columns(feature_map, path, "train")
    whole, random = file.read_bytes(), np.random.default_rng(0)
    for at in random.integers(0, len(whole), 50):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UsageError, match=rf"{file.name} is damaged or of another build"):
            read_columns(feature_map, path, "train")
    assert main(["data", "verify", str(folder)]) == 1
    assert f"{file.relative_to(folder)}: {file} is damaged" in capsys.readouterr().out
    file.unlink()
    with pytest.raises(UsageError, match="train" if block_size else "no parquet data"):
        read_columns(feature_map, path, "train")


def test_a_parquet_set_of_an_earlier_version_has_no_checksums(tmp_path, capsys):
    build_dataset(write_raw(tmp_path))
    folder = tmp_path / "ours/made"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"format": 1, "file_digests": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["data", "info", str(folder)]) == 0
    assert "not protected" in capsys.readouterr().out
    assert "by an earlier version, which kept no checksums" in fails(capsys, "data", "verify", str(folder))
    read_columns(feature_maps.load(folder), folder / "train.parquet", "train")


def test_a_generated_set_is_replaced_by_a_build_and_the_log_says_so(tmp_path, caplog):
    params = {**write_raw(tmp_path), "data_format": "h5"}
    small = ["--num-fields", "6", "--num-ids", "20000", "--rank", "2"]
    assert main(["data", "generate", "--out", str(tmp_path / "ours/made"), "--rows", "2000", *small]) == 0
    built = build_h5(params)
    assert "is rebuilt: it was generated, not built from raw data" in caplog.text
    Path(built["valid_data"]).unlink()
    build_h5(params)
    assert "is rebuilt: valid.h5 is missing" in caplog.text and Path(built["valid_data"]).exists()


def test_verify_names_the_published_files_that_differ(capsys, monkeypatch):
    folder = write_sample("frappe_x1", Path("Frappe_x1"))
    published = {"train.csv": "0" * 32, "valid.csv": "0" * 32, "test.csv": "0" * 32}
    monkeypatch.setattr("fuxictr_me.data.verify_set.hash_file", lambda path, *_, **__: published[path.name])
    assert main(["data", "verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert (
        "train.csv: has md5 00000000000000000000000000000000, published is " in out and "published at https://" in out
    )
    content = json.loads((ROOT / "dataset_configs/frappe_x1/files.json").read_text())
    published |= {name: entry["md5"] for name, entry in content["files"].items()}
    assert main(["data", "verify", str(folder)]) == 0
    assert "test.csv: as published" in capsys.readouterr().out
    (folder / "test.csv").unlink()
    assert main(["data", "verify", str(folder)]) == 1
    assert "test.csv: is not there" in capsys.readouterr().out


def test_generate_writes_the_rows_of_synthetic_clicks(capsys):
    small = ["--num-fields", "6", "--num-ids", "20000", "--rank", "2"]
    assert main(["data", "generate", "--out", "like", "--rows", "5000", *small]) == 0
    assert "best AUC that a model can reach: 0." in capsys.readouterr().out
    feature_map = feature_maps.load(Path("like"))
    rows = read_epoch(H5DataLoader(feature_map, "like/valid.h5", batch_size=64))
    clicks = SyntheticClicks(num_fields=6, num_ids=20_000, rank=2)
    chunk = next(clicks.chunks(500, part=1))
    for name, values in chunk.items():
        np.testing.assert_array_equal(rows[name].numpy(), values.astype(rows[name].numpy().dtype))
    assert "like exists already" in fails(capsys, "data", "generate", "--out", "like", "--rows", "5000")
    assert "rank must be an integer of 1 or more, got 0" in fails(
        capsys, "data", "generate", "--out", "x", "--rank", "0"
    )
    assert not Path("x").exists()


@pytest.mark.parametrize("block_size", [0, 110])
def test_convert_keeps_the_ids_of_parquet_npz_and_old_h5(tmp_path, block_size):
    params = write_raw(tmp_path) | {"data_block_size": block_size}
    build_dataset(params)
    expected = build_h5({**params, "dataset_id": "expected", "data_format": "h5"})
    source, feature_map = tmp_path / "ours/made", feature_maps.load(tmp_path / "ours/expected")
    assert main(["data", "convert", str(source), str(tmp_path / "from_parquet")]) == 0
    for kind in ("npz", "h5"):
        folder = tmp_path / kind
        folder.mkdir()
        shutil.copy(source / "feature_map.json", folder)
        for split in SPLITS:
            parts = [pd.read_parquet(file) for file in sorted(source.glob(f"{split}/*.parquet"))] if block_size else []
            for i, part in enumerate(parts or [pd.read_parquet(source / f"{split}.parquet")]):
                columns = {name: np.array(part[name].tolist()) for name in part}
                name = f"{split}/part_{i}" if block_size else split
                (folder / name).parent.mkdir(exist_ok=True)
                if kind == "npz":
                    np.savez(folder / f"{name}.npz", **columns)
                else:
                    with h5py.File(folder / f"{name}.h5", "w") as file:
                        for column, values in columns.items():
                            file[column] = values
        assert main(["data", "convert", str(folder), str(tmp_path / f"from_{kind}")]) == 0
    for made in ("from_parquet", "from_npz", "from_h5"):
        for split in SPLITS:
            mine = read_epoch(H5DataLoader(feature_map, tmp_path / made / f"{split}.h5", batch_size=64))
            theirs = read_epoch(H5DataLoader(feature_map, expected[f"{split}_data"], batch_size=64))
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs), (made, split)


def test_convert_refuses_damaged_ids(tmp_path, capsys):
    params = write_raw(tmp_path)
    build_dataset(params)
    source = tmp_path / "ours/made"
    frame = pd.read_parquet(source / "valid.parquet")
    frame["user"] += 1000
    frame.to_parquet(source / "valid.parquet")
    assert "valid.parquet is damaged" in fails(capsys, "data", "convert", str(source), str(tmp_path / "new"))
    (source / "manifest.json").unlink()  # like a data set that FuxiCTR built
    assert "field 'user' has ids from" in fails(capsys, "data", "convert", str(source), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".building-*"))
    assert "no feature map at" in fails(capsys, "data", "convert", str(tmp_path), str(tmp_path / "new"))


def test_a_feature_map_of_fuxictr_1_is_read(tmp_path):
    specs = {
        "clicks": {"source": "", "type": "sequence", "encoder": "MaskedAveragePooling", "padding_idx": 49},
        "item": {"source": "", "type": "categorical", "min_categr_count": 1, "vocab_size": 70_000, "index": 3},
        "user": {"source": "u", "type": "categorical", "min_categr_count": 1, "vocab_size": 300, "index": 4},
    }
    specs["clicks"] |= {"vocab_size": 50, "max_len": 3, "index": [0, 1, 2]}
    old = {"dataset_id": "old", "num_fields": 3, "num_features": 70_350, "input_length": 5}
    (tmp_path / "feature_map.json").write_text(json.dumps({**old, "feature_specs": dict(reversed(specs.items()))}))
    feature_map = feature_maps.load(tmp_path, "old", {"label_col": {"name": "click", "dtype": "float"}})
    assert list(feature_map.features) == ["clicks", "item", "user"] and feature_map.labels == ["click"]
    assert feature_map.features["clicks"]["feature_encoder"] == "layers.MaskedAveragePooling()"
    columns = random_columns(feature_map, 100)
    ordered = [columns[name].reshape(100, -1) for name in ("clicks", "item", "user", "label")]
    with h5py.File(tmp_path / "train.h5", "w") as file:
        file["data"] = np.hstack(ordered).astype(np.float64)
    rows = read_epoch(H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64))
    np.testing.assert_array_equal(rows["user"].numpy(), columns["user"])
    np.testing.assert_array_equal(rows["click"].numpy(), columns["label"])
    with pytest.raises(UsageError, match="is of another data set"):
        feature_maps.load(tmp_path, "new")
    with pytest.raises(UsageError, match="has no feature 'usr'"):
        feature_maps.load(tmp_path, "old", {"use_features": ["usr"]})


def test_every_sub_command_has_help(capsys):
    for action in ("build", "info", "verify", "convert", "generate"):
        with pytest.raises(SystemExit) as ended:
            main(["data", action, "--help"])
        assert ended.value.code == 0 and len(capsys.readouterr().out) > 150


# --- without ray ---------------------------------------------------------------------------------------

NO_RAY = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name.split(".")[0] == "ray" else find(name, *more)
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
"""


NEEDS_RAY = """
import fuxictr_me.compat
assert "ray" not in sys.modules
from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader
ParquetDataLoader(None, "x.parquet")
"""


def without_ray(code, cwd):
    return subprocess.run([sys.executable, "-c", NO_RAY + code], cwd=cwd, capture_output=True, text=True, check=False)


def test_training_on_h5_needs_no_ray_and_code_that_needs_it_names_it(tmp_path):
    """Both in one process, because it imports everything."""
    write_config(None, {"data_format": "h5"})
    command = "['run_expid', '--config', 'config', '--expid', 'mine']"
    run = without_ray(f"from fuxictr_me.commands.main import main; assert main({command}) == 0\n{NEEDS_RAY}", tmp_path)
    assert Path("config.csv").exists() and Path("data/tiny_flights/train.h5").exists(), run.stderr
    line = run.stderr.splitlines()[-1]
    assert "FuxiCTR needs ray.is_initialized, and ray is not installed: pip install 'ray[data]', or set" in line


@pytest.mark.slow
def test_fuxictrs_wheel_alone_cannot_be_imported_without_ray(tmp_path):
    plain = without_ray("import fuxictr.pytorch.models", tmp_path)
    assert plain.returncode == 0 or "No module named 'ray'" in plain.stderr


# --- in FuxiCTR's own scripts ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("FUXICTR_SRC" not in os.environ, reason="FUXICTR_SRC names no checkout")
@pytest.mark.parametrize("flavour", ["wheel", "main"])
def test_githubs_script_reads_h5_by_its_own_data_loader_argument(tmp_path, flavour):
    source = Path(os.environ["FUXICTR_SRC"])
    if flavour == "main":
        pytest.importorskip("keras_preprocessing", reason="FuxiCTR's main branch needs keras_preprocessing")
    run_expid("mine", write_config(None, {"data_format": "h5"}))
    for folder in ("experiment", "model_zoo"):
        shutil.copytree(source / folder, tmp_path / folder)
    experiments = yaml.safe_load(Path("config/model_config.yaml").read_text())
    experiments["theirs"] = {
        **experiments["mine"],
        "model": "DCNv2",
        "parallel_dnn_hidden_units": [8],
        "callbacks": None,
    }
    Path("config/model_config.yaml").write_text(yaml.safe_dump(experiments))
    paths = "".join(f"    {split}_data: ../data/tiny_flights/{split}.h5\n" for split in SPLITS)
    loader = "    data_loader: !!python/name:fuxictr_me.data.H5DataLoader\n"
    head = "tiny_flights:\n    data_root: ../data/\n    data_format: npz\n"
    Path("config/dataset_config.yaml").write_text(head + paths + loader)
    environment = {"PYTHONPATH": str(source)} if flavour == "main" else {}
    for expid in ("mine", "theirs"):
        arguments = ("--config", "../config", "--expid", expid)
        run = run_cli("host", "experiment/run_expid.py", *arguments, cwd=tmp_path, **environment)
        assert run.returncode == 0, run.stderr[-3000:]
        assert f"[exp_id] {expid}" in (tmp_path / "experiment" / "config.csv").read_text()
