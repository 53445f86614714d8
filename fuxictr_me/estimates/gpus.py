"""What GPUs can do at best, by their data sheets."""

from dataclasses import dataclass, replace

import torch

from fuxictr_me.errors import unknown


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name (str)
        memory (float): bytes, the data sheet's GB taken as 10⁹.
        bandwidth (float): of its memory, bytes a second.
        peaks (dict): precision -> FLOP a second of dense matrix products; those that it has.
    """

    name: str
    memory: float
    bandwidth: float
    peaks: dict

    def peak(self, precision):
        """FLOP a second; those of float32 where the GPU has no such precision."""
        return self.peaks.get(precision, self.peaks["float32"])


def _gpu(name, gigabytes, terabytes_a_second, **teraflops):
    return Gpu(name, gigabytes * 1e9, terabytes_a_second * 1e12, {p: flops * 1e12 for p, flops in teraflops.items()})


# NVIDIA's data sheets; sparsity, which doubles the tensor cores' figures there, left out. BF16 accumulates in float32.
GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("H200", 141, 4.8, float32=67, tf32=494.7, bf16=989.4),
        _gpu("H100", 80, 3.35, float32=67, tf32=494.7, bf16=989.4),  # SXM
        _gpu("A100", 80, 2.039, float32=19.5, tf32=156, bf16=312),  # SXM
        _gpu("V100", 32, 0.9, float32=15.7),  # SXM2
        _gpu("L4", 24, 0.3, float32=30.3, tf32=60, bf16=121),
        _gpu("A10", 24, 0.6, float32=31.2, tf32=62.5, bf16=125),
        _gpu("T4", 16, 0.32, float32=8.1),
        _gpu("RTX4090", 24, 1.008, float32=82.6, tf32=82.6, bf16=165.2),
    )
}


def find_gpu(name):
    """The GPU of that name, in any case, blanks aside.

    Raises:
        UsageError: none has it.
    """
    key = str(name).replace(" ", "").upper()
    if key not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[key]


def gpu_of_device(index):
    """The GPU that a process has: its own memory, and the speeds of the one above that its name names, or an H100's.

    Args:
        index (int): of the CUDA device.
    """
    found = torch.cuda.get_device_properties(index)
    words = found.name.upper().replace("RTX ", "RTX").replace("-", " ").split()
    like = next((gpu for name, gpu in GPUS.items() if name in words), GPUS["H100"])
    return replace(like, name=found.name, memory=found.total_memory)
