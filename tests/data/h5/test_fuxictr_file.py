"""H5 files that FuxiCTR 1.x to 2.1 wrote."""

import h5py
import numpy as np
import pytest
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.h5_sets import damage, random_columns, read_epoch

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader


def test_h5_files_of_fuxictr_2_0_to_2_1_are_read(feature_map, tmp_path):
    parts = [random_columns(feature_map, 100 + i, seed=i) for i in range(2)]
    for i, columns in enumerate(parts):
        (tmp_path / "train").mkdir(exist_ok=True)
        with h5py.File(tmp_path / f"train/part_{i}.h5", "w") as file:
            for name, values in columns.items():
                dtype = {"clicks": np.int32, "label": np.float64, "price": np.float64}.get(name, np.int64)
                file[name] = values.astype(dtype)
    for placement in ("memory", "stream"):
        rows = read_epoch(
            H5DataLoader(feature_map, tmp_path / "train", batch_size=64, data_placement=placement, window_rows=60)
        )
        for name, values in rows.items():
            expected = np.concatenate([columns[name] for columns in parts])
            np.testing.assert_array_equal(values.numpy(), expected.astype(values.numpy().dtype), err_msg=name)
    damage(tmp_path / "train/part_1.h5", lambda file: file.pop("price"))
    with pytest.raises(UsageError, match=r"part_1.h5.* 'price'"):
        H5DataLoader(feature_map, tmp_path / "train")
    damage(tmp_path / "train/part_1.h5", lambda file: file.create_dataset("price", data=np.zeros(5)))
    with pytest.raises(UsageError, match="columns of unequal length: 'price' 5, 'tiny' 101 rows"):
        H5DataLoader(feature_map, tmp_path / "train")


def test_h5_files_of_fuxictr_1_are_read(tmp_path):
    feature_map = make_feature_map({"user": categorical(300), "clicks": sequence(50, 3), "item": categorical(70_000)})
    columns = random_columns(feature_map, 200)
    ordered = [columns[name].reshape(200, -1) for name in ("user", "clicks", "item", "label")]
    for part, (start, stop) in enumerate(((0, 120), (120, 200))):
        with h5py.File(tmp_path / f"train_part_{part}.h5", "w") as file:
            file["data"] = np.hstack(ordered)[start:stop].astype(np.float64)
    rows = read_epoch(H5DataLoader(feature_map, tmp_path / "train.h5", batch_size=64))
    for name, values in rows.items():
        np.testing.assert_array_equal(values.numpy(), columns[name].astype(values.numpy().dtype), err_msg=name)
    narrow = make_feature_map({"user": categorical(300)})
    with pytest.raises(UsageError, match=r"'data' has shape \(120, 6\), .* are 2 wide"):
        H5DataLoader(narrow, tmp_path / "train.h5")
