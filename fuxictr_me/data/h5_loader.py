"""Batches of an H5 data set: from the GPU's memory, from RAM, or streamed."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fuxictr_me.data.column_layout import META, VALUES, dtype_of
from fuxictr_me.data.label_values import BINARY, binary_labels
from fuxictr_me.data.rank_shares import RankShares, mixed_seed, order_seed
from fuxictr_me.data.split_files import Rows
from fuxictr_me.data.window_shuffle import WindowOrder
from fuxictr_me.errors import UsageError, positive_int, unknown

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
        seed (int or None): the order of the n-th epoch depends on it and n alone. None takes torch's, so that
            ``torch.manual_seed`` and FuxiCTR's ``seed_everything`` decide the order, too.
        gpu (int): where batches go; -1 for the CPU. Group ids stay on the CPU, where FuxiCTR reads them.
        data_placement (str): one of the above.
        window_rows (int or None): of a streamed window; None makes it about 256 MB.
        task (str or list of str): of all labels, or of each: those of ``binary_classification`` must be 0 or 1.
        share ((int, int) or None): (member, members) of processes that share each batch. This one reads and holds
            its own rows alone and yields its part of every batch, which may have no rows: see ``RankShares``. ``auto``
            counts its own rows. Streamed, batches are as large, but their rows depend on the number of members.

    Attributes:
        num_samples, num_blocks (int): of the whole split, as is ``len``, the number of batches.
        placement (str)
        rank_shares (RankShares or None): which rows are this member's; None without ``share``.

    Raises:
        UsageError: data that are not there, damaged, or do not fit the feature map; batches of fewer rows than
            members. Rows are checked before they are fed, those of ``stream`` while the windows are read.
    """

    def __init__(
        self,
        feature_map,
        data_path,
        split="train",
        batch_size=32,
        shuffle=False,
        seed=None,
        gpu=-1,
        data_placement="auto",
        window_rows=None,
        task=BINARY,
        share=None,
        **_,
    ):
        self.batch_size = positive_int("batch_size", batch_size)
        self.shuffle, self.seed, self.epoch = shuffle, order_seed(seed), 0
        self.device = torch.device("cpu" if gpu < 0 else f"cuda:{gpu}")
        self.rows = Rows(feature_map, data_path, split, binary_labels(feature_map.labels, task))
        self.num_samples, self.num_blocks = len(self.rows), len(self.rows.files)
        self._share = RankShares(self.num_samples, batch_size, *(share or (0, 1)), shuffle)
        self.rank_shares, self._own = self._share if share else None, self._share.rows
        self.placement = self._place(data_placement)
        layout = self.rows.layout
        if window_rows is None:
            window_rows = max(1, WINDOW_BYTES // layout.row_bytes)
        positive_int("window_rows", window_rows)
        block_rows = min(window_rows, sorted((*BLOCK_ROWS, window_rows // BLOCKS_A_WINDOW))[1])
        self.order = WindowOrder(len(self._own), block_rows, window_rows, shuffle)
        self._held = None if self.placement == "stream" else self._load_all()
        rows = f"{len(self._own):,} of {self.num_samples:,}" if share else f"{self.num_samples:,}"
        size = f"{rows} rows, {len(self._own) * layout.row_bytes / 1e6:,.0f} MB"
        logging.info(f"{split} data of {Path(data_path)}: {size}, {self.placement}")

    def __len__(self):
        return len(self._share)

    def __iter__(self):
        epoch, self.epoch = self.epoch, self.epoch + 1
        parts = self._of_held(epoch) if self._held else self._of_windows(epoch)
        return map(self._batch, parts)

    @property
    def holds_rows_on_device(self) -> bool:
        """Whether ``row_batches`` and ``select`` can be used: all rows lie where batches go, none is shared out."""
        held = self._held
        return bool(held) and self.rank_shares is None and all(x.device == self.device for x in held.values())

    def row_batches(self) -> Iterator[torch.Tensor]:
        """As ``__iter__``, but yields the row numbers of each batch, (B,) on the device, for ``select``."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        order = self._order(epoch)
        for start in range(0, self.num_samples, self.batch_size):
            stop = min(start + self.batch_size, self.num_samples)
            yield torch.arange(start, stop, device=self.device) if order is None else order[start:stop]

    def select(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the batch of these rows: field -> (B,) or (B, L). On a GPU it asks the device nothing.

        Args:
            rows: (B,), row numbers on the device.
        """
        return self._batch({name: x.index_select(0, rows) for name, x in self._held.items()})

    def _sizes(self):
        for i in range(len(self)):
            _, start, stop = self._share.part(i)
            yield stop - start

    def _of_held(self, epoch):
        """Rows of each batch: matrix -> (B, width), on the device or in RAM."""
        order, start = self._order(epoch), 0
        for size in self._sizes():
            yield self._select(self._held, order, start, start + size)
            start += size

    def _order(self, epoch):
        device = next(iter(self._held.values())).device
        if self.rank_shares is not None:
            return self.rank_shares.order(self.seed, epoch, device)
        if not self.shuffle:
            return None
        generator = torch.Generator(device).manual_seed(mixed_seed(self.seed, epoch))
        return torch.randperm(self.num_samples, generator=generator, device=device)

    def _of_windows(self, epoch):
        """As ``_of_held``; batches that lie across windows are put together of all."""
        seed = self.seed if self.rank_shares is None else mixed_seed(self.seed, self.rank_shares.member)
        with ThreadPoolExecutor(1, "h5-reader") as reader:
            windows = _read_ahead(reader, self._read_window, self.order.windows(seed, epoch))
            matrices, order, start, count = _tensors(self.rows.layout.empty(0)), None, 0, 0
            for size in self._sizes():
                parts = []
                while size > count - start:
                    if start < count:
                        parts.append(self._select(matrices, order, start, count))
                        size -= count - start
                    (matrices, order, count), start = next(windows), 0
                parts.append(self._select(matrices, order, start, start + size))
                start += size
                yield parts[0] if len(parts) == 1 else {name: torch.cat([p[name] for p in parts]) for name in matrices}

    def _read_window(self, window):
        ranges, order = window
        count = sum(stop - start for start, stop in ranges)
        first = self._own.start
        tensors = _tensors(self.rows.read_ranges([(first + start, first + stop) for start, stop in ranges]))
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
            held[name] = torch.empty((len(self._own), width), dtype=dtype, device=device)
        for first in range(self._own.start, self._own.stop, LOAD_ROWS):
            stop = min(first + LOAD_ROWS, self._own.stop)
            parts = {name: x[first - self._own.start : stop - self._own.start] for name, x in held.items()}
            in_memory = {name: x.numpy() for name, x in parts.items() if x.device.type == "cpu"}
            read = self.rows.layout.empty(stop - first) | in_memory
            self.rows.read_ranges(self.rows.pieces(first, stop), read)
            for name in parts.keys() - in_memory.keys():
                parts[name].copy_(torch.from_numpy(read[name]))
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
        needed = len(self._own) * (self.rows.layout.row_bytes + 8 * self.shuffle)  # and their order
        if self.device.type == "cuda" and needed < SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(self.device)[0]:
            return "device"
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # that torchrun has started on this machine
        return "memory" if needed < SHARE_OF_FREE_MEMORY * free_memory() / processes else "stream"


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


def _read_ahead(reader, read, windows):
    """What ``read`` makes of each window, while the next is being read."""
    coming = _submit(reader, read, windows)
    while coming:
        window = coming.result()
        coming = _submit(reader, read, windows)
        yield window


def _submit(reader, read, windows):
    window = next(windows, None)
    return None if window is None else reader.submit(read, window)


def _tensors(matrices):
    return {name: torch.from_numpy(array) for name, array in matrices.items()}
