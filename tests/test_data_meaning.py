"""Raw files mean what their user means: alike as csv and parquet, and what would train as another value is refused."""

import csv
import io
import json
from collections import Counter

import h5py
import numpy as np
import polars as pl
import pytest
import yaml
from conftest import categorical, make_feature_map
from fuxictr.preprocess.tokenizer import Tokenizer
from samples import write_sample

from fuxictr_me import MultiEmbedding, UsageError
from fuxictr_me.config.pretrained import check_keys, read_pretrained
from fuxictr_me.data import H5DataLoader, InMemoryLoader, build_dataset, build_h5, feature_maps
from fuxictr_me.data.encode import pad
from fuxictr_me.data.group_column import check_group_column
from fuxictr_me.data.npz_files import check_npz
from fuxictr_me.data.vocabulary_file import write_vocabularies
from fuxictr_me.data.whole_rows import BLOCK, check_whole_rows
from fuxictr_me.resources import bundled

USER = {"name": "user", "active": True, "dtype": "str", "type": "categorical"}
PRICE = {"name": "price", "active": True, "dtype": "float", "type": "numeric"}
CLICKS = {"name": "clicks", "active": True, "dtype": "str", "type": "sequence", "max_len": 3}
LABEL = {"name": "click", "dtype": "float"}
SPLITS = ("train", "valid", "test")


def build(folder, raw, columns=(USER,), form="h5", label=LABEL, **settings):
    """Build raw rows, csv as text or parquet as a frame, as all three splits; the ids of test: field -> list."""
    kind = "csv" if isinstance(raw, str | bytes) else "parquet"
    if kind == "csv":
        (folder / "raw.csv").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    else:
        raw.write_parquet(folder / "raw.parquet")
    params = {"dataset_id": f"made_{form}", "data_root": str(folder), "task": "binary_classification"}
    params |= {"feature_cols": list(columns), "label_col": label, "min_categr_count": 1, **settings}
    params |= {f"{split}_data": params.get(f"{split}_data", str(folder / f"raw.{kind}")) for split in SPLITS}
    ids = (build_h5 if form == "h5" else build_dataset)({**params, "data_format": "h5" if form == "h5" else kind})
    feature_map = feature_maps.load(folder / params["dataset_id"])
    loader = H5DataLoader if form == "h5" else InMemoryLoader
    batch = next(iter(loader(feature_map, ids["test_data"], "test", batch_size=10**6, task=None)))
    return {name: values.tolist() for name, values in batch.items()}


def vocabulary(folder, form="h5"):
    return json.loads((folder / f"made_{form}" / "feature_vocab.json").read_text())


def tokens(folder, ids, field, form="h5"):
    """What the ids of a field stand for."""
    names = {identity: token for token, identity in vocabulary(folder, form)[field].items()}
    return [[names[i] for i in row] if isinstance(row, list) else names[row] for row in ids[field]]


FORMS = pytest.mark.parametrize("form", ["h5", "ids"])

# --- labels ------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "", "1", "", "0"], "label 'click' is empty in 2 of 5 rows (the first: row 2)"),
        (["0", "1", "1", "nan", "0"], "label 'click' is no number in 1 of 5 rows (the first: row 4, 'nan')"),
        (["0", "1", "yes", "no", "0"], "label 'click' is no number in 2 of 5 rows (the first: row 3, 'yes')"),
        (["0", "1", "inf", "1", "0"], "label 'click' is infinite in 32 bits in 1 of 5 rows (the first: row 3, 'inf')"),
        (["0", "0.25", "1", "1", "2"], "label 'click' is neither 0 nor 1 (task: binary_classification) in 2 of 5 rows"),
    ],
)
def test_labels_that_would_train_as_another_are_refused(tmp_path, labels, message, form):
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
def test_a_bad_label_of_the_last_split_is_found(tmp_path, form):
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
def test_regression_takes_any_finite_number(tmp_path, form):
    raw = "user,click\na,0.25\nb,-3\nc,1e3\n"
    assert build(tmp_path, raw, form=form, task="regression")["click"] == [0.25, -3.0, 1000.0]
    with pytest.raises(UsageError, match=r"is no whole number \(dtype: int\) in 1 of 3 rows"):
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
        with pytest.raises(UsageError, match=r"train\.npz is not a whole npz file"):
            check_npz(tmp_path / "train", feature_map, "regression")
    np.savez(tmp_path / "train.npz", user=[1, 2, 300], label=[0.0, 1.0, 1.0])
    with pytest.raises(UsageError, match="column 'user' has ids from 1 to 300, past"):
        check_npz(tmp_path / "train", feature_map, "binary_classification")


