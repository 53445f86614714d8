"""H5 files: writing, reading, and errors."""

import os

import h5py
import numpy as np
import pytest
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.h5_sets import FEATURES, damage, random_columns, read_epoch, rewrite_as_format_1_file
from helpers.raw_files import write_raw

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader, build_h5
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_file import H5File, checksums
from fuxictr_me.data.h5.h5_writer import H5Writer


def test_each_field_has_the_smallest_dtype_that_holds_it(feature_map):
    layout = Layout.from_feature_map(feature_map)
    assert {name: place.matrix for name, place in layout.places.items()} == {
        "tiny": "uint8",
        "small": "int16",
        "large": "int32",
        "clicks": "int16",
        "price": "float32",
        "group": "meta",
        "label": "float32",
    }
    assert layout.row_bytes == 1 + (1 + 4) * 2 + 4 + 2 * 4 + 8
    for size, dtype in ((256, "uint8"), (257, "int16"), (2**15, "int16"), (2**15 + 1, "int32"), (2**31 + 1, "int64")):
        assert Layout.from_feature_map(make_feature_map({"f": categorical(size)})).places["f"].matrix == dtype
    assert Layout.from_json(layout.to_json()).places == layout.places


def test_rows_are_read_as_they_were_written(feature_map, columns, tmp_path):
    file = H5File(tmp_path / "train.h5")
    assert file.rows == 1000 and file.layout.places == Layout.from_feature_map(feature_map).places
    for start, stop in ((0, 1000), (0, 0), (3, 4), (69, 141), (999, 1000)):
        for name, values in file.layout.split_columns(file.read(start, stop)).items():
            expected = columns[name][start:stop]
            np.testing.assert_array_equal(values, expected.astype(values.dtype), err_msg=name)
    with h5py.File(tmp_path / "train.h5") as plain:  # h5py alone reads the same
        np.testing.assert_array_equal(plain["int32"][:, 0], columns["large"])


def test_checksums_are_those_of_the_bytes_in_the_file(feature_map, columns, tmp_path):
    writer = H5Writer(tmp_path / "again.h5", Layout.from_feature_map(feature_map), 1000)
    writer.write(Layout.from_feature_map(feature_map).gather(columns, 1000))
    writer.close()
    assert checksums(H5File(tmp_path / "train.h5")) == writer.manifest_entry()["checksums"]
    rewrite_as_format_1_file(tmp_path / "train.h5")
    with h5py.File(tmp_path / "train.h5", "r+") as file:
        file["uint8"][500, 0] ^= 1
    changed = checksums(H5File(tmp_path / "train.h5"))
    assert {name for name in changed if changed[name] != writer.manifest_entry()["checksums"][name]} == {"uint8"}


def rewrite(feature_map, path, **changed):
    """Write the split again with changed columns, without the checks of ``Layout.gather``."""
    columns = random_columns(feature_map, 1000) | changed
    layout = Layout.from_feature_map(feature_map)
    matrices = layout.allocate(1000)
    for name, place in layout.places.items():
        part = matrices[place.matrix][:, place.start : place.stop]
        part[...] = np.asarray(columns[name]).reshape(1000, -1)
    path.unlink()
    writer = H5Writer(path, layout, 1000)
    writer.write(matrices)
    writer.close()


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_rows_with_wrong_values_are_refused(feature_map, columns, tmp_path, placement):
    path = tmp_path / "train.h5"

    def message(**changed):
        rewrite(feature_map, path, **changed)
        with pytest.raises(UsageError) as caught:
            list(H5DataLoader(feature_map, path, batch_size=64, data_placement=placement, window_rows=150))
        return str(caught.value)

    late = np.zeros(1000, int)
    late[990] = 3000
    assert "field 'small' has ids from 0 to 3000, but its vocabulary holds 0 to 2999" in message(small=late)
    late[990] = -1
    assert "field 'large' has ids from -1 to 0, but its vocabulary holds 0 to 199999" in message(large=late)
    prices = np.zeros(1000)
    prices[3] = np.nan
    assert "column 'price' has 1 values that are NaN or infinite" in message(price=prices)
    prices[3] = np.inf
    assert "column 'price' has 1 values that are NaN or infinite" in message(price=prices)
    labels = np.zeros(1000)
    labels[7:9] = 2
    assert "label 'label' must be 0 or 1 for binary_classification, found 2 in 2 rows" in message(label=labels)
    rewrite(feature_map, path, label=labels)
    assert len(read_epoch(H5DataLoader(feature_map, path, batch_size=64, task="regression"))["label"]) == 1000


