"""Which rows of a split, and of each of its batches, each of several processes feeds."""

from dataclasses import dataclass

import numpy as np
import torch

from fuxictr_me.errors import UsageError

LANES = 64


@dataclass(frozen=True)
class RankShares:
    """Batches of a split that several processes share, each with rows of its own.

    N rows in batches of B, q = ⌊N/B⌋ full ones and a last one of t = N mod B, are cut into V lanes, which lie one
    after another in the file. A batch of n rows has c_v(n) = ⌊(v+1)n/V⌋ - ⌊vn/V⌋ rows of lane v, so a lane holds
    q·c_v(B) + c_v(t) rows and starts at q⌊vB/V⌋ + ⌊vt/V⌋. Member g of G has the lanes ⌊gV/G⌋ to ⌊(g+1)V/G⌋ - 1,
    contiguous rows of the file. In each epoch a lane is shuffled by a generator of (seed, epoch, v) alone; batch i
    is the i-th piece of every lane, in the order of lanes. So every row comes once an epoch, and each member holds
    its own rows only.

    - With shuffle V = 64: batches, and the order of the rows in them, are the same for any G up to 64. It is a
      stratified shuffle: each batch has as many rows, up to rounding, of every 64th of the file. Beyond 64
      members V = G, and batches depend on G.
    - Without shuffle V = G: the members' rows, one member after another, are in the file's order.

    A member's part can have no rows in the last batch, and where B < 2G also in a full one.

    Args:
        num_rows (int): N, of the whole split.
        batch_size (int): B, over all members.
        member, members (int): g and G.
        shuffle (bool)

    Raises:
        UsageError: B < G.
    """

    num_rows: int
    batch_size: int
    member: int
    members: int
    shuffle: bool

    def __post_init__(self):
        if self.batch_size < self.members:
            raise UsageError(
                "batch_size must be at least the number of processes that share a batch, "
                f"{self.members}, got {self.batch_size}"
            )

    def __len__(self):
        """Number of batches, ⌈N/B⌉."""
        return -(-self.num_rows // self.batch_size)

    @property
    def rows(self):
        """Those of the file that this member holds, a range."""
        q, t = divmod(self.num_rows, self.batch_size)
        full, rest = self._span(self.batch_size), self._span(t)
        return range(q * full.start + rest.start, q * full.stop + rest.stop)

    def part(self, i):
        """Batch i has ``total`` rows over all members; this member has its rows ``start`` to ``stop``.

        Returns:
            (int, int, int): total, start, stop.
        """
        total = min(self.batch_size, self.num_rows - i * self.batch_size)
        span = self._span(total)
        return total, span.start, span.stop

    def order(self, seed, epoch, device):
        """This member's rows in the order of an epoch, batch after batch.

        Lanes are shuffled on the CPU, since a GPU's generator draws other numbers.

        Args:
            seed, epoch (int): the order depends on these alone.
            device (torch.device): where it is wanted.

        Returns:
            Tensor or None: (own rows,), int64, positions counted from ``rows.start``; None without shuffle.
        """
        if not self.shuffle:
            return None
        q, t = divmod(self.num_rows, self.batch_size)
        width = len(self._span(self.batch_size))
        order = torch.empty(len(self.rows), dtype=torch.int64)
        full, rest = order[: q * width].view(q, width), order[q * width :]
        start = at = at_rest = 0
        for lane in self._lanes:
            c, c_rest = (self._before(lane + 1, n) - self._before(lane, n) for n in (self.batch_size, t))
            generator = torch.Generator().manual_seed(mixed_seed(seed, epoch, lane))
            rows = torch.randperm(q * c + c_rest, generator=generator).add_(start)
            full[:, at : at + c] = rows[: q * c].view(q, c)
            rest[at_rest : at_rest + c_rest] = rows[q * c :]
            start, at, at_rest = start + len(rows), at + c, at_rest + c_rest
        return order.to(device)

    @property
    def _count(self):
        """V."""
        return max(LANES, self.members) if self.shuffle else self.members

    @property
    def _lanes(self):
        """This member's."""
        return range(*(g * self._count // self.members for g in (self.member, self.member + 1)))

    def _before(self, lane, n):
        """Rows of a batch of n that are of the lanes before that one."""
        return lane * n // self._count

    def _span(self, n):
        """Rows of a batch of n that are this member's."""
        return range(self._before(self._lanes.start, n), self._before(self._lanes.stop, n))


def order_seed(seed: int | None) -> int:
    """Return the seed of a loader's order: the given one, or torch's for None.

    Raises:
        UsageError: no integer of 0 or more.
    """
    if seed is None:
        return torch.initial_seed()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed must be an integer of 0 or more, or None for torch's, got {seed!r}")
    return seed


def mixed_seed(*entropy):
    """One seed of several integers, 0 to 2⁶³ - 1."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
