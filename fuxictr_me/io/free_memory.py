"""Free memory of this machine."""

from pathlib import Path


def free_memory() -> float:
    """Return the bytes of RAM that a process can still use, within the limit of a container; infinity if unknown."""
    free = [float("inf")]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit, used = (group / name for name in ("memory.max", "memory.current"))
        free.append(int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # another system, no container, or a container without a limit ("max")
        pass
    return min(free)