def test_errors_name_damaged_files(feature_map, columns, tmp_path):
    path = tmp_path / "train.h5"
    content = path.read_bytes()

    def message(**more):
        with pytest.raises(UsageError) as caught:
            H5DataLoader(feature_map, path, **more)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path.write_bytes(content[: len(content) // 2])
    assert "train.h5 is not a valid H5 file" in message() or "is truncated" in message()
    path.write_bytes(b"")
    assert "is not a valid H5 file" in message()
    path.write_bytes(b"label,user\n0,1\n" * 100)
    assert "is not a valid H5 file" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.pop("int16"))
    assert "train.h5 is damaged: the checksums at its end are gone" in message()
    path.write_bytes(content)
    rewrite_as_format_1_file(path)
    content = path.read_bytes()
    damage(path, lambda file: file.pop("int16"))
    assert "dataset 'int16' is missing" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.attrs.modify("fuxictr_me", 99))
    assert "is of format 99; this version reads 1 and 2" in message()
    path.write_bytes(content)
    damage(path, lambda file: file.attrs.modify("rows", 2000))
    assert "expected (2000, 1)" in message()
    other = make_feature_map({**FEATURES, "smal": categorical(9)})
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"unknown column .* 'smal'; did you mean 'small'"):
        H5DataLoader(other, path)
    longer = make_feature_map({"clicks": sequence(3000, 9)})
    with pytest.raises(UsageError, match="column 'clicks' is 4 wide, the feature map says 9"):
        H5DataLoader(longer, path)
    assert "batch_size must be an integer of 1 or more, got 0" in message(batch_size=0)
    assert "unknown data_placement 'gpu'" in message(data_placement="gpu")
    assert "window_rows must be an integer of 1 or more, got 0" in message(window_rows=0)
    assert "needs a GPU, and gpu is -1" in message(data_placement="device")


def test_a_file_that_shrinks_while_it_is_read_is_refused(feature_map, columns, tmp_path):
    loader = H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=50, data_placement="stream", window_rows=100)
    os.truncate(tmp_path / "train.h5", 3000)
    with pytest.raises(UsageError, match="has become shorter while it was read"):
        list(loader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_one_line_error(feature_map, columns, tmp_path):
    (tmp_path / "train.h5").chmod(0)
    with pytest.raises(UsageError, match="may not be read: permission denied"):
        H5DataLoader(feature_map, tmp_path / "train.h5")


def test_an_empty_split_is_refused(feature_map, tmp_path):
    H5Writer(tmp_path / "valid.h5", Layout.from_feature_map(feature_map), 0).close()
    with pytest.raises(UsageError, match="the valid split holds no rows"):
        H5DataLoader(feature_map, tmp_path / "valid.h5", split="valid")
    params = {**write_raw(tmp_path), "data_format": "h5"}
    (tmp_path / "valid.csv").write_text((tmp_path / "valid.csv").read_text().splitlines()[0] + "\n")
    with pytest.raises(UsageError, match="the valid split holds no rows"):
        build_h5(params)
    assert list((tmp_path / "ours/made").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"small": np.zeros(999, int)}, "column 'small' has shape (999,), expected (1000,)"),
        ({"clicks": np.zeros((1000, 3), int)}, "column 'clicks' has shape (1000, 3), expected (1000, 4)"),
        ({"small": np.array(["a"] * 1000)}, "column 'small' holds <U1, not numbers"),
        ({"tiny": np.full(1000, 300)}, "column 'tiny' has ids from 300 to 300, past its vocabulary"),
        ({"tiny": np.full(1000, 0.5)}, "column 'tiny' holds ids that are not whole numbers"),
        ({"tiny": np.full(1000, np.nan)}, "column 'tiny' holds ids that are not whole numbers"),
    ],
)
def test_columns_that_do_not_fit_the_layout_are_refused(feature_map, changed, message):
    with pytest.raises(UsageError) as caught:
        Layout.from_feature_map(feature_map).gather(random_columns(feature_map, 1000) | changed, 1000)
    assert message in str(caught.value)


def test_a_writer_counts_its_rows(feature_map, tmp_path):
    layout = Layout.from_feature_map(feature_map)
    matrices = layout.gather(random_columns(feature_map, 10), 10)
    writer = H5Writer(tmp_path / "a.h5", layout, 15)
    writer.write(matrices)
    with pytest.raises(UsageError, match="more than the 15 rows that were counted"):
        writer.write(matrices)
    with pytest.raises(UsageError, match="10 rows, 15 were counted before"):
        writer.close()
