"""FuxiCTR's torch models as a checkout holds them: each class, its script, FuxiCTR's settings and tiny data for it."""

import ast
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml

LONG = "tiny_long"  # made here for LongCTR, which has no data of its own
LONGCTR_STARTS = """\
# in place of a check for FuxiCTR 2.3.2; keras_preprocessing, which LongCTR's loader imports, wants a name of numpy 1
import numpy

numpy.unicode_ = numpy.str_
"""


class Entry(NamedTuple):
    """A model class of the zoo, and the settings of FuxiCTR's that are run.

    Args:
        path (Path): of its file.
        name (str): of the class.
        expid (str): of the settings.
        settings (dict): what FuxiCTR's config says under ``Base`` and ``expid``.
    """

    path: Path
    name: str
    expid: str
    settings: dict

    @property
    def label(self):
        """The class's name; LongCTR has some that others have, too."""
        return f"LongCTR/{self.name}" if "LongCTR" in self.path.parts else self.name

    @property
    def checkout(self):
        """The folder that holds ``model_zoo``."""
        return next(folder for folder in self.path.parents if folder.name == "model_zoo").parent

    @property
    def folder(self):
        """Of the entry: where its own ``run_expid.py`` is."""
        return next(folder for folder in self.path.parents if (folder / "run_expid.py").is_file())

    @property
    def script(self):
        """FuxiCTR's script that finds the class: the one of all models if ``import model_zoo`` has it, or its own."""
        zoo = self.checkout / "model_zoo"
        module = ".".join(self.path.relative_to(zoo).with_suffix("").parts)
        for package, names in re.findall(r"^from \.(\S+) import (.*)$", (zoo / "__init__.py").read_text(), re.M):
            if module.startswith(f"{package}.") and self.name in names.split(", "):
                return self.checkout / "experiment" / "run_expid.py"
        return self.folder / "run_expid.py"

    def load(self):
        """The class itself."""
        return getattr(load_module(self.path), self.name)


def copy_checkout(source, folder):
    """A checkout of reczoo/FuxiCTR that its scripts may write to, with LongCTR's script made to start.

    Its ``run_expid.py`` stays as it is, but ends at ``import fuxictr_version``, which wants FuxiCTR 2.3.2, and then at
    ``from __init__ import *``, as there are relative imports in it.

    Args:
        source (str or Path): the checkout, which is only read.
        folder (Path): does not exist yet.

    Returns:
        Path: ``folder``.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    long = folder / "model_zoo" / "LongCTR"
    (long / "fuxictr_version.py").write_text(LONGCTR_STARTS)
    imports = (long / "__init__.py").read_text()
    (long / "__init__.py").write_text(imports.replace("from .", "from "))
    return folder


def find_entries(checkout):
    """Every torch model class below ``model_zoo``: those on FuxiCTR's base models, in files that use its torch side.

    Their settings are ``<class>_test`` where the entry has it, else ``<class>_default``, else those of a neighbour.

    Args:
        checkout (Path): of reczoo/FuxiCTR.

    Returns:
        dict: label -> Entry.
    """
    found = []
    for path in sorted((Path(checkout) / "model_zoo").rglob("*.py")):
        text = path.read_text()
        for node in ast.parse(text).body if "fuxictr.pytorch" in text else ():
            if {getattr(base, "id", "") for base in getattr(node, "bases", ())} & {"BaseModel", "MultiTaskModel"}:
                entry = Entry(path, node.name, "", {})
                found.append(entry._replace(**settings_of(entry)))
    return {entry.label: entry for entry in sorted(found, key=lambda entry: entry.label.lower())}


def settings_of(entry):
    configs = [yaml.safe_load(path.read_text()) for path in sorted(entry.folder.glob("config/**/model_config.yaml"))]
    named = {expid: {**config["Base"], **config[expid]} for config in configs for expid in config if expid != "Base"}
    own = {expid: settings for expid, settings in named.items() if settings["model"] == entry.name} or named
    expid = next((expid for expid in (f"{entry.name}_test", f"{entry.name}_default") if expid in own), next(iter(own)))
    settings = own[expid] | {"model": entry.name}
    if settings["dataset_id"] == "TBD":  # a template of FuxiCTR's: with no data set named
        settings["dataset_id"] = LONG if entry.label.startswith("LongCTR") else "tiny_parquet"
    return {"expid": expid, "settings": settings}


def load_module(path):
    """A Python file as a module of its folder, whose other files it may import."""
    package = ModuleType(re.sub(r"\W", "_", str(path.parent)))
    package.__path__ = [str(path.parent)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{path.stem}")


# --- data --------------------------------------------------------------------------------------------------


def prepare(entry, folder, **more):
    """Put the config and the data of a run into a folder of its own.

    Args:
        entry (Entry): what to run.
        folder (Path): gets ``config/``, ``data/`` and, when it runs, ``checkpoints/``.
        **more: settings to add to FuxiCTR's.

    Returns:
        Path: of the config folder.
    """
    dataset_id = entry.settings["dataset_id"]
    if dataset_id == LONG:
        dataset = make_long(folder / "data" / LONG)
    else:
        shutil.copytree(entry.checkout / "data" / dataset_id, folder / "data" / dataset_id)
        dataset = dataset_settings(entry.checkout, dataset_id)
    dataset = {
        key: re.sub(r"^(\.\./)+data", str(folder / "data"), value) if isinstance(value, str) else value
        for key, value in dataset.items()
    }
    (folder / "config").mkdir()
    settings = entry.settings | {"epochs": 1, "model_root": str(folder / "checkpoints")} | more
    for name, content in (("model", {"Base": {}, entry.expid: settings}), ("dataset", {dataset_id: dataset})):
        (folder / "config" / f"{name}_config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config"


def dataset_settings(checkout, dataset_id):
    """What the zoo's entries say of a data set: the same in all, but that some lack it."""
    for path in sorted((checkout / "model_zoo").rglob("dataset_config.yaml")):
        content = yaml.safe_load(path.read_text())
        if dataset_id in content and content[dataset_id]["data_format"] != "tfrecord":
            return content[dataset_id]
    raise LookupError(f"no entry says what {dataset_id} is")