# --- rows of csv -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "user,price,click\na,1,0\nb,2\nc,3,1\nd\n",
            "2 rows do not have the 3 fields of the header; the first is row 2",
        ),
        ("user,price,click\na,1,0\nb,2,1\nc,3", "1 row does not have the 3 fields"),  # cut in its last row
        ("click,user,price\n0,a,1\n1,b\n", "the first is row 2 with 2"),  # the label is there, a feature is not
        ("user,price,click\na,1,0\nb,2,1,9\n", "the first is row 2 with 4"),
        ("user,price,click\na,1,0\nb,2,1,9\nc,3\n", "2 rows do not have"),  # in sum as many fields as there should be
        ("user,price,click\na,1,0\n\nb,2,1\n", "the first is row 2 with 0"),
        ('user,price,click\n"a,b",1,0\n"c,d",2\n', "the first is row 2 with 2"),
        ('user,price,click\n5" tv,1,0\n6 tv,2,1\n', "rows, separators and quotes do not fit a header of 3 fields"),
        ("user,price,click\na\0,1,0\n", "holds NUL bytes"),
        ("user,price,click\ra,1,0\rb,2,1\r", "is not csv with a line for each row"),
        ("user,user,price,click\na,b,1,0\n", "the header names 'user' more than once"),
        ("", "is empty"),
        ("user, price,click\na,1,0\n", "unknown column .* 'price'; did you mean ' price'"),
        ("user,price,click\n", "the train split holds no rows"),
        (
            "user,price,click\na,1,0\nb,cheap,1\n",
            r"column 'price' cannot be read as dtype: float: 1 of 2 rows \(the fir",
        ),
        (
            "user,price,click\na,inf,0\nb,nan,1\n",
            r"'price' of type numeric must hold numbers that are finite in 32 bits; not so in 2 of 2 rows",
        ),
        ("user,price,click\n__OOV__,1,0\n", "the value '__OOV__', which FuxiCTR keeps for itself"),
        ("user,price,click\n,1,0\n,2,1\n", "field 'user' of 'made_h5' has no value"),
        ("user,price,click\né,1,0\n".encode("latin-1"), "raw.csv"),
        ("user,price,click\né,1,0\n".encode("utf-16"), "raw.csv is not UTF-8 text"),
    ],
)
def test_files_that_are_not_whole_are_refused(tmp_path, raw, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(tmp_path, raw, [USER, PRICE])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gap", [b"b,1\n", b"b,1,2,3\n", b'"b,1,2\n', b"\n"])
def test_one_bad_row_among_many(tmp_path, gap):
    """In files of several blocks, at the end of one and inside; a plain csv reader says which are whole."""
    rows = [b"a%d,%d,0\n" % (i, i) for i in range(400_000)]
    file = tmp_path / "a.csv"
    file.write_bytes(b"x,y,z\n" + b"".join(rows))
    assert file.stat().st_size > 80 * BLOCK
    check_whole_rows(file, ",", 3)
    for place in (3, 399_999):
        file.write_bytes(b"x,y,z\n" + b"".join([*rows[:place], gap, *rows[place:]]))
        with pytest.raises(UsageError):
            check_whole_rows(file, ",", 3)


@FORMS
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n\n\n\n", "\n\r\n"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path, end, form):
    raw = "user,click\na,0\nb,1\na,1"
    whole, blank = (tmp_path / name for name in ("whole", "blank"))
    whole.mkdir(), blank.mkdir()
    expected = build(whole, raw, form=form)
    assert expected == build(blank, raw + end, form=form)
    assert build(blank, raw + end, form=form, n_rows=2, dataset_id="two")["click"] == [0, 1]
    middle = raw.replace("b,1", "\nb,1") + end
    with pytest.raises(UsageError, match="1 row does not have the 2 fields of the header; the first is row 2 with 0"):
        build(tmp_path, middle, form=form)


def test_blank_lines_at_the_end_of_large_files(tmp_path):
    """In files of several blocks, with a quoted blank line, and more blank lines than a block holds."""
    for row in (b"a,1,0\n", b'"a\n\n",1,0\n'):
        rows = 5 * (1 << 20) // len(row)
        for blank in (1, 2, 2 * BLOCK):
            (tmp_path / "a.csv").write_bytes(b"x,y,z\n" + row * rows + b"\n" * (blank - 1))
            assert check_whole_rows(tmp_path / "a.csv", ",", 3) == (rows if blank > 1 else None)
    (tmp_path / "a.csv").write_bytes(b"x,y,z\n" + row * rows + b"\n" * (2 * BLOCK) + row)
    with pytest.raises(UsageError, match=f"{2 * BLOCK} rows do not have .* the first is row {rows + 1} with 0"):
        check_whole_rows(tmp_path / "a.csv", ",", 3)


def test_rows_that_are_whole_pass(tmp_path):
    random, file = np.random.default_rng(0), tmp_path / "a.csv"
    values = ["a", "", "x,y", 'say "x"', "two\nlines", "é", "'", "#", " ", "\t"]
    for end in ("\n", "\r\n"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator=end)
        writer.writerow(["one", "two, three", "four"])
        rows = [[values[i] for i in random.integers(0, len(values), 3)] for _ in range(50)]
        writer.writerows(rows)
        for cut in (0, len(end)):  # with and without the last line's end
            file.write_text(text.getvalue()[: len(text.getvalue()) - cut], newline="")
            check_whole_rows(file, ",", 3)


@FORMS
def test_values_of_all_kinds_are_read_as_they_are(tmp_path, form):
    users = [
        "nan",
        "None",
        "NULL",
        "日本",
        "a,b",
        'say "x"',
        "007",
        "7",
        "-0",
        " a",
        "x" * 10_000,
        "true",
        "2024-01-01",
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([["extra", "user", "click"], *(["?", u, 1] for u in users)])
    ids = build(tmp_path, "\ufeff" + text.getvalue(), form=form)
    assert tokens(tmp_path, ids, "user", form) == users
    assert build(tmp_path, pl.DataFrame({"user": users, "click": [1] * len(users)}), form=form) == ids


# --- ids ---------------------------------------------------------------------------------------------


@FORMS
def test_a_value_has_one_id_in_all_fields_of_a_table(tmp_path, form):
    columns = [
        {"name": "item", "active": True, "dtype": "int", "type": "categorical"},
        CLICKS | {"share_embedding": "item", "padding": "pre"},
        {"name": "last", "active": True, "dtype": "int", "type": "categorical", "share_embedding": "item"},
    ]
    raw = "item,clicks,last,click\n35,7^35,9,0\n7,35,35,1\n-2,-2^9,7,0\n"
    ids = build(tmp_path, raw, columns, form)
    assert tokens(tmp_path, ids, "item", form) == ["35", "7", "-2"]
    assert tokens(tmp_path, {"clicks": [[i for i in row if i] for row in ids["clicks"]]}, "clicks", form) == [
        ["7", "35"],
        ["35"],
        ["-2", "9"],
    ]
    assert tokens(tmp_path, ids, "last", form) == ["9", "35", "7"]
    assert len(vocabulary(tmp_path, form)["item"]) == 4 + 2
    lists = {"item": [35, 7, -2], "clicks": [[7, 35], [35], [-2, 9]], "last": [9, 35, 7], "click": [0, 1, 0]}
    assert build(tmp_path, pl.DataFrame(lists), columns, form) == ids
    columns[0] = columns[0] | {"dtype": "float"}
    with pytest.raises(
        UsageError, match="share_embedding: 'item' holds numbers with a fraction and 'clicks' holds text"
    ):
        build(tmp_path, raw, columns, form)


@FORMS
@pytest.mark.parametrize("fill", ["", "none", None])
def test_quoted_empty_values_are_missing(tmp_path, fill, form):
    columns = [USER | {"fill_na": fill}, PRICE, CLICKS]
    plain = "user,price,clicks,click\na,1,x^y,0\n,,,1\nb,2,y,1\n,3,,0\n"
    expected = build(tmp_path, plain, columns, form)
    assert set(vocabulary(tmp_path, form)["user"]) == {"__PAD__", "__OOV__", "a", "b"}
    assert expected["price"] == [1.0, 0.0, 2.0, 3.0] and expected["clicks"][1] == [0, 0, 0]
    assert build(tmp_path, plain.replace(",,", ',"",').replace("\n,", '\n"",'), columns, form) == expected
    frame = {"user": ["a", "", "b", None], "price": [1.0, None, 2.0, 3.0], "clicks": ["x^y", None, "y", ""]}
    assert build(tmp_path, pl.DataFrame(frame | {"click": [0, 1, 1, 0]}), columns, form) == expected


@FORMS
def test_whole_numbers_stay_exact(tmp_path, form):
    big = 2**53
    column = {"name": "user", "active": True, "dtype": "int", "type": "categorical"}
    values = [big, big + 1, big + 2, -big - 1, 2**63 - 1, 5]
    raw = "user,click\n" + "".join(f"{value},1\n" for value in values)
    frame = pl.DataFrame({"user": values, "click": [1] * 6})
    for fill in (0, None):
        ids = build(tmp_path, raw, [column | {"fill_na": fill}], form)
        assert tokens(tmp_path, ids, "user", form) == [str(value) for value in values]
        assert build(tmp_path, frame, [column | {"fill_na": fill}], form) == ids
    with_gap = build(tmp_path, raw + ",0\n", [column | {"fill_na": None}], form)["user"]
    assert with_gap == [*ids["user"], vocabulary(tmp_path, form)["user"]["__OOV__"]]
    lists = pl.DataFrame({"clicks": [[big, big + 1], [big + 2]], "click": [0, 1]})
    ids = build(tmp_path, lists, [CLICKS | {"dtype": "int", "padding": "post"}], form)
    assert tokens(tmp_path, ids, "clicks", form) == [
        [str(big), str(big + 1), "__PAD__"],
        [str(big + 2)] + ["__PAD__"] * 2,
    ]
    for either in (raw, frame):
        with pytest.raises(UsageError, match=r"'user' of dtype: float cannot tell .* apart.* 5 of 6 rows"):
            build(tmp_path, either, [column | {"dtype": "float"}], form)


@FORMS
@pytest.mark.parametrize("odd", ["007", "x", "7.0", " 7"])
def test_an_id_in_a_sequence_is_written_as_in_the_column_whose_table_it_shares(tmp_path, form, odd):
    columns = [USER | {"dtype": "int"}, CLICKS | {"dtype": "int", "share_embedding": "user"}]
    for pair in (columns, [CLICKS | {"dtype": "int"}, USER | {"dtype": "int", "share_embedding": "clicks"}]):
        with pytest.raises(UsageError, match=rf"column 'clicks' of dtype: int holds '{odd}'"):
            build(tmp_path, f"user,clicks,click\n7,8^{odd},0\n8,7,1\n", pair, form)
    ids = build(tmp_path, "user,clicks,click\n7,8^-1^0,0\n8,7,1\n", columns, form)
    assert tokens(tmp_path, ids, "clicks", form)[0] == ["8", "-1", "0"]
    assert ids["user"][0] == ids["clicks"][1][0]


@FORMS
@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["30", "7", ""])])
def test_numbers_as_text_of_parquet_are_read_as_those_of_csv(tmp_path, dtype, form):
    columns = [USER | {"dtype": "int"}, {"name": "price", "active": True, "dtype": "float", "type": "numeric"}]
    values = pl.Series(["30", "7", "", "30"], dtype=dtype)
    frame = pl.DataFrame({"user": values, "price": values, "click": [0, 1, 1, 0]})
    ids = build(tmp_path, frame, columns, form)
    assert tokens(tmp_path, ids, "user", form) == ["30", "7", "0", "30"]
    assert ids["price"] == [30, 7, 0, 30]
    (tmp_path / "csv").mkdir()
    of_csv = build(tmp_path / "csv", "user,price,click\n30,30,0\n7,7,1\n,,1\n30,30,0\n", columns, form)
    assert of_csv == ids


