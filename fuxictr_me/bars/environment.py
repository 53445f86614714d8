"""``environments.txt``: the machine and the software, with nothing that tells whose they are."""

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


def read_environment(versions, gpu):
    """What the runs ran on, read off this machine.

    Args:
        versions (dict): of fuxictr_me, fuxictr, torch and python, as a run recorded them.
        gpu (int): CUDA device, -1 for the CPU.

    Returns:
        dict: key -> text, in BARS' order: fuxictr comes last, where BARS' scripts read it.
    """
    on_gpu = gpu >= 0 and torch.cuda.is_available()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": _cpu(),
        "GPU": _gpu(gpu) if on_gpu else "none used",
        "RAM": f"{memory / 2**30:.0f}G",
        "CUDA": str(torch.version.cuda) if on_gpu else "none used",
        "python": versions["python"],
        "pytorch": versions["torch"],
        **{key: importlib.metadata.version(package) for key, package in PACKAGES.items()},
        "fuxictr-me": versions["fuxictr_me"],
        "fuxictr": versions["fuxictr"].split()[0],
    }


def environment_parts(environment):
    """Heading -> its lines."""
    lines = [f"{key}: {value}" for key, value in environment.items()]
    return dict(zip(HEADINGS, (lines[:3], lines[3:]), strict=True))


def environment_text(environment):
    """``environments.txt`` of it."""
    parts = environment_parts(environment).items()
    return "\n".join("\n".join([heading, *lines, ""]) for heading, lines in parts)


def parse_environment(text):
    """Key -> text of an ``environments.txt``; CUDA is in capitals, as some entries have it and others not."""
    pairs = re.findall(r"^([^\s:\[][^:\n]*):[ \t]*(\S.*)$", text, re.MULTILINE)
    return {"CUDA" if key.lower() == "cuda" else key: value.strip() for key, value in pairs}


def _cpu():
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def _gpu(gpu):
    device = torch.cuda.get_device_properties(gpu)
    return f"{device.name} {device.total_memory / 2**30:.0f}G"
