"""The row of BARS' leaderboard, ``docs/CTR/leaderboard/<dataset>.csv``."""

import csv
import io

PAPER = "https://arxiv.org/abs/2310.04400"
ENTRIES = "https://github.com/reczoo/BARS/tree/main/ranking/ctr"
COLUMNS = ("Year", "Publication", "Model", "Paper URL", "AUC", "Logloss", "Running Steps", "Contributor")


def leaderboard_row(title, model, dataset, test, of_paper=True):
    """Header and row as csv.

    BARS shows the run of its first seed; data sets with a group metric have a column ``gAUC`` before ``AUC``.
    ``Contributor`` is left empty, for whoever submits, and so is the publication of a model that is not of our paper.

    Args:
        title (str): the model's name there.
        model (str): its class, the folder of its entries.
        dataset (str): e.g. ``criteo_x1``.
        test (dict): metric -> value, of the first seed.
        of_paper (bool): whether the model is multi-embedding.

    Returns:
        str: two lines.
    """
    metrics = {"Logloss": test["logloss"], **{name: test[name] for name in ("gAUC", "AUC") if name in test}}
    paper = {"Year": 2024, "Publication": "ICML'24", "Paper URL": PAPER} if of_paper else {}
    row = {**dict.fromkeys(COLUMNS, ""), **paper, "Model": title}
    row |= {column: f"{value:.6f}" for column, value in metrics.items()}
    row["Running Steps"] = f"{ENTRIES}/{model}/{title}_{dataset}"
    columns = [*COLUMNS[:4], *(["gAUC"] if "gAUC" in test else []), *COLUMNS[4:]]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def read_row(text):
    """Column -> text of the row; empty where the columns are not the leaderboard's."""
    rows = list(csv.DictReader(io.StringIO(text)))
    fits = len(rows) == 1 and [c for c in rows[0] if c != "gAUC"] == list(COLUMNS)
    return rows[0] if fits else {}