def make_long(folder, rows=100, users=20, items=40, longest=60, seed=0):
    """A few rows as LongCTR's loader reads them: clicks of users, with the items that each of them has seen."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    categorical = {"type": "categorical", "padding_idx": 0}
    features = {
        "user_id": {"source": "user", **categorical, "vocab_size": users + 1},
        "item_id": {"source": "item", **categorical, "vocab_size": items + 1},
        "cate_id": {"source": "item", **categorical, "vocab_size": 6},
        **{name: {"source": "", "type": "meta"} for name in ("user_index", "item_index", "seq_len")},
    }
    feature_map = {"dataset_id": LONG, "labels": ["click"], "num_fields": 3, "total_features": users + items + 8}
    feature_map |= {"input_length": 3, "features": [{name: spec} for name, spec in features.items()]}
    (folder / "feature_map.json").write_text(json.dumps(feature_map))
    item = np.arange(items + 1)  # 0: padding
    pd.DataFrame({"item_index": item, "item_id": item, "cate_id": np.where(item > 0, 1 + item % 5, 0)}).to_parquet(
        folder / "items.parquet"
    )
    seen = [random.integers(1, items + 1, size=longest) for _ in range(users)]
    pd.DataFrame({"full_item_seq": seen}).to_parquet(folder / "users.parquet")
    for split in ("train", "valid", "test"):
        user = random.integers(0, users, size=rows)
        columns = {"user_index": user, "user_id": user + 1, "item_index": random.integers(1, items + 1, size=rows)}
        columns |= {"seq_len": random.integers(1, longest + 1, size=rows), "click": random.integers(0, 2, size=rows)}
        pd.DataFrame(columns).to_parquet(folder / f"{split}.parquet")
    paths = {f"{split}_data": f"../data/{LONG}/{split}.parquet" for split in ("train", "valid", "test")}
    tables = {f"{name}_info": f"../data/{LONG}/{name}s.parquet" for name in ("user", "item")}
    return {"data_root": "../data/", "data_format": "parquet", **paths, **tables}


def construction(entry, config):
    """What FuxiCTR's script would construct the model with, and the rows that it would train on.

    Returns:
        tuple: feature map, settings, a batch of all training rows.
    """
    from fuxictr.features import FeatureMap
    from fuxictr.preprocess import FeatureProcessor, build_dataset
    from fuxictr.utils import load_config

    params = load_config(str(config), entry.expid) | {"gpu": -1, "verbose": 0}
    data = Path(params["data_root"]) / params["dataset_id"]
    if params["data_format"] == "csv" and not (data / "feature_map.json").exists():
        build_dataset(FeatureProcessor(**params), **params)
    feature_map = FeatureMap(params["dataset_id"], str(data))
    feature_map.load(str(data / "feature_map.json"), params)
    if params["dataset_id"] == LONG:
        load_module(entry.folder / "fuxictr_version.py")
        loader = load_module(entry.folder / "longctr_dataloader.py").LongCTRDataLoader
        return feature_map, params, next(iter(loader(feature_map, params["train_data"], **params | {"num_workers": 0})))
    if params["data_format"] == "npz":
        columns = dict(np.load(data / "train.npz"))
    else:
        table = pd.read_parquet(data / "train.parquet")
        columns = {name: np.array(table[name].to_list()) for name in table}
    wanted = {*feature_map.features, *feature_map.labels}
    return feature_map, params, {name: torch.from_numpy(x) for name, x in columns.items() if name in wanted}
