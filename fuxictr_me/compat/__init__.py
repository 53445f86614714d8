"""Import FuxiCTR, and bridge the differences between its wheel and its main branch.

FuxiCTR is imported here once, with stand-ins for ray and scikit-learn that end with the import (see ``stand_ins``).
Afterwards, all of FuxiCTR can also be imported by its own names, even if ray is not installed.
"""

import importlib

from fuxictr_me.compat.stand_ins import stand_ins

for _name in ("h5py", "polars", "torch", "tqdm"):
    importlib.import_module(_name)  # so that other packages that FuxiCTR imports do not get stand-ins
with stand_ins():
    from fuxictr import metrics as fuxictr_metrics
    from fuxictr.datasets.avazu import CustomizedFeatureProcessor as AvazuProcessor
    from fuxictr.datasets.criteo import CustomizedFeatureProcessor as CriteoProcessor
    from fuxictr.pytorch import dataloaders
    from fuxictr.pytorch import layers as fuxictr_layers
    from fuxictr.pytorch import models as fuxictr_models
    from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression, PretrainedEmbedding
    from fuxictr.pytorch.models import BaseModel, MultiTaskModel

__all__ = [
    "AvazuProcessor",
    "BaseModel",
    "CriteoProcessor",
    "FeatureEmbedding",
    "FeatureEmbeddingDict",
    "LogisticRegression",
    "MultiTaskModel",
    "PretrainedEmbedding",
    "dataloaders",
    "fuxictr_layers",
    "fuxictr_metrics",
    "fuxictr_models",
]