@FORMS
def test_numbers_that_32_bits_cannot_hold_are_refused_before_the_build(tmp_path, form):
    with pytest.raises(UsageError, match=r"'price' .* finite in 32 bits; not so in 1 of 2 rows .*row 2, 1e\+39"):
        build(tmp_path, pl.DataFrame({"price": [1.0, 1e39], "click": [0, 1]}), [PRICE], form)
    with pytest.raises(UsageError, match=r"label 'click' is infinite in 32 bits in 1 of 2 rows"):
        build(tmp_path, pl.DataFrame({"user": ["a", "b"], "click": [1.0, 1e39]}), form=form, task="regression")


def test_parquet_values_that_the_dtype_would_change_are_refused(tmp_path):
    column = {"name": "user", "active": True, "dtype": "int", "type": "categorical"}
    for values, message in (
        ([1.0, 2.5], "column 'user' of dtype: int has 1 values that are not whole numbers"),
        (["7", "x"], r"column 'user' cannot be read as dtype: int: 1 of 2 rows \(the first: row 2, 'x'\)"),
        ([2**64 - 1, 1], "conversion from `u64` to `i64` failed"),
        ([[1], [2]], r"column 'user' of type categorical holds List\(Int64\).*type: sequence"),
        ([{"a": 1}, {"a": 2}], "column 'user' of type categorical holds Struct"),
    ):
        frame = pl.DataFrame({"user": values, "click": [0, 1]}, strict=False)
        with pytest.raises(UsageError, match=message):
            build(tmp_path, frame, [column])
    assert build(tmp_path, pl.DataFrame({"user": ["7", "8"], "click": [0, 1]}), [column])["user"] == [1, 2]


