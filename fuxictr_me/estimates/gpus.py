"""Memory and speed of GPUs, from their data sheets."""

from dataclasses import dataclass, replace

import torch

from fuxictr_me.errors import unknown


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: name in ``GPUS``, or of the device.
        memory: bytes; a GB of the data sheet counts as 10⁹.
        bandwidth: of its memory, in bytes/s.
        peaks: precision -> FLOP/s of dense matrix products, for the precisions that it has.
    """

    name: str
    memory: float
    bandwidth: float
    peaks: dict[str, float]

    def peak(self, precision: str) -> float:
        """Return the FLOP/s of a precision, or those of float32 if the GPU does not have it."""
        return self.peaks.get(precision, self.peaks["float32"])


def _gpu(name: str, gigabytes: float, terabytes_per_second: float, **teraflops: float) -> Gpu:
    return Gpu(name, gigabytes * 1e9, terabytes_per_second * 1e12, {p: flops * 1e12 for p, flops in teraflops.items()})


# From NVIDIA's data sheets, without sparsity, which doubles their figures of tensor cores. BF16 accumulates in float32.
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


def find_gpu(name: str) -> Gpu:
    """Return a GPU by its name; case and blanks do not matter.

    Raises:
        UsageError: the name is unknown.
    """
    key = str(name).replace(" ", "").upper()
    if key not in GPUS:
        raise unknown("GPU", name, GPUS)
    return GPUS[key]


def gpu_of_device(index: int) -> Gpu:
    """Return a CUDA device of this machine. Its speeds are those of its name in ``GPUS``, or else an H100's.

    Args:
        index: number of the CUDA device.
    """
    device = torch.cuda.get_device_properties(index)
    words = device.name.upper().replace("RTX ", "RTX").replace("-", " ").split()
    like = next((gpu for name, gpu in GPUS.items() if name in words), GPUS["H100"])
    return replace(like, name=device.name, memory=device.total_memory)
