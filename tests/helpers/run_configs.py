"""Config folders of small runs."""

from pathlib import Path

import yaml

from fuxictr_me.io.resources import find_bundled_folder, find_zoo_configs

TINY = find_bundled_folder("dataset_configs") / "tiny_flights"


def write_config(model=None, data=None, expid="mine", base="DCNv2_ME_test"):
    """Write a config folder ./config with one experiment, the bundled test with changes, and return its name."""
    entries = yaml.safe_load((find_zoo_configs()[base.removesuffix("_test")] / "model_config.yaml").read_text())
    datasets = yaml.safe_load((TINY / "dataset_config.yaml").read_text())
    dataset = datasets["tiny_flights"]
    dataset.update({f"{split}_data": str(TINY / f"{split}.csv") for split in ("train", "valid", "test")})
    dataset.update(data or {})
    experiment = {**entries["Base"], **entries[base], "epochs": 1, "verbose": 0, **(model or {})}
    Path("config").mkdir(exist_ok=True)
    Path("config/model_config.yaml").write_text(yaml.safe_dump({expid: experiment}))
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump(datasets))
    return "config"