@FORMS
@pytest.mark.parametrize("splitter", ["^", ","])
def test_lists_of_parquet_are_the_sequences_of_csv(tmp_path, splitter, form):
    column = CLICKS | {"splitter": splitter, "padding": "pre", "fill_na": "none"}
    lists = [["3", "1"], ["1", "2", "3", "4"], [], None, ["2", None, "1"], ["4"]]
    joined = ["" if row is None else splitter.join(token or "" for token in row) for row in lists]
    raw = "clicks,click\n" + "".join(f'"{text}",1\n' for text in joined)
    expected = build(tmp_path, raw, [column], form)
    assert expected["clicks"][2] == expected["clicks"][3] == [0, 0, 0]
    numbers = pl.Series([row and [t and int(t) for t in row] for row in lists], dtype=pl.List(pl.Int32))
    for values in (pl.Series(lists), numbers, numbers.cast(pl.List(pl.UInt8))):
        assert build(tmp_path, pl.DataFrame({"clicks": values, "click": [1] * 6}), [column], form) == expected
    fixed = pl.DataFrame({"clicks": pl.Series([["1", "2"], ["2", "1"]], dtype=pl.Array(pl.String, 2)), "click": [0, 1]})
    plain = build(tmp_path, f'clicks,click\n"1{splitter}2",0\n"2{splitter}1",1\n', [column], form)
    assert build(tmp_path, fixed, [column], form) == plain


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[["a"]], [["b"]]], r"sequence 'clicks' holds lists of List\(String\)"),
        ([[{"a": 1}], [{"a": 2}]], "sequence 'clicks' holds lists of Struct"),
        ([[0.5], [1.0]], "sequence 'clicks' holds lists of Float64"),
        ([["a^b"], ["c"]], r"column 'clicks': 1 lists have elements with the splitter '\^' in them"),
    ],
)
def test_lists_that_are_no_sequence_are_refused(tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path, pl.DataFrame({"clicks": values, "click": [0, 1]}), [CLICKS])


