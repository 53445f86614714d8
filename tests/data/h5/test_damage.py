"""Damaged H5 data sets: a reader gets either the correct batches or a one-line error that names a file."""

import logging
import os
import random
import re
import shutil
import time

import numpy as np
import pytest
from helpers.damages import (
    WAYS,
    any_file,
    are_equal,
    batches,
    change_an_attribute,
    copy_and_damage,
    delete_a_file,
    delete_or_change_a_dataset,
    read_or_explain,
    rows_file,
    swap_files,
    time_limit,
    truncate,
    write_damageable_set,
    zero_a_block,
)

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data import H5DataLoader, feature_maps
from fuxictr_me.data.h5.h5_file import H5File


def flip_a_bit(rng, path):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def flip_a_bit_of_rows(rng, folder):
    flip_a_bit(rng, rows_file(rng, folder))


def flip_a_bit_anywhere(rng, folder):
    flip_a_bit(rng, any_file(rng, folder))


def flip_a_bit_near_an_end(rng, folder):
    path = rows_file(rng, folder)
    content = bytearray(path.read_bytes())
    at = rng.randrange(4096)
    content[at if rng.random() < 0.5 else -1 - at % len(content)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def overwrite_with_noise(rng, folder):
    path = any_file(rng, folder)
    with open(path, "r+b") as file:
        file.seek(rng.randrange(path.stat().st_size))
        file.write(rng.randbytes(rng.randrange(1, 300)))


def append_bytes(rng, folder):
    with open(any_file(rng, folder), "ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 5000)))


def cut_out_bytes(rng, folder):
    path = any_file(rng, folder)
    content = path.read_bytes()
    at = rng.randrange(len(content))
    path.write_bytes(content[:at] + content[at + rng.randrange(1, 2000) :])


def move_a_block(rng, folder):
    path = rows_file(rng, folder)
    content = bytearray(path.read_bytes())
    a, b = rng.randrange(len(content) - 512), rng.randrange(len(content) - 512)
    content[a : a + 512], content[b : b + 512] = content[b : b + 512], content[a : a + 512]
    path.write_bytes(content)


def file_of_another_set(rng, folder):
    path = any_file(rng, folder)
    shutil.copy(folder.parent / "other" / folder.name / path.relative_to(folder), path)


def change_json(rng, folder):
    path = rng.choice(sorted(folder.glob("*.json")))
    text = path.read_text()
    how = rng.randrange(4)
    if how == 0:
        path.write_text(rng.choice(["", "[]", "null", "3", '"x"', "{}", "{", "[" * 100_000, "\x00", '{"splits": []}']))
    elif how == 1:  # another number
        at = rng.choice([match.span() for match in re.finditer(r"\b\d+\b", text)])
        path.write_text(text[: at[0]] + str(rng.randrange(5000)) + text[at[1] :])
    elif how == 2:  # another word
        at = rng.choice([match.span() for match in re.finditer(r'"\w+"', text)])
        path.write_text(text[: at[0]] + '"wrong"' + text[at[1] :])
    else:  # a line less
        lines = text.splitlines(keepends=True)
        del lines[rng.randrange(len(lines))]
        path.write_text("".join(lines))


def replace_by_a_folder(rng, folder):
    path = any_file(rng, folder)
    path.unlink()
    path.mkdir()


DAMAGES = [
    flip_a_bit_of_rows,
    flip_a_bit_anywhere,
    flip_a_bit_near_an_end,
    zero_a_block,
    overwrite_with_noise,
    truncate,
    append_bytes,
    cut_out_bytes,
    move_a_block,
    change_an_attribute,
    delete_or_change_a_dataset,
    swap_files,
    delete_a_file,
    file_of_another_set,
    change_json,
    replace_by_a_folder,
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Data sets of one name, in single files and in blocks, and with other rows: (folder, in blocks, batches)."""
    root = tmp_path_factory.mktemp("sets")
    found = []
    for name, block_rows in (("one", 0), ("blocks", 900)):
        (root / "other").mkdir(exist_ok=True)
        write_damageable_set(root / name, block_rows=block_rows)
        write_damageable_set(root / "other" / name, seed=10, block_rows=block_rows)
        found.append((root / name, bool(block_rows), batches(root / name, WAYS[0], bool(block_rows))))
    return root, found


@pytest.mark.parametrize("turns", [24, pytest.param(63, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_set_gives_correct_batches_or_a_one_line_error(sets, tmp_path, damage, turns, capsys, caplog):
    """Try 384 damages, or 1,008; every eighth also with ``data info`` and ``data verify``."""
    root, found = sets
    caplog.set_level(logging.ERROR)
    (tmp_path / "other").symlink_to(root / "other")
    rng, outcomes = random.Random(damage.__name__), []
    for turn in range(turns):
        folder, in_blocks, right = found[turn % 2]
        work = tmp_path / folder.name
        copy_and_damage(folder, work, rng, damage)
        outcomes.append(read_or_explain(work, WAYS[turn % 3], right, in_blocks))
        if turn % 8 == 0:
            for action in ("info", "verify"):
                with time_limit(20):
                    code = main(["data", action, str(work)])
                captured = capsys.readouterr()
                assert code in (0, 1, 2) and "Traceback" not in captured.err
                assert code == 0 or str(work) in captured.out + captured.err
                assert action == "info" or code or outcomes[-1] == "right"
    assert sum(text != "right" for text in outcomes) > turns / 3, outcomes  # most damages hit something that is read


def test_undamaged_sets_give_correct_batches(sets):
    """The test of damages would otherwise prove nothing."""
    _, found = sets
    for folder, in_blocks, right in found:
        expected = write_damageable_set(folder.parent / f"{folder.name}-again")
        for way in WAYS:
            assert are_equal(batches(folder, way, in_blocks), right)
        for split, columns in expected.items():
            for name, values in columns.items():
                fed = right[split][name].numpy()
                np.testing.assert_array_equal(fed, values.astype(fed.dtype))


@pytest.mark.parametrize("way", WAYS, ids=["memory", "small windows", "one window"])
def test_each_flipped_bit_of_a_file_is_noticed(tmp_path, way):
    """Flip one bit at a time, all over the file, and restore it."""
    write_damageable_set(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "test.h5", feature_maps.load(tmp_path / "one")
    content, rng = path.read_bytes(), random.Random(0)
    for at in rng.sample(range(len(content)), 60):
        changed = bytearray(content)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UsageError, match=r"test\.h5 is damaged"):
            list(H5DataLoader(feature_map, path, batch_size=64, **way))


def test_rows_that_change_between_epochs_are_noticed(tmp_path):
    write_damageable_set(tmp_path / "one")
    path = tmp_path / "one" / "train.h5"
    loader = H5DataLoader(
        feature_maps.load(tmp_path / "one"), path, batch_size=100, data_placement="stream", window_rows=500
    )
    assert len(list(loader)) == 25
    with open(path, "r+b") as file:
        file.seek(-8192, os.SEEK_END)
        file.write(bytes(64))
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 1))
    with pytest.raises(UsageError, match=r"train.h5 is damaged: rows [\d,]+ to [\d,]+ of '\w+' are not as they were"):
        list(loader)


def test_each_process_checks_only_the_rows_of_its_share(tmp_path):
    write_damageable_set(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "train.h5", feature_maps.load(tmp_path / "one")
    file = H5File(path)
    at = file._offsets["int32"] + 4 * (file.rows - 1)  # the last row
    with open(path, "r+b") as raw:
        raw.seek(at)
        raw.write(b"\x01\x02\x00\x00")
    for way in WAYS:
        list(H5DataLoader(feature_map, path, batch_size=100, share=(0, 2), **way))
        with pytest.raises(UsageError, match="rows 2,048 to 2,499 of 'int32'"):
            list(H5DataLoader(feature_map, path, batch_size=100, share=(1, 2), **way))


def test_errors_name_swapped_and_surplus_files(tmp_path):
    write_damageable_set(tmp_path / "one")
    (tmp_path / "old").mkdir()
    write_damageable_set(tmp_path / "old" / "one", seed=7)
    one, feature_map = tmp_path / "one", feature_maps.load(tmp_path / "one")

    def message(name="train.h5"):
        with pytest.raises(UsageError) as caught:
            H5DataLoader(feature_map, one / name)
        return str(caught.value)

    shutil.copy(one / "valid.h5", one / "train.h5")
    assert "train.h5 is not the file that its manifest lists: it is what was built as valid.h5" in message()
    shutil.copy(tmp_path / "old/one/train.h5", one / "train.h5")
    assert "train.h5 is not the file that its manifest lists: it is of another set or build" in message()
    shutil.copy(tmp_path / "old/one/train.h5", one / "more.h5")
    assert f"{one}/more.h5 is not of this data set" in message("more.h5")
    shutil.copy(tmp_path / "old/one/train.h5", one / "train.h5")
    (one / "feature_map.json").write_text((one / "feature_map.json").read_text().replace("3000", "3001"))
    assert "feature_map.json is damaged or of another build" in message()
    with pytest.raises(UsageError, match=r"feature_map\.json is damaged or of another build"):
        feature_maps.load(one)
