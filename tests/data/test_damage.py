"""Damaged H5 data sets: a reader gets either the correct batches or a one-line error that names a file."""

import contextlib
import json
import logging
import os
import random
import re
import shutil
import signal
import time

import h5py
import numpy as np
import pytest
import torch
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.h5_sets import random_columns, rewrite_as_format_1_file

from fuxictr_me import UsageError
from fuxictr_me.commands.main import main
from fuxictr_me.data import H5DataLoader, feature_maps
from fuxictr_me.data.building.convert_ids import write_set
from fuxictr_me.data.h5 import untrusted_hdf5
from fuxictr_me.data.h5.h5_file import H5File
from fuxictr_me.errors import RunError

FEATURES = {
    "tiny": categorical(200),
    "small": categorical(3000),
    "large": categorical(200_000),
    "clicks": sequence(3000, 4),
    "price": {"source": "", "type": "numeric"},
}
ROWS = {"train": 2500, "valid": 2500, "test": 300}
WAYS = [{"data_placement": "memory"}, {"data_placement": "stream", "window_rows": 700}, {"data_placement": "stream"}]


def write_damageable_set(folder, seed=0, block_rows=0):
    """Write a set of three splits with the feature map, vocabularies and manifest of a build."""
    feature_map = make_feature_map(FEATURES)
    content = {
        "dataset_id": folder.name,
        "num_fields": len(FEATURES),
        "total_features": 206_200,
        "input_length": 8,
        "labels": ["label"],
        "features": [{name: dict(spec)} for name, spec in FEATURES.items()],
    }
    vocabulary = folder.parent / "feature_vocab.json"
    vocabulary.write_text(json.dumps({"tiny": {str(i): i for i in range(200)}}))
    columns = {split: random_columns(feature_map, rows, seed + i) for i, (split, rows) in enumerate(ROWS.items())}
    made_from = {"converted": {"from": "x"}}
    write_set(folder, content, ROWS, lambda split: [columns[split]], made_from, [vocabulary], block_rows)
    return columns


@contextlib.contextmanager
def time_limit(seconds):
    """Fail if the body takes longer."""

    def late(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- damages: (random, folder) -> None -------------------------------------------------------------------


def any_file(rng, folder):
    return rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))


def rows_file(rng, folder):
    return rng.choice(sorted(folder.rglob("*.h5")))


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


def zero_a_block(rng, folder):
    path = any_file(rng, folder)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        at = rng.randrange(size) // 512 * 512
        file.seek(at)
        file.write(bytes(min(4096, size - at)))


def overwrite_with_noise(rng, folder):
    path = any_file(rng, folder)
    with open(path, "r+b") as file:
        file.seek(rng.randrange(path.stat().st_size))
        file.write(rng.randbytes(rng.randrange(1, 300)))


def truncate(rng, folder):
    path = any_file(rng, folder)
    os.truncate(path, rng.randrange(path.stat().st_size))


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


def change_an_attribute(rng, folder):
    with h5py.File(rows_file(rng, folder), "r+") as file:
        name = rng.choice(["fuxictr_me", "layout", "rows"])
        value = rng.choice([0, 1, 99, -1, 2**40, "", "{", "[]", '{"tiny": ["int16", 0]}', [1, 2], 0.5])
        if rng.random() < 0.3:
            del file.attrs[name]
        else:
            file.attrs[name] = value


