"""Ids of the paper's data sets."""

import csv
from collections import Counter

import numpy as np
import pytest
import yaml
from helpers.raw_builds import FORMS, SPLITS, build, tokens, vocabulary
from helpers.sample_files import write_sample

from fuxictr_me.io.resources import find_bundled_folder


def squared_log(text):
    if text == "":
        return "missing"
    v = int(text)
    return str(v - 2) if v <= 2 else str(int(np.floor(np.log(v) ** 2)))


@FORMS
@pytest.mark.parametrize("dataset", ["criteo_paper", "avazu_paper"])
def test_ids_of_the_papers_data_sets_equal_a_plain_encoding(tmp_path, dataset, form):
    """An empty value is counted as any other, also against the threshold."""
    configs = find_bundled_folder("dataset_configs")
    entry = yaml.safe_load((configs / dataset / "dataset_config.yaml").read_text())[dataset]
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
