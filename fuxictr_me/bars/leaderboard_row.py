"""The row of an entry in BARS' leaderboard, ``docs/CTR/leaderboard/<dataset>.csv``."""

import csv
import io

PAPER = "https://arxiv.org/abs/2310.04400"
ENTRIES = "https://github.com/reczoo/BARS/tree/main/ranking/ctr"
COLUMNS = ("Year", "Publication", "Model", "Paper URL", "AUC", "Logloss", "Running Steps", "Contributor")


def leaderboard_row(title: str, model: str, dataset: str, test: dict[str, float], of_paper: bool = True) -> str:
    """Return header and row as csv.

    BARS shows the run of its first seed. Data sets with a group metric have a column ``gAUC`` before ``AUC``. The
    contributor is left empty, and so is the publication of a model that is not multi-embedding.

    Args:
        title: name of the model in the leaderboard.
        model: its class, which is the folder of its entries.
        dataset: e.g. ``criteo_x1``.
        test: metric -> value, of the first seed.
        of_paper: whether the model is multi-embedding.
    """
    paper = {"Year": 2024, "Publication": "ICML'24", "Paper URL": PAPER} if of_paper else {}
    row = {**dict.fromkeys(COLUMNS, ""), **paper, "Model": title, "Logloss": f"{test['logloss']:.6f}"}
    row |= {name: f"{test[name]:.6f}" for name in ("gAUC", "AUC") if name in test}
    row["Running Steps"] = f"{ENTRIES}/{model}/{title}_{dataset}"
    columns = [*COLUMNS[:4], *(["gAUC"] if "gAUC" in test else []), *COLUMNS[4:]]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def parse_leaderboard_row(text: str) -> dict[str, str]:
    """Return column -> text of the row; empty if the columns are not those of the leaderboard."""
    rows = list(csv.DictReader(io.StringIO(text)))
    is_valid = len(rows) == 1 and [column for column in rows[0] if column != "gAUC"] == list(COLUMNS)
    return rows[0] if is_valid else {}
