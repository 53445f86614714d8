"""``environments.txt``: hardware and software of the runs, without names of users or hosts."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import torch

PACKAGES = {"pandas": "pandas", "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "pyyaml": "pyyaml"}
PACKAGES |= {"h5py": "h5py", "tqdm": "tqdm"}
NEEDED = ("CPU", "GPU", "RAM", "CUDA", "python", "pytorch", *PACKAGES, "fuxictr")
HEADINGS = ("[Hardware]", "[Software]")


def read_environment(versions: dict[str, str], gpu: int) -> dict[str, str]:
    """Return the environment of this machine, key -> text, in BARS' order.

    ``fuxictr`` comes last, because BARS' scripts read it there.

    Args:
        versions: of fuxictr_me, fuxictr, torch and python, as a run recorded them.
        gpu: CUDA device, -1 for the CPU.
    """
    on_gpu = gpu >= 0 and torch.cuda.is_available()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": _read_cpu_name(),
        "GPU": _read_gpu_name(gpu) if on_gpu else "none used",
        "RAM": f"{memory / 2**30:.0f}G",
        "CUDA": str(torch.version.cuda) if on_gpu else "none used",
        "python": versions["python"],
        "pytorch": versions["torch"],
        **{key: importlib.metadata.version(package) for key, package in PACKAGES.items()},
        "fuxictr-me": versions["fuxictr_me"],
        "fuxictr": versions["fuxictr"].split()[0],
    }


def split_environment(environment: dict[str, str]) -> dict[str, list[str]]:
    """Return heading -> its lines."""
    lines = [f"{key}: {value}" for key, value in environment.items()]
    return dict(zip(HEADINGS, (lines[:3], lines[3:]), strict=True))


def write_environment(environment: dict[str, str]) -> str:
    """Return the text of ``environments.txt``."""
    return "\n".join("\n".join([heading, *lines, ""]) for heading, lines in split_environment(environment).items())


def parse_environment(text: str) -> dict[str, str]:
    """Return key -> text of an ``environments.txt``. The key CUDA, which entries spell in two ways, is upper case."""
    pairs = re.findall(r"^([^\s:\[][^:\n]*):[ \t]*(\S.*)$", text, re.MULTILINE)
    return {"CUDA" if key.lower() == "cuda" else key: value.strip() for key, value in pairs}


def _read_cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return match[1].strip() if match else platform.processor() or platform.machine()


def _read_gpu_name(gpu: int) -> str:
    device = torch.cuda.get_device_properties(gpu)
    return f"{device.name} {device.total_memory / 2**30:.0f}G"
