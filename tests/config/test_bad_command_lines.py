"""Wrong arguments and damaged config files: each ends in one line."""

import itertools
import random
from pathlib import Path

import pytest
from fuxictr.utils import load_config
from helpers.bad_configs import (
    error_of,
    folder,  # noqa: F401 - a fixture
    write,
)

from fuxictr_me.config import read_params
from fuxictr_me.errors import UsageError

BAD_LINES = [
    *(f"data generate --out g --rows {rows}" for rows in ("0", "-5", "x", "1.5", "1e3", "", str(10**15))),
    *(f"data generate --out g --rows 50 --num-ids {ids}" for ids in ("0", "-1", "x", "10", str(10**12), str(10**18))),
    *(f"data generate --out g --rows 50 --seed {seed}" for seed in ("-1", "x", str(2**32), str(2**70))),
    *(f"data generate --out g --rows 50 --rank {rank}" for rank in ("0", "-1", "x", str(10**9))),
    *(f"data generate --out g --rows 50 --exponent {number}" for number in ("nan", "inf", "-1", "x", "99")),
    *(f"data generate --out g --rows 50 --num-fields {fields}" for fields in ("0", "1", "-1", "x", str(10**9))),
    *(f"run_expid --config config --expid {expid}" for expid in ("../x", "a/b", ".x", "y", "Base", "x*", "[x]")),
    *(f"run_expid --config config --expid x --gpu {gpu}" for gpu in ("99", "-2", "a", "1.5")),
    *(f"data build {dataset_id} --config config" for dataset_id in ("../shop", "shoop", ".shop", "a/b", "*")),
    *(f"{command} --expid x --config nope" for command in ("run_expid", "plan", "analyze", "export --out o")),
    *(f"quickstart --seed {seed}" for seed in ("-1", str(2**32), "x")),
    *(f"toy {option} {number}" for option in ("--seeds", "--iterations") for number in ("0", "-1", "x")),
    "plan --config config --expid x --gpu-model nope",
    "plan --config config --expid x --vocabulary nope.json",
    "data build criteo_x4",
    "data build shop --config nope",
    "data build shop --config rows.csv",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_every_wrong_command_line_is_refused_in_one_line(folder, capsys, line):
    write("model", "seed", 1)
    code, error = error_of(line.split(" "), capsys)
    assert code == 2 and error and not Path("g").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read_as_fuxictr_reads_them(folder, seed):
    damage_files(seed, 1_000)


def test_some_damaged_files_are_refused_or_read_as_fuxictr_reads_them(folder):
    damage_files(0, 60)


def damage_files(seed, times):
    """Change characters of both files. What is accepted must equal the result of FuxiCTR's own ``load_config``."""
    write("model", "seed", 1)
    paths = [Path("config/model_config.yaml"), Path("config/dataset_config.yaml")]
    whole, rng, refused = [path.read_text() for path in paths], random.Random(seed), 0
    for _ in range(times):
        for path, text in zip(paths, whole, strict=True):
            path.write_text(text)
        path, text = rng.choice(list(zip(paths, whole, strict=True)))
        at = rng.randrange(len(text))
        change = rng.choice(
            ["", text[at] * 2, ":", "\t", "&a *a", "\n", "- ", "'", "{", "!!python/name:os.system ", "9" * 50]
        )
        path.write_text(text[:at] + change + text[at + rng.randrange(2) :])
        try:
            params = read_params("config", "x")
        except UsageError:
            refused += 1
            continue
        expected = load_config("config", "x")
        for column in expected["feature_cols"]:
            column.setdefault("active", True)
        assert params == expected
    assert refused > times / 10


def test_text_that_looks_like_a_number_is_refused(folder):
    """YAML 1.1 does not read these texts as the numbers that they look like."""
    for text, key in itertools.product(("1e3", "1_0e1", "0x", "1,000", "12 "), ("epochs", "learning_rate")):
        write("model", key, text.strip() if text != "12 " else "12")
        with pytest.raises(UsageError, match=key):
            read_params("config", "x")