@FORMS
def test_vectors_come_back_as_they_are(tmp_path, form):
    column = {"name": "vec", "active": True, "dtype": "float", "type": "embedding", "pretrain_dim": 2}
    vectors = [[1.0, 2.0], [0.5, -1.0]]
    for dtype in (pl.List(pl.Float64), pl.Array(pl.Float32, 2)):
        frame = pl.DataFrame({"user": ["a", "b"], "vec": pl.Series(vectors, dtype=dtype), "click": [0, 1]})
        assert build(tmp_path, frame, [USER, column], form)["vec"] == vectors
    for wrong in ([1.0], None, [1.0, float("nan")], [None, 1.0]):
        frame = pl.DataFrame({"user": ["a", "b"], "vec": [[1.0, 2.0], wrong], "click": [0, 1]})
        with pytest.raises(
            UsageError, match=r"must hold 2 .* finite in 32 bits; not so in 1 of 2 rows \(the first: row 2"
        ) as e:
            build(tmp_path, frame, [USER, column], form)
        assert "\n" not in str(e.value)
    with pytest.raises(UsageError, match="of type embedding holds Float64, not vectors"):
        build(tmp_path, "user,vec,click\na,1,0\n", [USER, column], form)


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_sequences_are_cut_and_padded_as_fuxictr_does(padding):
    tokenizer = Tokenizer(splitter="^", max_len=4, padding=padding)
    tokenizer.build_vocab({str(i): 20 - i for i in range(12)})
    random = np.random.default_rng(0)
    rows = [[str(i) for i in random.integers(0, 12, length)] for length in (1, 2, 3, 4, 5, 6, 11)]
    expected = tokenizer.encode_sequence(pl.Series(["^".join(row) for row in rows]).to_pandas())
    ids = np.array([tokenizer.vocab[token] for row in rows for token in row])
    np.testing.assert_array_equal(pad(ids, np.array([len(row) for row in rows]), 4, padding), np.array(expected))


