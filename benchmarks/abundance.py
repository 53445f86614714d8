"""Information abundance of large tables: seconds, extra memory, and the error against a known answer.

    python benchmarks/abundance.py [--gpu 0]

Tables are U diag(σ) Vᵀ of random bases, with σ from 1 down to 1e-6, float64, so Σσ / max σ is known.
"""

import argparse
import os
import platform
import threading
import time
from pathlib import Path

import torch

from fuxictr_me import information_abundance

SHAPES = ((1_000_000, 10), (4_000_000, 10), (1_000_000, 100), (4_000_000, 100), (200_000, 1000))


def table_of(rows, dim):
    """A table of known singular values, built block by block."""
    right = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64)).Q
    left = torch.randn(rows, dim, dtype=torch.float64)
    R = torch.linalg.cholesky(left.T @ left).T  # left · R⁻¹ has orthonormal columns
    sigma = torch.logspace(0, -6, dim, dtype=torch.float64)
    to_table = torch.linalg.solve_triangular(R, sigma.diag() @ right.T, upper=True)
    for start in range(0, rows, 100_000):
        left[start : start + 100_000] = left[start : start + 100_000] @ to_table
    return left, float(sigma.sum())


class PeakMemory:
    """Memory in MB that a block of code takes beyond what was there, sampled on the CPU every 2 ms."""

    def __init__(self, device):
        self.device = device

    def __enter__(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        self.before = self.highest = resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.done.wait(0.002):
            self.highest = max(self.highest, resident())

    def __exit__(self, *_):
        if self.device.type == "cuda":
            self.highest = torch.cuda.max_memory_allocated(self.device)
        else:
            self.done.set()
            self.thread.join()
        self.extra = (self.highest - self.before) / 2**20


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=-1)
    device = torch.device("cpu" if (gpu := parser.parse_args().gpu) < 0 else f"cuda:{gpu}")
    torch.manual_seed(0)
    print(f"{platform.machine()}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| table | its size, MB | seconds | extra memory, MB | relative error |\n|---|---|---|---|---|")
    for rows, dim in SHAPES:
        table, expected = table_of(rows, dim)
        table = table.to(device)
        with PeakMemory(device) as memory:
            start = time.perf_counter()
            found = information_abundance(table)
            seconds = time.perf_counter() - start
        size = table.numel() * table.element_size() / 2**20
        error = abs(found - expected) / expected
        print(f"| {rows:,} x {dim} | {size:,.0f} | {seconds:.2f} | {memory.extra:,.0f} | {error:.0e} |", flush=True)
        del table


if __name__ == "__main__":
    main()
