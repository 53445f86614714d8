"""Models that cannot fit into memory are refused before anything is built."""

from pathlib import Path

import pytest
import yaml
from helpers.bad_configs import error_of, folder, write  # noqa: F401

from fuxictr_me import UsageError, models
from fuxictr_me.commands.main import main
from fuxictr_me.estimates.memory_limits import check_memory, estimate_min_bytes


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
