"""Batches of an H5 data set: from the GPU's memory, from RAM, or streamed."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from fuxictr_me.data.layout import META, VALUES, dtype_of
from fuxictr_me.data.order import WindowOrder
from fuxictr_me.data.sources import Rows
from fuxictr_me.errors import UsageError, positive_int, unknown

BINARY = "binary_classification"
PLACEMENTS = ("auto", "device", "memory", "stream")
SHARE_OF_FREE_MEMORY = 0.5
LOAD_ROWS = 1 << 18  # read at a time when all are held
BLOCKS_A_WINDOW = 1 << 11  # the more, the nearer to a uniform shuffle; the fewer, the longer the reads
BLOCK_ROWS = (16, 1 << 10)  # at least, at most
WINDOW_BYTES = 1 << 28


class H5DataLoader:
    """FuxiCTR's batches out of H5 files: field -> (B,) or (B, L), ids int64, numeric fields and labels float32.

    It is FuxiCTR's ``data_loader`` by contract: ``data_loader: !!python/name:fuxictr_me.data.H5DataLoader``
    in a data-set config makes an unmodified FuxiCTR script read H5. It starts no worker and collates no row.

    - ``device``: all rows lie in the GPU's memory; a batch is one ``index_select`` a dtype there.
    - ``memory``: all rows lie in RAM, in the smallest dtypes; a batch is selected there and sent as one piece.
    - ``stream``: windows of blocks are read by a background thread while the one before is fed; the shuffle
      is that of ``WindowOrder``, not a uniform one.
    - ``auto``: the first of these for which half of the free memory is enough.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        data_path (str): an H5 file, a folder of them, or a path of FuxiCTR's beside which they lie.
        split (str): ``train``, ``valid`` or ``test``; for messages.
        batch_size (int), shuffle (bool)
        seed (int): the order of the n-th epoch depends on it and n alone.
        gpu (int): where batches go; -1 for the CPU. Group ids stay on the CPU, where FuxiCTR reads them.
        data_placement (str): one of the above.
        window_rows (int or None): of a streamed window; None makes it about 256 MB.
        task (str or list of str): of all labels, or of each: those of ``binary_classification`` must be 0 or 1.

    Attributes:
        num_samples, num_blocks (int), placement (str)

    Raises:
        UsageError: data that are not there, damaged, or do not fit the feature map.
    """

    def __init__(
        self,
        feature_map,
        data_path,
        split="train",
        batch_size=32,
        shuffle=False,
        seed=2024,
        gpu=-1,
        data_placement="auto",
        window_rows=None,
        task=BINARY,
        **_,
    ):
        self.batch_size = positive_int("batch_size", batch_size)
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.device = torch.device("cpu" if gpu < 0 else f"cuda:{gpu}")
        tasks = task if isinstance(task, list) else [task] * len(feature_map.labels)
        binary = [label for label, one in zip(feature_map.labels, tasks, strict=False) if one == BINARY]
        self.rows = Rows(feature_map, data_path, split, binary)
        self.num_samples, self.num_blocks = len(self.rows), len(self.rows.files)
        self.placement = self._place(data_placement)
        layout = self.rows.layout
        if window_rows is None:
            window_rows = max(1, WINDOW_BYTES // layout.row_bytes)
        positive_int("window_rows", window_rows)
        block_rows = min(window_rows, sorted((*BLOCK_ROWS, window_rows // BLOCKS_A_WINDOW))[1])
        self.order = WindowOrder(self.num_samples, block_rows, window_rows, shuffle)
        self._held = None if self.placement == "stream" else self._load_all()
        size = f"{self.num_samples:,} rows, {self.num_samples * layout.row_bytes / 1e6:,.0f} MB"
        logging.info(f"{split} data of {Path(data_path)}: {size}, {self.placement}")

    def __len__(self):
        return -(-self.num_samples // self.batch_size)

    def __iter__(self):
        epoch, self.epoch = self.epoch, self.epoch + 1
        parts = self._of_held(epoch) if self._held else self._of_windows(epoch)
        return map(self._batch, parts)

    def _of_held(self, epoch):
        """Rows of each batch: matrix -> (B, width), on the device or in RAM."""
        order = None
        if self.shuffle:
            device = next(iter(self._held.values())).device
            generator = torch.Generator(device).manual_seed(_mixed(self.seed, epoch))
            order = torch.randperm(self.num_samples, generator=generator, device=device)
        for start in range(0, self.num_samples, self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            yield self._select(self._held, order, start, stop)

    def _of_windows(self, epoch):
        """As ``_of_held``; batches that lie across two windows are put together of both."""
        left = None
        with ThreadPoolExecutor(1, "h5-reader") as reader:
            windows = self.order.windows(self.seed, epoch)
            coming = _submit(reader, self._read_window, windows)
            while coming:
                matrices, order, count = coming.result()
                coming = _submit(reader, self._read_window, windows)
                start = 0
                if left is not None:
                    start = min(self.batch_size - _length(left), count)
                    head = self._select(matrices, order, 0, start)
                    left = {name: torch.cat([left[name], head[name]]) for name in left}
                    if _length(left) < self.batch_size:
                        continue
                    yield left
                    left = None
                for first in range(start, count, self.batch_size):
                    part = self._select(matrices, order, first, min(first + self.batch_size, count))
                    if _length(part) < self.batch_size:
                        left = part
                    else:
                        yield part
        if left is not None:
            yield left

    def _read_window(self, window):
        ranges, order = window
        count = sum(stop - start for start, stop in ranges)
        matrices, at = self.rows.layout.empty(count), 0
        for start, stop in ranges:
            part = {name: array[at : at + stop - start] for name, array in matrices.items()}
            self.rows.read(start, stop, part)
            at += stop - start
        tensors = {name: torch.from_numpy(array) for name, array in self.rows.check(matrices).items()}
        if self.device.type == "cuda":
            tensors = {name: x if name == META else x.pin_memory().to(self.device) for name, x in tensors.items()}
            order = None if order is None else torch.from_numpy(order).to(self.device)
        elif order is not None:
            order = torch.from_numpy(order)
        return tensors, order, count

    def _load_all(self):
        where = self.device if self.placement == "device" else torch.device("cpu")
        held = {}
        for name, width in self.rows.layout.widths.items():
            dtype, device = getattr(torch, dtype_of(name)), torch.device("cpu") if name == META else where
            held[name] = torch.empty((self.num_samples, width), dtype=dtype, device=device)
        for start in range(0, self.num_samples, LOAD_ROWS):
            stop = min(start + LOAD_ROWS, self.num_samples)
            for name, array in self.rows.check(self.rows.read(start, stop)).items():
                held[name][start:stop] = torch.from_numpy(array)
        return held

    def _select(self, matrices, order, start, stop):
        if order is None:
            return {name: x[start:stop] for name, x in matrices.items()}
        rows = order[start:stop]
        return {name: x.index_select(0, rows.to(x.device)) for name, x in matrices.items()}

    def _batch(self, part):
        """matrix -> (B, width) to FuxiCTR's columns, each contiguous; a matrix goes to the device as one piece."""
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

    def _place(self, asked):
        if asked not in PLACEMENTS:
            raise unknown("data_placement", asked, PLACEMENTS)
        if asked == "device" and self.device.type == "cpu":
            raise UsageError("data_placement: device needs a GPU, and gpu is -1; memory holds the data in RAM")
        if asked != "auto":
            return asked
        needed = self.num_samples * (self.rows.layout.row_bytes + 8 * self.shuffle)  # and their order
        if self.device.type == "cuda" and needed < SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(self.device)[0]:
            return "device"
        return "memory" if needed < SHARE_OF_FREE_MEMORY * free_memory() else "stream"


def free_memory():
    """Bytes of RAM that a process can still take, a container's limit included; infinite where nothing says."""
    free = [float("inf")]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit, used = (group / name for name in ("memory.max", "memory.current"))
        free.append(int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # another system, no container, or one without a limit ("max")
        pass
    return min(free)


def _submit(reader, read, windows):
    window = next(windows, None)
    return None if window is None else reader.submit(read, window)


def _length(matrices):
    return len(next(iter(matrices.values())))


def _mixed(seed, epoch):
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
