"""The wheel: what it carries, and that it runs with no checkout about."""

import os
import subprocess
import sys
import venv
import zipfile

import pytest
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(build, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_zoo_and_data_set_configs_inside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "fuxictr_me/model_zoo/DCNv2_ME/config/model_config.yaml" in names
    assert "fuxictr_me/model_zoo/schema/model_config.json" in names
    assert "fuxictr_me/dataset_configs/tiny_flights/train.csv" in names
    assert "fuxictr_me/quickstart/model_config.yaml" in names
    top = {name.split("/")[0] for name in names}
    assert top == {
        "fuxictr_me",
        wheel.name.split("-py3")[0] + ".dist-info",
    }  # a top-level model_zoo would shadow the host's
    assert not [name for name in names if name.endswith((".pyc", ".log", ".model", ".parquet"))]


def test_the_wheel_runs_with_no_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    run = subprocess.run(
        [sys.executable, "-m", "fuxictr_me", "run_expid", "--expid", "DCNv2_ME_test"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert f'"train_data": "{site}/fuxictr_me/dataset_configs/tiny_flights/train.csv"' in run.stderr
    assert (tmp_path / "checkpoints" / "tiny_flights" / "DCNv2_ME_test.model").exists()


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, env=clean, cwd=tmp_path)
    command = [tmp_path / "venv" / "bin" / "fuxictr-me", "run_expid", "--expid", "DNN_ME_test"]
    subprocess.run(command, check=True, env=clean, cwd=tmp_path, capture_output=True)
    assert "[exp_id] DNN_ME_test" in (tmp_path / "config.csv").read_text()
