"""Configs and command lines of a hostile tester that once got past the checks: each ends in one line."""

from pathlib import Path

import pytest
from test_bad_configs import error_of, folder, write  # noqa: F401 - folder is a fixture

RUN = ["run_expid", "--config", "config", "--expid", "x"]
BUILD = ["data", "build", "shop", "--config", "config"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epochs", 0, "epochs must be an integer of 1 or more, got 0"),
        ("learning_rate", "1e-3", "learning_rate must be a number"),
        ("metrics", ["auc"], "did you mean 'AUC'?"),
        ("monitor", "auc", "did you mean 'AUC'?"),
        ("group_id", "usr", "did you mean 'user'?"),
        ("task", "x", "unknown task 'x'"),
    ],
)
def test_data_build_checks_settings_of_runs_in_the_entry_of_a_data_set(folder, capsys, key, value, words):  # noqa: F811
    write("dataset", key, value)
    code, line = error_of(BUILD, capsys)
    assert code == 2 and words in line and not Path("data").exists()


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        (["InformationAbundance"] * 2, "names InformationAbundance twice"),
        ([{"InformationAbundance": []}], "arguments must be {argument: value}, got []"),
        ([{"InformationAbundance": {5: 1}}], "arguments must be {argument: value}, got {5: 1}"),
    ],
)
def test_callbacks_that_cannot_be(folder, capsys, callbacks, words):  # noqa: F811
    write("model", "callbacks", callbacks)
    code, line = error_of(RUN, capsys)
    assert code == 2 and words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run_expid", "--expid", "DCNv2_ME_test", "--config", ""], "config: must not be empty"),
        ([*BUILD, "--out", ""], "out: must not be empty"),
        (["analyze", *RUN[1:], "--compare", ""], "compare: must not be empty"),
        (["run_expid", "--expid", "x", "--config", "a" * 5000], "File name too long"),
    ],
)
def test_paths_that_cannot_be(folder, capsys, arguments, words):  # noqa: F811
    write("model", "seed", 1)
    code, line = error_of(arguments, capsys)
    assert code == 2 and words in line


@pytest.mark.parametrize("text", ["x: {shuffle: !!bool foo}", "x: {seed: !!int [1]}", "x: {a: !!timestamp foo}"])
def test_a_tag_on_a_value_that_it_cannot_have(folder, capsys, text):  # noqa: F811
    write("model", "seed", 1)
    Path("config/model_config.yaml").write_text(text)
    code, line = error_of(RUN, capsys)
    assert code == 2 and "config/model_config.yaml is not valid YAML" in line


def test_a_penalty_that_diverges_says_so(folder, capsys):  # noqa: F811
    write("model", "singular_value_regularizer", 1e300)
    code, line = error_of(RUN, capsys)
    assert code == 1 and "singular_value_regularizer 1e+300: the embeddings are not finite" in line