@FORMS
def test_columns_that_are_not_active_stay_out(tmp_path, form):
    unused = [
        USER | {"name": "gone", "active": False},
        CLICKS | {"name": "nested", "active": False},
        USER | {"name": "other", "active": False, "dtype": "int"},
    ]
    frame = pl.DataFrame({"user": ["a", "b"], "nested": [[["x"]], None], "other": ["text", None], "click": [0, 1]})
    assert set(build(tmp_path, frame, [USER, *unused], form)) == {"user", "click"}


@FORMS
def test_ids_that_are_taken_as_they_are_must_be_ids(tmp_path, form):
    column = USER | {"type": "meta", "remap": False}
    assert build(tmp_path, "user,click\n3,0\n5,1\n", [column], form)["user"] == [3, 5]
    for value in ("x", "-1", "1.5"):
        with pytest.raises(
            UsageError, match=r"'user' with remap: False must hold whole numbers of 0 or more; .* 1 of 2 r"
        ):
            build(tmp_path, f"user,click\n3,0\n{value},1\n", [column], form)


# --- groups ------------------------------------------------------------------------------------------


@FORMS
def test_groups_are_those_of_all_splits(tmp_path, form):
    group = {"name": "group", "active": True, "dtype": "str", "type": "meta", "preprocess": "copy_from(user)"}
    (tmp_path / "new.csv").write_text("user,click\nc,1\nd,0\nc,0\na,1\n")
    settings = {"test_data": str(tmp_path / "new.csv"), "metrics": ["gAUC"], "group_id": "group", "min_categr_count": 2}
    ids = build(tmp_path, "user,click\na,1\na,0\nb,0\n", [USER, group], form, **settings)
    assert len(set(ids["user"])) == 2  # c and d are not in training: one id
    groups = ids["group"]
    assert groups[0] == groups[2] and len({groups[0], groups[1], groups[3]}) == 3
    with pytest.raises(
        UsageError, match=r"group_id 'user' is a categorical field.*type: meta, preprocess: copy_from\(user"
    ):
        build(tmp_path, "user,click\na,1\n", [USER, group], form, metrics=["AUC", "NDCG(k=5)"], group_id="user")


