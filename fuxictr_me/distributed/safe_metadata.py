"""A check of the pickle that torch.distributed.checkpoint writes beside the weights, before it is read."""

import pickle
from pathlib import Path
from typing import Any

import torch

from fuxictr_me.errors import UsageError

METADATA = "torch.distributed.checkpoint.metadata"
CLASSES = {(METADATA, name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING")}
CLASSES |= {(METADATA, f"{name}StorageMetadata") for name in ("Bytes", "Chunk", "Tensor")}
CLASSES |= {(METADATA, "TensorProperties")}
CLASSES |= {("torch.distributed.checkpoint.filesystem", name) for name in ("_StorageInfo", "_StoragePrefix")}
CLASSES |= {("torch", "Size"), ("torch", "device"), ("torch.serialization", "_get_layout")}
CLASSES |= {("collections", "OrderedDict"), ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath")}


def check_metadata(path: Path) -> None:
    """Check, before PyTorch reads it, that the ``.metadata`` of a saved state names only what PyTorch writes there.

    Raises:
        UsageError: it is damaged, or names anything else, which could run code.
    """
    try:
        with path.open("rb") as file:
            _CheckedUnpickler(file).load()
    except (UsageError, OSError):
        raise
    except Exception as error:
        raise UsageError(
            f"{path} is not the metadata of a saved state: {' '.join(str(error).split())[:200]}"
        ) from error


class _CheckedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in CLASSES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise UsageError(f"the metadata of the saved state names {module}.{name}, which could run code: it is not read")
