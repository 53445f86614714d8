"""Labels of raw files and of built ids."""

import numpy as np
import polars as pl
import pytest
from helpers.feature_maps import categorical, make_feature_map
from helpers.raw_builds import FORMS, build

from fuxictr_me import UsageError
from fuxictr_me.data import InMemoryLoader
from fuxictr_me.data.npz_files import check_npz


@FORMS
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "", "1", "", "0"], "label 'click' is empty in 2 of 5 rows (the first: row 2)"),
        (["0", "1", "1", "nan", "0"], "label 'click' is not a number in 1 of 5 rows (the first: row 4, 'nan')"),
        (["0", "1", "yes", "no", "0"], "label 'click' is not a number in 2 of 5 rows (the first: row 3, 'yes')"),
        (["0", "1", "inf", "1", "0"], "label 'click' is infinite in 32 bits in 1 of 5 rows (the first: row 3, 'inf')"),
        (["0", "0.25", "1", "1", "2"], "label 'click' is neither 0 nor 1 (task: binary_classification) in 2 of 5 rows"),
    ],
)
def test_labels_that_would_train_as_other_values_are_refused(tmp_path, labels, message, form):
    raw = "user,click\n" + "".join(f"u{i},{label}\n" for i, label in enumerate(labels))
    with pytest.raises(UsageError) as caught:
        build(tmp_path, raw, form=form)
    assert str(caught.value).startswith(f"{tmp_path}/raw.csv: ") and message in str(caught.value)
    assert not (tmp_path / f"made_{form}" / "feature_map.json").exists()
    if labels[1] in ("", "0.25", "1"):
        numbers = [None if not label or label in ("yes", "no") else float(label) for label in labels]
        with pytest.raises(UsageError, match=r"raw.parquet: label 'click' is "):
            build(tmp_path, pl.DataFrame({"user": list("abcde"), "click": numbers}), form=form)


@FORMS
def test_a_bad_label_of_the_last_split_is_refused(tmp_path, form):
    (tmp_path / "bad.csv").write_text("user,click\na,1\nb,\n")
    with pytest.raises(UsageError, match=r"bad.csv: label 'click' is empty in 1 of 2 rows \(the first: row 2\)"):
        build(tmp_path, "user,click\na,1\nb,0\n", form=form, test_data=str(tmp_path / "bad.csv"))


@FORMS
def test_booleans_and_numbers_as_text_are_labels(tmp_path, form):
    expected = [1.0, 0.0, 1.0]
    assert build(tmp_path, "user,click\na,true\nb,False\nc, 1\n", form=form)["click"] == expected
    frame = pl.DataFrame({"user": ["a", "b", "c"], "click": [True, False, True]})
    for values in (frame["click"], frame["click"].cast(pl.Int8), pl.Series(["1", "0.0", "TRUE"])):
        assert build(tmp_path, frame.with_columns(click=values), form=form)["click"] == expected


@FORMS
def test_regression_accepts_any_finite_label(tmp_path, form):
    raw = "user,click\na,0.25\nb,-3\nc,1e3\n"
    assert build(tmp_path, raw, form=form, task="regression")["click"] == [0.25, -3.0, 1000.0]
    with pytest.raises(UsageError, match=r"is not a whole number \(dtype: int\) in 1 of 3 rows"):
        build(tmp_path, raw, form=form, task="regression", label={"name": "click", "dtype": "int"})
    with pytest.raises(UsageError, match="is empty in 1 of 2 rows"):
        build(tmp_path, "user,click\na,0.25\nb,\n", form=form, task="regression")


def test_labels_of_built_ids_are_checked(tmp_path):
    feature_map = make_feature_map({"user": categorical(5)})
    pl.DataFrame({"user": [1, 2, 3], "label": [0.0, 0.25, 1.0]}).write_parquet(tmp_path / "train.parquet")
    np.savez(tmp_path / "train.npz", user=[1, 2, 3], label=[0.0, 0.25, 1.0])
    message = r"label 'label' must be 0 or 1 for binary_classification, found 0.25 in 1 rows"
    with pytest.raises(UsageError, match=message):
        InMemoryLoader(feature_map, tmp_path / "train.parquet", task="binary_classification")
    assert InMemoryLoader(feature_map, tmp_path / "train.parquet", task="regression").num_samples == 3
    for path in (tmp_path / "train.npz", tmp_path / "train"):
        with pytest.raises(UsageError, match=message):
            check_npz(path, feature_map, "binary_classification")
    check_npz(tmp_path / "train.npz", feature_map, "regression")
    whole = (tmp_path / "train.npz").read_bytes()
    for cut in (whole[: len(whole) // 2], b"", whole.replace(b"\x02", b"\x03")):  # zip files hold a CRC of each array
        (tmp_path / "train.npz").write_bytes(cut)
        with pytest.raises(UsageError, match=r"train\.npz is not a valid npz file"):
            check_npz(tmp_path / "train", feature_map, "regression")
    np.savez(tmp_path / "train.npz", user=[1, 2, 300], label=[0.0, 1.0, 1.0])
    with pytest.raises(UsageError, match="field 'user' has ids from 1 to 300, but its vocabulary holds 0 to 4"):
        check_npz(tmp_path / "train", feature_map, "binary_classification")
