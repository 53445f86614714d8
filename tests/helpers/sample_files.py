"""Tiny generated samples in the csv formats of the public data sets of ``dataset_configs/``.

Columns and their order, separators, line ends, the look of ids and where values are missing are the real sets'; the
values are random. The real form of Criteo_x1's numbers and of KuaiVideo_x1's time stamps is not published, and theirs
here are guesses.
"""

from pathlib import Path

import numpy as np

CRITEO_COUNTS = [f"I{i}" for i in range(1, 14)]
CRITEO_IDS = [f"C{i}" for i in range(1, 27)]
# Roughly the share of empty values in Criteo's columns; those not named are always filled.
CRITEO_MISSING = {
    **{"I1": 0.45, "I3": 0.2, "I4": 0.2, "I5": 0.03, "I6": 0.2, "I7": 0.04, "I9": 0.04, "I10": 0.45, "I11": 0.04},
    **{"I12": 0.75, "I13": 0.2, "C3": 0.03, "C4": 0.03, "C6": 0.1, "C12": 0.03, "C16": 0.03, "C19": 0.45, "C20": 0.45},
    **{"C21": 0.03, "C22": 0.75, "C24": 0.03, "C25": 0.45, "C26": 0.45},
}
AVAZU_HEX = ["site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"]
AVAZU_HEX += ["device_id", "device_ip", "device_model"]
# Frappe_x1 and MovielensLatest_x1 number the values of all fields in one row: the first id and how many there are.
FRAPPE = {
    **{"user": (0, 957), "item": (957, 4082), "daytime": (5039, 7), "weekday": (5046, 7), "isweekend": (5053, 2)},
    **{"homework": (5055, 3), "cost": (5058, 2), "weather": (5060, 9), "country": (5069, 80), "city": (5149, 233)},
}
MOVIELENS = {"user_id": (0, 17045), "item_id": (17045, 23743), "tag_id": (40788, 49657)}
COMMON = 20  # so many ids of a field occur in train.csv, at most


