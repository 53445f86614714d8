"""YAML files that are read, and those that are refused in one line."""

from pathlib import Path

import pytest
import yaml
from helpers.bad_configs import folder, write  # noqa: F401

from fuxictr_me import UsageError
from fuxictr_me.config.yaml_files import LoaderName, read_yaml
from fuxictr_me.data import H5DataLoader
from fuxictr_me.runs.run_settings import load_settings

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", "the key 'a' occurs twice, in lines 1 and 3"),
        (b"x: {seed: 1, seed: 2}\n", "the key 'seed' occurs twice, in lines 1 and 1"),
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
def test_yaml_that_is_not_a_config_is_refused_in_one_line_that_names_the_file(tmp_path, content, words):
    path = tmp_path / "model_config.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_yaml(path)
    assert words in str(error.value) and str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


def test_a_config_is_read_as_pyyaml_reads_it(tmp_path):
    path = tmp_path / "model_config.yaml"
    text = "base: &b {a: 1, b: [x, 1.e-3, 1e-3, null, ~, yes, 0x10, 'é']}\nover: {<<: *b, a: 2}\nlist: [*b, *b]\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_yaml(path) == yaml.safe_load(text)
    text = "data_loader: !!python/name:fuxictr_me.data.H5DataLoader"
    path.write_text(text)
    named = read_yaml(path)
    assert named == {"data_loader": LoaderName("fuxictr_me.data.H5DataLoader")}
    for dump in (yaml.dump, yaml.safe_dump):
        assert dump(named).startswith(text)


def test_a_run_gets_the_loader_class_that_its_config_names(folder):
    write("model", "seed", 1)
    path = Path("config/dataset_config.yaml")
    path.write_text(path.read_text() + "  data_loader: !!python/name:fuxictr_me.data.H5DataLoader\n")
    assert load_settings("config", "x")["data_loader"] is H5DataLoader