def delete_or_change_a_dataset(rng, folder):
    with h5py.File(rows_file(rng, folder), "r+") as file:
        name = rng.choice(list(file))
        how, values = rng.randrange(5), file[name][:]
        if how == 0:
            values[rng.randrange(len(values)), 0] += 1
            file[name][...] = values
            return
        del file[name]
        if how == 1:
            file[name] = values[: len(values) // 2]
        elif how == 2:
            file[name] = values.astype(np.float64)
        elif how == 3:
            file[name] = h5py.SoftLink("/label")


def swap_files(rng, folder):
    a, b = rng.sample(sorted(folder.rglob("*.h5")), 2)
    between = folder / "between"
    a.rename(between)
    b.rename(a)
    between.rename(b)


def delete_a_file(rng, folder):
    any_file(rng, folder).unlink()


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


# --- reading damaged sets -----------------------------------------------------------------------------------


def batches(folder, way, in_blocks=False):
    """Return all rows of all splits as a loader yields them, in the order of the files."""
    feature_map = feature_maps.load(folder)
    fed = {}
    for split in ROWS:
        path = folder / (split if in_blocks else f"{split}.h5")
        parts = list(H5DataLoader(feature_map, path, split=split, batch_size=997, **way))
        fed[split] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return fed


def are_equal(a, b):
    return all(list(a[s]) == list(b[s]) and all(torch.equal(a[s][n], b[s][n]) for n in b[s]) for s in b)


def read_or_explain(folder, way, right, in_blocks=False):
    """Return ``right`` for the correct batches, or the one-line error; fail for anything else."""
    try:
        with time_limit(20):
            fed = batches(folder, way, in_blocks)
    except (UsageError, RunError) as error:
        assert "\n" not in str(error) and str(folder) in str(error), str(error)
        return str(error)
    assert are_equal(fed, right)
    return "right"


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


def copy_and_damage(folder, work, rng, damage):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder, work)
    damage(rng, work)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_set_gives_correct_batches_or_a_one_line_error(sets, tmp_path, damage, capsys, caplog):
    """Try 1,008 damages; every eighth also with ``data info`` and ``data verify``."""
    root, found = sets
    caplog.set_level(logging.ERROR)
    (tmp_path / "other").symlink_to(root / "other")
    rng, outcomes = random.Random(damage.__name__), []
    for turn in range(63):
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
    assert sum(text != "right" for text in outcomes) > 20, outcomes  # most damages hit something that is read


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


# --- sets without checksums per block ------------------------------------------------------------------------


def rewrite_as_format_1(folder):
    """Turn a data set into one of format 1, which has one checksum per matrix."""
    for path in folder.glob("*.h5"):
        rewrite_as_format_1_file(path)
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("made_by", "made_from", "splits")}
    for split in kept["splits"].values():
        for entry in split["files"].values():
            del entry["trailer"]
    (folder / "manifest.json").write_text(json.dumps({"format": 1, **kept}))


@pytest.mark.parametrize("way", WAYS, ids=["memory", "small windows", "one window"])
def test_a_set_of_format_1_loads_with_a_warning_and_is_checked(tmp_path, way, caplog):
    columns = write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "train.h5", feature_maps.load(tmp_path / "one")
    fed = list(H5DataLoader(feature_map, path, batch_size=100, **way))
    assert torch.cat([batch["large"] for batch in fed]).tolist() == columns["train"]["large"].tolist()
    assert caplog.text.count("train.h5 is not protected") == 1
    assert "`fuxictr-me data convert OLD NEW` writes a protected copy" in caplog.text
    content = bytearray(path.read_bytes())
    content[-5000:-904] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"train.h5 is damaged: .* differ from what was built"):
        H5DataLoader(feature_map, path, batch_size=100, **way)


def test_converting_a_set_of_format_1_adds_checksums_of_blocks(tmp_path, caplog):
    columns = write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    assert main(["data", "convert", str(tmp_path / "one"), str(tmp_path / "new")]) == 0
    caplog.clear()
    feature_map = feature_maps.load(tmp_path / "new")
    fed = list(H5DataLoader(feature_map, tmp_path / "new/train.h5", batch_size=100))
    assert "not protected" not in caplog.text
    assert torch.cat([batch["clicks"] for batch in fed]).tolist() == columns["train"]["clicks"].tolist()


def test_a_damaged_set_of_format_1_gives_an_error_that_names_it(tmp_path, caplog, monkeypatch):
    """Errors of HDF5 and of the layout become one line, and damaged rows are refused."""
    monkeypatch.setattr("fuxictr_me.data.h5.split_rows.rehearse_parsing", lambda paths: None)  # half a second each
    write_damageable_set(tmp_path / "one")
    rewrite_as_format_1(tmp_path / "one")
    caplog.set_level(logging.ERROR)
    right = batches(tmp_path / "one", WAYS[0])
    rng, outcomes = random.Random(3), []
    kinds = [change_an_attribute, delete_or_change_a_dataset, truncate, zero_a_block, swap_files, delete_a_file]
    for turn in range(90):
        copy_and_damage(tmp_path / "one", tmp_path / "work" / "one", rng, kinds[turn % len(kinds)])
        if (tmp_path / "work/one/manifest.json").exists():
            outcomes.append(read_or_explain(tmp_path / "work" / "one", WAYS[turn % 3], right))
    assert sum(text != "right" for text in outcomes) > 50