def _ids(rng, rows, count=10**6, new=False):
    """Numbers from 0 to below count, small ones often; with ``new`` also a few that no training row has."""
    common = min(COMMON, count)
    ids = (common * rng.random(rows) ** 3).astype(int)
    if new and count > common:
        places = rng.choice(rows, max(1, rows // 20), replace=False)
        ids[places] = common + rng.integers(0, min(5, count - common), len(places))
    return ids


def _hex(field, ids):
    """Eight hexadecimal digits for each number, other ones in each field."""
    return [f"{(2654435761 * (i + 1) + 97003 * field) % 2**32:08x}" for i in ids.tolist()]


def _labels(rng, rows):
    labels = (rng.random(rows) < 0.25).astype(int)
    labels[rng.choice(rows, 2, replace=False)] = [0, 1]
    return labels


def _numbered(rng, rows, new, fields):
    return {name: first + _ids(rng, rows, count, new) for name, (first, count) in fields.items()}


def _criteo_x1(rng, rows, new):
    columns = {"label": _labels(rng, rows)}
    for name in CRITEO_COUNTS:
        columns[name] = np.round(rng.random(rows) ** 4, 6)
    # One numbering for all fields, after the 13 of the numbers.
    return columns | _numbered(rng, rows, new, {name: (14 + 1000 * i, 1000) for i, name in enumerate(CRITEO_IDS)})


def _criteo_x4(rng, rows, new):
    columns = {"Label": _labels(rng, rows)}
    for name in CRITEO_COUNTS:
        often = rng.choice([0, 1, 2], rows, p=[0.3, 0.5, 0.2])
        columns[name] = np.where(rng.random(rows) < 0.7, often, rng.lognormal(3, 2, rows).astype(int))
    columns["I2"] = np.where(rng.random(rows) < 0.2, rng.integers(-3, 0, rows), columns["I2"])
    for i, name in enumerate(CRITEO_IDS):
        columns[name] = _hex(i, _ids(rng, rows, new=new))
    for name, share in CRITEO_MISSING.items():
        missing = rng.random(rows) < share
        columns[name] = ["" if m else str(value) for m, value in zip(missing, columns[name], strict=True)]
    return columns


def _avazu_x1(rng, rows, new):
    fields = {f"feat_{i}": (1000 * (i - 1), 1000) for i in range(1, 23)}
    return {"label": _labels(rng, rows)} | _numbered(rng, rows, new, fields)


def _avazu_x4(rng, rows, new):
    columns = {"id": rng.integers(10**18, 2**64 - 1, rows, dtype=np.uint64), "click": _labels(rng, rows)}
    columns["hour"] = 14102100 + 100 * rng.integers(0, 10, rows) + rng.integers(0, 24, rows)
    columns["C1"] = rng.choice([1001, 1002, 1005, 1007, 1008, 1010, 1012], rows)
    columns["banner_pos"] = rng.choice([0, 1, 2, 3, 4, 5, 7], rows)
    columns |= {name: _hex(i, _ids(rng, rows, new=new)) for i, name in enumerate(AVAZU_HEX)}
    columns["device_type"] = rng.choice([0, 1, 2, 4, 5], rows)
    columns["device_conn_type"] = rng.choice([0, 2, 3, 5], rows)
    columns["C14"] = 15700 + _ids(rng, rows, 2600, new)
    columns["C15"] = rng.choice([120, 216, 300, 320, 480, 728, 768, 1024], rows)
    columns["C16"] = rng.choice([20, 36, 50, 90, 250, 480, 768], rows)
    columns["C17"] = 1700 + _ids(rng, rows, 430, new)
    columns["C18"] = rng.choice([0, 1, 2, 3], rows)
    columns["C19"] = rng.choice([33, 35, 39, 163, 167, 291, 1327], rows)
    columns["C20"] = np.where(rng.random(rows) < 0.5, -1, 100000 + _ids(rng, rows, 170, new))
    columns["C21"] = rng.choice([15, 23, 33, 61, 79, 101, 157, 221], rows)
    return columns


def _frappe_x1(rng, rows, new):
    return {"label": _labels(rng, rows)} | _numbered(rng, rows, new, FRAPPE)


def _movielenslatest_x1(rng, rows, new):
    return {"label": _labels(rng, rows)} | _numbered(rng, rows, new, MOVIELENS)


def _kuaivideo_x1(rng, rows, new):
    click = _labels(rng, rows)
    columns = {
        "timestamp": np.sort(rng.integers(0, 10**6, rows)),
        "user_id": rng.integers(0, 10, rows),
        "item_id": _ids(rng, rows, 3242315, new),
        "is_click": click,
        "is_like": click * (rng.random(rows) < 0.1),
        "is_follow": click * (rng.random(rows) < 0.05),
    }
    for name in ("pos_items", "neg_items"):  # from no item, at a user's beginning, to the 100 that are kept
        lengths = np.minimum(rng.geometric(0.1, rows) - 1, 100)
        lengths[rng.choice(rows, 2, replace=False)] = [0, 100]
        columns[name] = ["^".join(map(str, _ids(rng, n, 3242315, new and n > 0).tolist())) for n in lengths.tolist()]
    return columns


SAMPLES = {
    "criteo_x1": _criteo_x1,
    "criteo_x4": _criteo_x4,
    "criteo_paper": _criteo_x4,
    "avazu_x1": _avazu_x1,
    "avazu_x4": _avazu_x4,
    "avazu_paper": _avazu_x4,
    "frappe_x1": _frappe_x1,
    "movielenslatest_x1": _movielenslatest_x1,
    "kuaivideo_x1": _kuaivideo_x1,
}
CRLF = {"frappe_x1"}  # the published files of this set end their lines in CR LF


def write_sample(dataset, folder, rows=300, seed=0):
    """Write train.csv with ``rows`` rows, and valid.csv and test.csv with a third as many, into ``folder``.

    In 300 rows every categorical field has an id that occurs 10 times, the highest ``min_categr_count`` of the
    configs: FuxiCTR fails where a field's vocabulary is empty. The published KuaiVideo_x1 has no valid.csv.
    """
    rng = np.random.default_rng(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", rows), ("valid", rows // 3), ("test", rows // 3)):
        columns = SAMPLES[dataset](rng, count, split != "train")
        lines = [",".join(columns)]
        lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        end = "\r\n" if dataset in CRLF else "\n"
        (folder / f"{split}.csv").write_bytes((end.join(lines) + end).encode())
    return folder
