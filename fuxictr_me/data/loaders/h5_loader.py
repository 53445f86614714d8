"""Batches of an H5 data set: from the GPU's memory, from RAM, or streamed from disk."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import META, VALUES, Matrices, dtype_of
from fuxictr_me.data.h5.block_sizes import default_window_rows, streamed_block_rows
from fuxictr_me.data.h5.split_rows import SplitRows
from fuxictr_me.data.loaders.rank_shares import RankShares, mix_seeds, order_seed
from fuxictr_me.data.loaders.window_shuffle import WindowOrder
from fuxictr_me.data.row_checks import BINARY, binary_labels
from fuxictr_me.errors import UsageError, check_positive_int, unknown
from fuxictr_me.formatting import format_bytes
from fuxictr_me.io.free_memory import free_memory

PLACEMENTS = ("auto", "device", "memory", "stream")
SHARE_OF_FREE_MEMORY = 0.5
LOAD_ROWS = 1 << 18  # rows read at a time to hold them all

Window = tuple[list[tuple[int, int]], np.ndarray | None]  # ranges of rows, and their order
Read = TypeVar("Read")
Tensors = dict[str, torch.Tensor]  # matrix -> (n, width), or field -> (B,) or (B, L)


class H5DataLoader:
    """Loader of H5 data: field -> (B,) or (B, L), ids as int64, numeric fields and labels as float32.

    It keeps the contract of FuxiCTR's ``data_loader``: ``data_loader: !!python/name:fuxictr_me.data.H5DataLoader`` in a
    data-set config lets an unmodified FuxiCTR script read H5. It starts no workers and collates no rows.

    - ``device``: all rows lie in the GPU's memory; a batch is one ``index_select`` per dtype there.
    - ``memory``: all rows lie in RAM, in the smallest dtypes; a batch is selected there and sent as one piece each.
    - ``stream``: a background thread reads the next window of blocks while one is fed; ``WindowOrder`` shuffles, which
      is not a uniform shuffle.
    - ``auto``: the first of these for which half of the free memory suffices.

    Args:
        feature_map: of the data set.
        data_path: an H5 file, a folder of them, or a path of FuxiCTR's beside which they lie.
        split: ``train``, ``valid`` or ``test``, for messages.
        batch_size: rows of a batch, over all processes; the last batch may have fewer.
        shuffle: whether each epoch has a new random order.
        seed: the order of the n-th epoch depends only on it and n. None takes torch's seed, so that
            ``torch.manual_seed`` and FuxiCTR's ``seed_everything`` decide the order.
        gpu: device of the batches, -1 for the CPU. Group ids stay on the CPU, where FuxiCTR reads them.
        data_placement: one of the above.
        window_rows: rows of a streamed window; None makes it about 256 MB.
        task: one for all labels, or one per label: those of ``binary_classification`` must be 0 or 1.
        share: (member, members) of the processes that share each batch. This process then reads and holds only its rows
            and yields its part of each batch, which may be empty, see ``RankShares``. The rows of streamed batches
            depend on the number of members, but not their sizes.

    Attributes:
        num_samples: rows of the whole split.
        num_blocks: files of the whole split.
        placement: the chosen ``data_placement``.
        rank_shares: the rows of this process; None without ``share``.

    Raises:
        UsageError: the data are missing, damaged, or do not fit the feature map; or a batch has fewer rows than there
            are members. Rows are checked before they are fed, those of ``stream`` while the windows are read.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        data_path: str | Path,
        split: str = "train",
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
        gpu: int = -1,
        data_placement: str = "auto",
        window_rows: int | None = None,
        task: str | list[str] | None = BINARY,
        share: tuple[int, int] | None = None,
        **_: object,
    ) -> None:
        self.batch_size = check_positive_int("batch_size", batch_size)
        self.shuffle, self.seed, self.epoch = shuffle, order_seed(seed), 0
        self.device = torch.device("cpu" if gpu < 0 else f"cuda:{gpu}")
        self.rows = SplitRows(feature_map, data_path, split, binary_labels(feature_map.labels, task))
        self.num_samples, self.num_blocks = len(self.rows), len(self.rows.files)
        self._share = RankShares(self.num_samples, batch_size, *(share or (0, 1)), shuffle)
        self.rank_shares = self._share if share else None
        self.placement = self._choose_placement(data_placement)
        layout = self.rows.layout
        if window_rows is None:
            window_rows = default_window_rows(layout.row_bytes)
        check_positive_int("window_rows", window_rows)
        block_rows = streamed_block_rows(layout.row_bytes, window_rows)
        origins = self.rows.file_starts(self._share.rows)
        self.order = WindowOrder(len(self._share.rows), block_rows, window_rows, shuffle, origins)
        self._held: Tensors = {} if self.placement == "stream" else self._load_all()
        count = len(self._share.rows)
        rows = f"{count:,} of {self.num_samples:,}" if share else f"{count:,}"
        size = f"{rows} rows, {format_bytes(count * layout.row_bytes)}"
        logging.info(f"{split} data of {Path(data_path)}: {size}, {self.placement}")

    def __len__(self) -> int:
        return len(self._share)

    def __iter__(self) -> Iterator[Tensors]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        parts = self._iterate_held(epoch) if self._held else self._iterate_windows(epoch)
        return map(self._to_batch, parts)

    @property
    def holds_rows_on_device(self) -> bool:
        """Whether ``row_batches`` and ``select`` can be used: rows lie on the batches' device, unshared."""
        return (
            bool(self._held) and self.rank_shares is None and all(x.device == self.device for x in self._held.values())
        )

    def row_batches(self) -> Iterator[torch.Tensor]:
        """Yield the row numbers of each batch of the next epoch, (B,) on the device, for ``select``."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = self._epoch_order(epoch)
        for start in range(0, self.num_samples, self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            yield torch.arange(start, stop, device=self.device) if order is None else order[start:stop]

    def select(self, rows: torch.Tensor) -> Tensors:
        """Return the batch of these rows, without synchronising with the GPU.

        Args:
            rows: (B,), row numbers on the device.

        Returns:
            Field -> (B,) or (B, L).
        """
        return self._to_batch({name: x.index_select(0, rows) for name, x in self._held.items()})

    def _batch_sizes(self) -> Iterator[int]:
        for i in range(len(self)):
            _, start, stop = self._share.part(i)
            yield stop - start

    def _iterate_held(self, epoch: int) -> Iterator[Tensors]:
        """Yield the rows of each batch: matrix -> (B, width), on the device or in RAM."""
        order, start = self._epoch_order(epoch), 0
        for size in self._batch_sizes():
            yield _select(self._held, order, start, start + size)
            start += size

    def _epoch_order(self, epoch: int) -> torch.Tensor | None:
        device = next(iter(self._held.values())).device
        if self.rank_shares is not None:
            return self.rank_shares.order(self.seed, epoch, device)
        if not self.shuffle:
            return None
        generator = torch.Generator(device).manual_seed(mix_seeds(self.seed, epoch))
        return torch.randperm(self.num_samples, generator=generator, device=device)

    def _iterate_windows(self, epoch: int) -> Iterator[Tensors]:
        """Yield the rows of each batch, as ``_iterate_held``; a batch may have rows of several windows."""
        seed = self.seed if self.rank_shares is None else mix_seeds(self.seed, self.rank_shares.member)
        with ThreadPoolExecutor(1, "h5-reader") as reader:
            windows = _read_ahead(reader, self._read_window, self.order.windows(seed, epoch))
            matrices, order, start, count = _to_tensors(self.rows.layout.allocate(0)), None, 0, 0
            for size in self._batch_sizes():
                parts = []
                while size > count - start:
                    if start < count:
                        parts.append(_select(matrices, order, start, count))
                        size -= count - start
                    (matrices, order, count), start = next(windows), 0
                parts.append(_select(matrices, order, start, start + size))
                start += size
                yield parts[0] if len(parts) == 1 else {name: torch.cat([p[name] for p in parts]) for name in matrices}

    def _read_window(self, window: Window) -> tuple[Tensors, torch.Tensor | None, int]:
        """Return matrices, the order of their rows or None, and the number of rows."""
        ranges, order = window
        count = sum(stop - start for start, stop in ranges)
        first = self._share.rows.start
        tensors = _to_tensors(self.rows.read_ranges([(first + start, first + stop) for start, stop in ranges]))
        if self.device.type == "cuda":
            tensors = {name: x if name == META else x.pin_memory().to(self.device) for name, x in tensors.items()}
        return tensors, None if order is None else torch.from_numpy(order).to(self.device), count

    def _load_all(self) -> Tensors:
        """Read all rows of this process: matrix -> (rows, width), on the device or in RAM."""
        own = self._share.rows
        device = self.device if self.placement == "device" else torch.device("cpu")
        held = {}
        for name, width in self.rows.layout.widths.items():
            target = torch.device("cpu") if name == META else device
            held[name] = torch.empty((len(own), width), dtype=getattr(torch, dtype_of(name)), device=target)
        for first in range(own.start, own.stop, LOAD_ROWS):
            stop = min(first + LOAD_ROWS, own.stop)
            parts = {name: x[first - own.start : stop - own.start] for name, x in held.items()}
            in_memory = {name: x.numpy() for name, x in parts.items() if x.device.type == "cpu"}
            read = self.rows.layout.allocate(stop - first) | in_memory
            self.rows.read_ranges(self.rows.divide(first, stop), read)
            for name in parts.keys() - in_memory.keys():
                parts[name].copy_(torch.from_numpy(read[name]))
        return held

    def _to_batch(self, part: Tensors) -> Tensors:
        """Turn matrix -> (B, width) into FuxiCTR's contiguous columns; a matrix is sent to the device as one piece."""
        columns = {}
        for name, x in part.items():
            if name != META and x.device != self.device:
                x = x.pin_memory().to(self.device, non_blocking=True)
            dtype = torch.float32 if name == VALUES else torch.int64
            columns[name] = x.t().to(dtype, memory_format=torch.contiguous_format)  # (width, B)
        batch = {}
        for name, place in self.rows.layout.places.items():
            rows = columns[place.matrix]
            batch[name] = rows[place.start : place.stop].t().contiguous() if place.is_vector else rows[place.start]
        return batch

    def _choose_placement(self, placement: str) -> str:
        if placement not in PLACEMENTS:
            raise unknown("data_placement", placement, PLACEMENTS)
        if placement == "device" and self.device.type == "cpu":
            raise UsageError("data_placement: device needs a GPU, and gpu is -1; memory holds the data in RAM")
        if placement != "auto":
            return placement
        needed = len(self._share.rows) * (self.rows.layout.row_bytes + 8 * self.shuffle)  # 8 bytes for the order
        if self.device.type == "cuda" and needed < SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(self.device)[0]:
            return "device"
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # started by torchrun on this machine
        return "memory" if needed < SHARE_OF_FREE_MEMORY * free_memory() / processes else "stream"


def _select(matrices: Tensors, order: torch.Tensor | None, start: int, stop: int) -> Tensors:
    if order is None:
        return {name: x[start:stop] for name, x in matrices.items()}
    rows = order[start:stop]
    return {name: x.index_select(0, rows.to(x.device)) for name, x in matrices.items()}


def _read_ahead(reader: Executor, read: Callable[[Window], Read], windows: Iterator[Window]) -> Iterator[Read]:
    """Yield what ``read`` returns for each window, while it reads the next one."""
    window = next(windows, None)
    coming = None if window is None else reader.submit(read, window)
    while coming:
        result, window = coming.result(), next(windows, None)
        coming = None if window is None else reader.submit(read, window)
        yield result


def _to_tensors(matrices: Matrices) -> Tensors:
    return {name: torch.from_numpy(array) for name, array in matrices.items()}