def write_fuxictr_h5(folder, change):
    """Write an H5 file as FuxiCTR 2.0 does, and change it with ``change``."""
    folder.mkdir()
    columns = random_columns(make_feature_map(FEATURES), 50)
    with h5py.File(folder / "train.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
        change(file, columns)


def external_link(file, columns):
    del file["tiny"]
    file["tiny"] = h5py.ExternalLink("/etc/passwd", "/tiny")


def soft_link(file, columns):
    del file["tiny"]
    file["tiny"] = h5py.SoftLink("/small")


def external_storage(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file, columns):
    del file["tiny"]
    layout = h5py.VirtualLayout((50,), "i8")
    layout[:] = h5py.VirtualSource("other.h5", "tiny", (50,))
    file.create_virtual_dataset("tiny", layout)


def never_written(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8")


def a_chunk_missing(file, columns):
    del file["tiny"]
    file.create_dataset("tiny", (50,), "i8", chunks=(10,))[:30] = 1


def texts(file, columns):
    del file["tiny"]
    file["tiny"] = ["a"] * 50


def a_group(file, columns):
    del file["tiny"]
    file.create_group("tiny")


def another_width(file, columns):
    del file["clicks"]
    file["clicks"] = np.zeros((50, 3), int)


def a_scalar(file, columns):
    del file["tiny"]
    file["tiny"] = 3


OLD = [
    (external_link, "'tiny' is a link to another place"),
    (soft_link, "'tiny' is a link to another place"),
    (external_storage, "the rows of 'tiny' lie in other files"),
    (virtual_dataset, "the rows of 'tiny' lie in other files"),
    (never_written, r"rows of 'tiny', of shape \(50,\), are missing"),
    (a_chunk_missing, r"rows of 'tiny', of shape \(50,\), are missing"),
    (texts, "'tiny' holds object of shape"),
    (a_group, "'tiny' is not a dataset"),
    (another_width, r"column 'clicks' has shape \(50, 3\), expected \('rows', 4\)"),
    (a_scalar, r"'tiny' holds int64 of shape \(\)"),
]


@pytest.mark.parametrize(("change", "message"), OLD, ids=[change.__name__ for change, _ in OLD])
def test_unusual_hdf5_files_are_refused(tmp_path, change, message):
    write_fuxictr_h5(tmp_path / "old", change)
    with pytest.raises(UsageError, match=rf"old/train.h5: {message}"):
        H5DataLoader(make_feature_map(FEATURES), tmp_path / "old/train.h5")


def test_h5_files_of_fuxictr_load_with_a_warning(tmp_path, caplog):
    write_fuxictr_h5(tmp_path / "old", lambda file, columns: None)
    assert len(list(H5DataLoader(make_feature_map(FEATURES), tmp_path / "old/train.h5", batch_size=25))) == 2
    assert "train.h5 is not protected" in caplog.text and "damage to it cannot be noticed" in caplog.text


def test_an_error_names_a_file_on_which_hdf5_hangs_or_crashes(tmp_path, monkeypatch):
    write_fuxictr_h5(tmp_path / "old", lambda file, columns: None)
    path, feature_map = tmp_path / "old/train.h5", make_feature_map(FEATURES)
    parse = untrusted_hdf5.PARSE
    for bad in ("import os; os.kill(os.getpid(), 11)", "import time; time.sleep(60)"):
        monkeypatch.setattr("fuxictr_me.data.h5.untrusted_hdf5.PARSE", parse.replace("list(file.attrs.items())", bad))
        monkeypatch.setattr("fuxictr_me.data.h5.untrusted_hdf5.SECONDS", 8)
        with time_limit(50), pytest.raises(UsageError, match=r"old/train\.h5 is damaged: HDF5 hangs or crashes on it"):
            H5DataLoader(feature_map, path)


# --- the seed of the order -----------------------------------------------------------------------------------


def test_the_order_follows_torchs_seed_by_default(tmp_path):
    write_damageable_set(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "train.h5", feature_maps.load(tmp_path / "one")

    def order(way, torch_seed, **seed):
        torch.manual_seed(torch_seed)
        loader = H5DataLoader(feature_map, path, batch_size=500, shuffle=True, **seed, **way)
        torch.rand(3)  # what is drawn meanwhile does not count
        return torch.cat([batch["large"] for batch in loader]).tolist()

    for way in WAYS:
        assert order(way, 1) == order(way, 1) != order(way, 2)
        assert order(way, 1, seed=5) == order(way, 2, seed=5) != order(way, 1)
    for wrong in (-1, 1.5, "1", True):
        with pytest.raises(UsageError, match="seed must be an integer of 0 or more"):
            H5DataLoader(feature_map, path, seed=wrong)
