"""Multi-embedding CTR models for FuxiCTR, and a measure of whether embeddings collapse."""

import importlib

__version__ = "0.1.0"

_HOME = {
    "Callback": "training.callbacks",
    "DCNv2_ME": "models",
    "DNN_ME": "models",
    "FinalMLP_ME": "models",
    "H5DataLoader": "data",
    "InformationAbundance": "training.callbacks",
    "Log": "training.callbacks",
    "Mixed_ME": "models",
    "MultiEmbedding": "nn.embedding_sets",
    "MultiEmbeddingModel": "models",
    "MultiEmbeddingOf": "wrap",
    "NFwFM_ME": "models",
    "PNN_ME": "models",
    "RankAlongDepth": "training.callbacks",
    "ReinitialiseEmbeddings": "training.callbacks",
    "RunError": "errors",
    "UsageError": "errors",
    "attach": "training.callbacks",
    "information_abundance": "collapse",
    "register": "zoo.zoo_import",
    "singular_values": "collapse",
    "xDeepFM_ME": "models",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name on first use: FuxiCTR and torch take seconds to import, and ``--help`` needs neither."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
