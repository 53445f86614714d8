"""Rows of csv files: damaged files are refused, and values are read unchanged."""

import csv
import io

import numpy as np
import polars as pl
import pytest
from helpers.raw_builds import FORMS, PRICE, USER, build, tokens

from fuxictr_me import UsageError
from fuxictr_me.data.raw.row_lengths import BLOCK, check_row_lengths


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
def test_damaged_csv_files_are_refused(tmp_path, raw, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(tmp_path, raw, [USER, PRICE])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gap", [b"b,1\n", b"b,1,2,3\n", b'"b,1,2\n', b"\n"])
def test_one_bad_row_among_many(tmp_path, gap):
    """In files of several blocks, at and within their borders; the csv module tells which files are valid."""
    rows = [b"a%d,%d,0\n" % (i, i) for i in range(400_000)]
    file = tmp_path / "a.csv"
    file.write_bytes(b"x,y,z\n" + b"".join(rows))
    assert file.stat().st_size > 80 * BLOCK
    check_row_lengths(file, ",", 3)
    for place in (3, 399_999):
        file.write_bytes(b"x,y,z\n" + b"".join([*rows[:place], gap, *rows[place:]]))
        with pytest.raises(UsageError):
            check_row_lengths(file, ",", 3)


@FORMS
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n\n\n\n", "\n\r\n"])
def test_blank_lines_at_the_end_are_ignored(tmp_path, end, form):
    raw = "user,click\na,0\nb,1\na,1"
    plain, with_blank_lines = (tmp_path / name for name in ("plain", "with_blank_lines"))
    plain.mkdir()
    with_blank_lines.mkdir()
    expected = build(plain, raw, form=form)
    assert expected == build(with_blank_lines, raw + end, form=form)
    assert build(with_blank_lines, raw + end, form=form, n_rows=2, dataset_id="two")["click"] == [0, 1]
    with_blank_row = raw.replace("b,1", "\nb,1") + end
    with pytest.raises(UsageError, match="1 row does not have the 2 fields of the header; the first is row 2 with 0"):
        build(tmp_path, with_blank_row, form=form)


def test_blank_lines_at_the_end_of_large_files_are_ignored(tmp_path):
    """The files have several blocks, quoted blank lines, and more blank lines than a block holds."""
    file = tmp_path / "a.csv"
    for row in (b"a,1,0\n", b'"a\n\n",1,0\n'):
        rows = 5 * (1 << 20) // len(row)
        for newlines in (1, 2, 2 * BLOCK):
            file.write_bytes(b"x,y,z\n" + row * rows + b"\n" * (newlines - 1))
            assert check_row_lengths(file, ",", 3) == (rows if newlines > 1 else None)
    file.write_bytes(b"x,y,z\n" + row * rows + b"\n" * (2 * BLOCK) + row)
    with pytest.raises(UsageError, match=f"{2 * BLOCK} rows do not have .* the first is row {rows + 1} with 0"):
        check_row_lengths(file, ",", 3)


def test_complete_rows_are_accepted(tmp_path):
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
            check_row_lengths(file, ",", 3)


@FORMS
def test_values_of_all_types_are_read_unchanged(tmp_path, form):
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
