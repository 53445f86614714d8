"""The device that a process of the benchmark measures on: its clock, its memory, and data made on it."""

import gc
import importlib.util
import json
import os
import sys
import time
import types
from pathlib import Path

import torch
from torch import Tensor

FIELDS = 39


class Machine:
    """What the parts of the benchmark share.

    Args:
        folder: of files that the run leaves behind for nobody, with one feature map per number of ids.
        is_tiny: whether everything runs on a CPU, at a small size.
    """

    def __init__(self, folder: str | Path, is_tiny: bool):
        self.folder, self.is_tiny = Path(folder), is_tiny
        self.device = torch.device("cpu" if is_tiny else "cuda:0")
        self.gpu = -1 if is_tiny else 0
        self.checkpoints = str(self.folder / f"checkpoints_{os.getpid()}")  # which no other cell writes to

    def wait(self) -> float:
        """Return the time in seconds when the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def clean(self) -> None:
        """Free what nothing uses, and count the peak of memory from here on."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        """Return the most bytes allocated at a time since ``clean``; 0 on a CPU, where nobody counts."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def feature_map(self, ids: int) -> object:
        """Return the feature map that ``write_feature_map`` wrote."""
        from fuxictr_me.data import feature_maps

        return feature_maps.load(self.folder / f"ids_{ids}")


def stand_in_for_h5py() -> None:
    """Let fuxictr-me be imported where h5py is not installed; no file of it is read or written here."""
    if "h5py" in sys.modules or importlib.util.find_spec("h5py") is not None:
        return

    class StandIn(types.ModuleType):
        def __getattr__(self, name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})  # of annotations

    sys.modules["h5py"] = StandIn("h5py")


def write_feature_map(folder: Path, ids: int) -> None:
    """Write the feature map of Criteo's 39 fields with so many ids in all."""
    from fuxictr_me.data.generate import SyntheticClicks

    place = folder / f"ids_{ids}"
    place.mkdir(exist_ok=True)
    content = SyntheticClicks(num_fields=FIELDS, num_ids=ids).feature_map(place.name)
    (place / "feature_map.json").write_text(json.dumps(content))


def made_loader(
    feature_map: object, rows: int, batch_size: int, device: torch.device, seed: int = 1, shuffle: bool = True
) -> object:
    """Return an ``H5DataLoader`` whose rows were drawn on the device rather than read.

    Frequent ids come first in each field; a quarter of the labels are 1.
    """
    from fuxictr_me.data.column_layout import Layout, dtype_of

    layout = Layout.of(feature_map)
    random = torch.Generator(device).manual_seed(seed)
    held = {
        name: torch.zeros(rows, width, dtype=getattr(torch, dtype_of(name)), device=device)
        for name, width in layout.widths.items()
    }
    for name, place in layout.places.items():
        u = torch.rand(rows, generator=random, device=device)
        size = feature_map.features[name]["vocab_size"] - 2 if name in feature_map.features else None
        column = (u < 0.25) if size is None else (u**3 * size).long().clamp_(max=size - 1) + 1
        held[place.matrix][:, place.start] = column.to(held[place.matrix].dtype)
    return loader_of(held, layout, batch_size, device, shuffle)


def loader_of(
    held: dict[str, Tensor], layout: object, batch_size: int, device: torch.device, shuffle: bool = True
) -> object:
    """Return an ``H5DataLoader`` that holds these rows, dtype -> (N, columns), on ``device``."""
    from fuxictr_me.data.h5_loader import H5DataLoader
    from fuxictr_me.data.rank_shares import RankShares

    rows = len(next(iter(held.values())))
    loader = H5DataLoader.__new__(H5DataLoader)
    loader.batch_size, loader.shuffle, loader.seed, loader.epoch = batch_size, shuffle, 2024, 0
    loader.device, loader.num_samples, loader.num_blocks, loader.rank_shares = device, rows, 1, None
    loader.rows, loader._held, loader.placement = types.SimpleNamespace(layout=layout), held, "device"
    loader._share = RankShares(rows, batch_size, 0, 1, shuffle)
    loader._own = loader._share.rows
    return loader


def bytes_of(loader: object) -> int:
    """Return the bytes of the rows that a loader holds."""
    return sum(x.numel() * x.element_size() for x in loader._held.values())
