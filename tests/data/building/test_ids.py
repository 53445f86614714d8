"""Ids of raw csv and parquet files have one meaning, and values that would train as others are refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fuxictr.preprocess.tokenizer import Tokenizer
from helpers.raw_builds import FORMS, PRICE, USER, build, tokens, vocabulary

from fuxictr_me import UsageError
from fuxictr_me.data.building.encode_columns import pad
from fuxictr_me.data.group_column import check_group_column

CLICKS = {"name": "clicks", "active": True, "dtype": "str", "type": "sequence", "max_len": 3}


@FORMS
def test_a_value_has_the_same_id_in_all_fields_that_share_a_table(tmp_path, form):
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
def test_whole_numbers_remain_exact(tmp_path, form):
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
def test_a_number_in_a_sequence_must_be_written_as_in_the_column_whose_table_it_shares(tmp_path, form, odd):
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
def test_lists_in_parquet_equal_sequences_in_csv(tmp_path, splitter, form):
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
def test_lists_that_cannot_be_sequences_are_refused(tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path, pl.DataFrame({"clicks": values, "click": [0, 1]}), [CLICKS])


@FORMS
def test_vectors_are_stored_unchanged(tmp_path, form):
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
def test_inactive_columns_are_left_out(tmp_path, form):
    unused = [
        USER | {"name": "gone", "active": False},
        CLICKS | {"name": "nested", "active": False},
        USER | {"name": "other", "active": False, "dtype": "int"},
    ]
    frame = pl.DataFrame({"user": ["a", "b"], "nested": [[["x"]], None], "other": ["text", None], "click": [0, 1]})
    assert set(build(tmp_path, frame, [USER, *unused], form)) == {"user", "click"}


@FORMS
def test_values_without_remap_must_be_ids(tmp_path, form):
    column = USER | {"type": "meta", "remap": False}
    assert build(tmp_path, "user,click\n3,0\n5,1\n", [column], form)["user"] == [3, 5]
    for value in ("x", "-1", "1.5"):
        with pytest.raises(
            UsageError, match=r"'user' with remap: False must hold whole numbers of 0 or more; .* 1 of 2 r"
        ):
            build(tmp_path, f"user,click\n3,0\n{value},1\n", [column], form)


@FORMS
def test_group_ids_cover_all_splits(tmp_path, form):
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


def test_only_metrics_by_group_need_a_meta_column():
    features = {"user": {"type": "categorical"}, "group": {"type": "meta"}}
    check_group_column("user", features, {"metrics": ["AUC", "logloss"], "monitor": "AUC"})
    check_group_column("group", features, {"metrics": ["gAUC"], "monitor": "gAUC"})
    for params in ({"metrics": ["MRR"]}, {"metrics": ["AUC"], "monitor": {"AUC": 1, "avgAUC": 1}}):
        with pytest.raises(UsageError, match="would mix their groups"):
            check_group_column("user", features, params)


def test_hour_weekday_and_weekend_are_made_of_the_column_hour(tmp_path):
    """As ``docs/your_data.md`` says: of text YYMMDDHH, Sunday is 0. Columns are active unless they say otherwise."""
    hours = pd.date_range("2014-10-20 03:00", periods=8, freq="25h")
    frame = pl.DataFrame({"hour": hours.strftime("%y%m%d%H").to_list(), "click": [0, 1] * 4})
    columns = [
        {"name": name, "dtype": "str", "type": "categorical", "preprocess": f"convert_{name}"}
        for name in ("hour", "weekday", "weekend")
    ]
    for raw, form in ((frame.write_csv(), "h5"), (frame, "ids")):
        ids = build(tmp_path, raw, columns, form=form)
        assert tokens(tmp_path, ids, "hour", form) == [str(hour.hour) for hour in hours]
        assert tokens(tmp_path, ids, "weekday", form) == [str(hour.isoweekday() % 7) for hour in hours]
        assert tokens(tmp_path, ids, "weekend", form) == [str(int(hour.isoweekday() > 5)) for hour in hours]