def test_only_metrics_by_group_need_a_group():
    features = {"user": {"type": "categorical"}, "group": {"type": "meta"}}
    check_group_column("user", features, {"metrics": ["AUC", "logloss"], "monitor": "AUC"})
    check_group_column("group", features, {"metrics": ["gAUC"], "monitor": "gAUC"})
    for params in ({"metrics": ["MRR"]}, {"metrics": ["AUC"], "monitor": {"AUC": 1, "avgAUC": 1}}):
        with pytest.raises(UsageError, match="would mix their groups"):
            check_group_column("user", features, params)


# --- the paper's data sets ---------------------------------------------------------------------------


def squared_log(text):
    if text == "":
        return "missing"
    v = int(text)
    return str(v - 2) if v <= 2 else str(int(np.floor(np.log(v) ** 2)))


@FORMS
@pytest.mark.parametrize("dataset", ["criteo_paper", "avazu_paper"])
def test_ids_of_the_papers_sets_are_those_of_a_plain_encoding(tmp_path, dataset, form):
    """An empty value counts as any other, the threshold included."""
    entry = yaml.safe_load((bundled("dataset_configs") / dataset / "dataset_config.yaml").read_text())[dataset]
    folder = write_sample(dataset, tmp_path / "raw")
    rows, random = {}, np.random.default_rng(0)
    for split in SPLITS:
        with open(folder / f"{split}.csv", newline="") as file:
            rows[split] = list(csv.DictReader(file))
        fields = [name for name in rows[split][0] if name not in ("Label", "click", "id")]
        for row in rows[split]:  # gaps in every field
            row.update(dict.fromkeys(random.choice(fields, 2, replace=False), ""))
        with open(tmp_path / f"{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[split][0]))
            writer.writeheader()
            writer.writerows(rows[split])
    paths = {f"{split}_data": str(tmp_path / f"{split}.csv") for split in SPLITS}
    label = entry["label_col"]
    ids = build(tmp_path, "", entry["feature_cols"], form, label, min_categr_count=entry["min_categr_count"], **paths)
    for field in fields:
        plain = [[squared_log(row[field]) if field[0] == "I" else row[field] or "missing" for row in rows[split]]
                 for split in ("train", "test")]  # fmt: skip
        kept = {value for value, count in Counter(plain[0]).items() if count >= entry["min_categr_count"]}
        assert set(vocabulary(tmp_path, form)[field]) == kept | {"__PAD__", "__OOV__"}, field
        assert tokens(tmp_path, ids, field, form) == [v if v in kept else "__OOV__" for v in plain[1]], field
        assert "missing" in kept or Counter(plain[0])["missing"] < entry["min_categr_count"]


# --- files beside the rows ---------------------------------------------------------------------------


def test_vocabulary_files_are_those_of_json(tmp_path):
    vocabularies = {
        "a": {'é"\\\n': 2, "x": 1},
        "ü": {7: 1, -3: 2, 2**60: 3},
        "f": {0.5: 1, 1e16: 3, 35.0: 2, "__PAD__": 0},
    }
    write_vocabularies(tmp_path / "v.json", vocabularies.items())
    in_order = {name: dict(sorted(ids.items(), key=lambda item: item[1])) for name, ids in vocabularies.items()}
    assert (tmp_path / "v.json").read_text() == json.dumps(in_order, indent=4)
    write_vocabularies(tmp_path / "n.json", [("a", {np.int64(5): 1, np.str_("x"): 2, np.float64(0.5): 3})])
    assert json.loads((tmp_path / "n.json").read_text()) == {"a": {"5": 1, "x": 2, "0.5": 3}}


def write_pretrained(path, key, value):
    if path.suffix == ".npz":
        np.savez(path, key=key, value=value)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["key"] = key.astype("S") if key.dtype.kind == "U" else key
            file["value"] = value
    else:
        vectors = pl.Series(value.tolist(), dtype=pl.Array(pl.Float32, value.shape[1]))
        pl.DataFrame({"key": key, "value": vectors}).write_parquet(path)
    return path


@pytest.mark.parametrize("kind", [".npz", ".h5", ".parquet"])
def test_pretrained_vectors_are_read_and_checked(tmp_path, kind):
    path = write_pretrained(tmp_path / f"v{kind}", np.array(["a", "b"]), np.ones((2, 3), np.float32))
    keys, values = read_pretrained(path)
    assert check_keys(keys, "user", "str", path) == ["a", "b"] and values.shape == (2, 3)
    column = USER | {"pretrained_emb": str(path), "pretrain_dim": 3}
    build(tmp_path, "user,click\na,0\nc,1\n", [column])
    for change, message in (
        ({"pretrain_dim": 7}, r"of field 'user' has 3 columns, but pretrain_dim .* is 7"),
        ({"pretrain_dim": None, "embedding_dim": 4}, r"has 3 columns, but pretrain_dim .* is 4"),
        ({"dtype": "int"}, "are not of the field's dtype: int"),
    ):
        with pytest.raises(UsageError, match=message):
            build(tmp_path, "user,click\n1,0\n2,1\n", [column | change])
    with pytest.raises(UsageError, match="none of its 2 keys is a value of field 'user'"):
        build(tmp_path, "user,click\nx,0\ny,1\n", [column])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"junk" * 100):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=rf"pretrained_emb .*v\{kind} cannot be read"):
            read_pretrained(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"key": np.array(["a"])}, "must hold 'key' and 'value'"),
        (
            {"key": np.array(["a", "b"]), "value": np.ones((3, 2))},
            r"one vector a key.* found key \(2,\) and value \(3, 2\)",
        ),
        ({"key": np.array(["a"]), "value": np.ones(1)}, "one vector a key"),
        ({"key": np.array(["a"]), "value": np.array([[np.nan]])}, "1 of 1 vectors hold NaN"),
        ({"key": np.array(["a"]), "value": np.array([["x"]])}, "value holds <U1, not numbers"),
        ({"key": np.array(["a"], object), "value": np.ones((1, 1))}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_pretrained_files_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read_pretrained(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("keys", "dtype", "message"),
    [
        (["a", "b", "a"], "str", "1 keys occur more than once, such as 'a'"),
        (["007", "8"], "int", "key '007' would be '7' as dtype: int"),
        ([35, 36], "float", "key '35' would be '35.0' as dtype: float"),
        ([1.5, 2.0], "int", "key '1.5' would be '1' as dtype: int"),
    ],
)
def test_keys_whose_vectors_would_be_lost_are_refused(keys, dtype, message):
    with pytest.raises(UsageError, match=message):
        check_keys(np.array(keys), "user", dtype, "v.npz")


def test_the_width_of_built_pretrained_vectors_is_checked(tmp_path):
    write_pretrained(tmp_path / "v.npz", np.array(["a"]), np.ones((1, 3), np.float32))
    spec = categorical(3) | {"pretrained_emb": "v.npz", "oov_idx": 2, "freeze_emb": True, "pretrain_usage": "init"}
    feature_map = make_feature_map({"user": spec, "item": categorical(3)}, tmp_path)
    with pytest.raises(
        UsageError, match=r"of field 'user' has 3 columns, but pretrain_dim \(embedding_dim if not set\) is 4"
    ):
        MultiEmbedding(feature_map, 4, num_sets=2)
    assert MultiEmbedding(feature_map, 4, 1, required_feature_columns=["item"]).output_dims == [4]
