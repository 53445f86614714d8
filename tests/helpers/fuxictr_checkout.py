"""A small imitation of FuxiCTR's repository, with a script and a model zoo."""

import numpy as np
import pytest
import yaml

from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map

SCRIPT = """
import os
os.chdir(os.path.dirname(os.path.realpath(__file__)))
import sys
import zoo_path
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import load_config, set_logger
import model_zoo

if __name__ == "__main__":
    config, expid = sys.argv[sys.argv.index("--config") + 1], sys.argv[sys.argv.index("--expid") + 1]
    params = load_config(config, expid)
    params["gpu"] = -1
    set_logger(params)
    seed_everything(params["seed"])
    data_dir = os.path.join(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], data_dir)
    feature_map.load(os.path.join(data_dir, "feature_map.json"), params)
    model = getattr(model_zoo, params["model"])(feature_map, **params)
    train_gen, valid_gen = RankDataLoader(feature_map, stage="train", **params).make_iterator()
    model.fit(train_gen, validation_data=valid_gen, **params)
    test_gen = RankDataLoader(feature_map, stage="test", **params).make_iterator()
    print("RESULT", model.evaluate(test_gen)["AUC"])
"""
THEIRS = """
import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel


class Theirs(BaseModel):
    def __init__(self, feature_map, learning_rate=1e-3, embedding_dim=4, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.fc = torch.nn.Linear(feature_map.num_fields * embedding_dim, 1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()

    def forward(self, inputs):
        return {"y_pred": self.fc(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)).sigmoid()}
"""


@pytest.fixture
def checkout(tmp_path):
    """Write experiment/run_expid.py, model_zoo/__init__.py, data/made/*.npz and a config to ``tmp_path``."""
    for folder in ("experiment", "model_zoo", "data/made", "config"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "experiment" / "run_expid.py").write_text(SCRIPT)
    (tmp_path / "experiment" / "zoo_path.py").write_text("import sys\nsys.path.append('../')\n")
    (tmp_path / "model_zoo" / "theirs.py").write_text(THEIRS)
    (tmp_path / "model_zoo" / "__init__.py").write_text("from .theirs import Theirs\n")
    feature_map = make_feature_map({"user": categorical(11), "item": categorical(7)}, tmp_path / "data" / "made")
    for split in ("train", "valid", "test"):
        batch = make_batch(feature_map, rows=200)
        np.savez(tmp_path / "data" / "made" / f"{split}.npz", **{k: v.numpy() for k, v in batch.items()})
    paths = {f"{split}_data": f"../data/made/{split}.npz" for split in ("train", "valid", "test")}
    dataset = {"made": {"data_root": "../data/", "data_format": "npz", **paths}}
    base = {"dataset_id": "made", "metrics": ["AUC"], "model_root": "./checkpoints/", "seed": 1, "epochs": 1}
    base |= {**MODEL, "batch_size": 50, "num_workers": 0, "callbacks": ["InformationAbundance"], "embedding_dim": 4}
    experiments = {"Base": base, "ours": {"model": "DNN_ME", "num_sets": 2}, "theirs": {"model": "Theirs"}}
    experiments |= {"theirs_ME": {"model": "Theirs", "num_sets": 2}}
    experiments |= {"wrong_merge": {"model": "Theirs", "num_sets": 2, "merge": "fcc"}}
    experiments |= {"wrong": {"model": "DNNME"}, "wrong_key": {"model": "DNN_ME", "num_set": 2}}
    (tmp_path / "config" / "model_config.yaml").write_text(yaml.safe_dump(experiments))
    (tmp_path / "config" / "dataset_config.yaml").write_text(yaml.safe_dump(dataset))
    return tmp_path
