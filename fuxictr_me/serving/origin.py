"""What the ids of a built data set were made from: settings, raw files, and which raw column a field is."""

from dataclasses import dataclass
from pathlib import Path

from fuxictr_me.config import RAW_DTYPES, check_dataset, is_built
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.manifest import is_unchanged, read_manifest
from fuxictr_me.data.raw.find_files import raw_files, separator
from fuxictr_me.errors import UsageError, unknown

FILLS = {"str": "", "int": 0, "float": 0.0}  # FuxiCTR's, where fill_na is not set


@dataclass(frozen=True)
class Origin:
    """What a data set was made from.

    Attributes:
        dataset_id (str), folder (Path): of the built set.
        settings (dict): ``feature_cols``, ``label_col``, ``sep``, ``n_rows``.
        files (dict): split -> list of Path, of raw files that are as the build found them.
        recorded (bool): whether the data set says so; else it is what the config says.
    """

    dataset_id: str
    folder: Path
    settings: dict
    files: dict
    recorded: bool

    @property
    def columns(self):
        """name -> entry of ``feature_cols``, in their order."""
        columns = {}
        for column in self.settings["feature_cols"]:
            names = column["name"] if isinstance(column["name"], list) else [column["name"]]
            columns |= {name: {**column, "name": name} for name in names}
        return columns

    @property
    def sep(self):
        """Between the columns of a csv file."""
        files = next((files for files in self.files.values() if files), [Path("raw.csv")])
        return separator(files[0], self.settings.get("sep"))

    def preprocessed(self, split):
        """The rows of a split as FuxiCTR's ``preprocess`` makes them out of the raw ones.

        Returns:
            pl.LazyFrame

        Raises:
            UsageError: raw files that are gone or have changed.
        """
        from fuxictr_me.data.building.processor import PreparingProcessor

        if not self.files.get(split):
            raise UsageError(f"the raw {split} data of {self.dataset_id} are not there any more, or have changed")
        for column in self.columns.values():
            if column["dtype"] not in RAW_DTYPES:  # FuxiCTR evaluates it as Python
                raise unknown(f"dtype of column {column['name']!r}", column["dtype"], RAW_DTYPES)
        settings = {**self.settings, "dataset_id": self.dataset_id, "data_root": str(self.folder.parent)}
        processor = PreparingProcessor(**settings)
        rows = processor.read_files(self.files[split], settings.get("sep"), settings.get("n_rows"))
        return processor.preprocess(rows)


def find_origin(run):
    """What the data set of a run was made from: by its manifest, or where it has none (FuxiCTR's), by the config.

    Args:
        run (Run): of ``fuxictr_me.runs.finished_run.find_run``.

    Raises:
        UsageError: it was not made from raw data, or nothing tells how.
    """
    dataset_id = run.params["dataset_id"]
    folder = Path(run.params["data_root"]) / dataset_id
    manifest = read_manifest(folder)
    if manifest is None:
        return Origin(dataset_id, folder, *_by_config(run, folder), recorded=False)
    made_from = manifest["made_from"]
    if "settings" not in made_from:
        raise UsageError(f"{folder} was {' and '.join(made_from)}, not built from raw data")
    files = {split: [Path(path) for path, *_ in of_split] for split, of_split in made_from["raw"].items()}
    same = {split for split, of_split in made_from["raw"].items() if all(map(is_unchanged, of_split))}
    kept = {split: of_split for split, of_split in files.items() if split in same}
    return Origin(dataset_id, folder, made_from["settings"], kept, recorded=True)


def _by_config(run, folder):
    params = dict(run.params)
    if not params.get("feature_cols") or is_built(params):
        raise UsageError(f"neither a manifest in {folder} nor feature_cols in the config say how its ids were made")
    check_dataset(params, run.folder)
    return params, {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}


@dataclass(frozen=True)
class RawColumn:
    """What a field is read from.

    Attributes:
        name (str): of a raw column, or ``function(column)`` where only FuxiCTR's ``preprocess`` makes it.
        dtype (str or None): ``str``, ``int`` or ``float``; None: as ``preprocess`` gives it.
        fill: in place of a missing value.
    """

    name: str
    dtype: str | None
    fill: object


def raw_columns(columns):
    """Which raw column each field is, as FuxiCTR's ``preprocess`` makes fields out of columns, the last first.

    Args:
        columns (dict): name -> entry of ``feature_cols``.

    Returns:
        dict: name -> RawColumn.
    """
    found = {}
    for name, column in reversed(columns.items()):
        fill = column.get("fill_na", FILLS[column["dtype"]])
        function, _, argument = (column.get("preprocess") or "").rstrip(")").partition("(")
        source = argument or name
        if not function:
            found[name] = RawColumn(name, column["dtype"], fill)
        elif function == "missing_as_value":
            found[name] = RawColumn(source, "str", "missing")
        elif function == "copy_from":
            dtype = columns.get(source, column)["dtype"]
            found[name] = found.get(source, RawColumn(source, dtype, fill))
        else:
            found[name] = RawColumn(f"{function}({source})", None, None)
    return found
