"""What the benchmarks share: a process of its own for each thing measured, and the memory of all its children."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path


def run_alone(script, *arguments):
    """Run ``python script arguments`` and read the JSON of its last line.

    Returns:
        dict: what it printed, and ``peak_mb``: the most that it and all its children held at a time
        (resident memory without mapped files; what processes share counts in each).

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, str(script), *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.05):
            peak[0] = max(peak[0], tree_bytes(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = child.communicate()
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return {**json.loads(out.strip().splitlines()[-1]), "peak_mb": peak[0] / 1e6}


def tree_bytes(pid):
    """Bytes that a process and its descendants hold, files that they map left out; Linux."""
    parents, held = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            process = int(folder.name)
            parents[process] = int(status["PPid"])
            held[process] = 1024 * sum(int(status[key].split()[0]) for key in ("RssAnon", "RssShmem"))
        except (OSError, KeyError):  # it has ended, or is the kernel's
            continue
    total, left = 0, [pid]
    while left:
        process = left.pop()
        total += held.get(process, 0)
        left += [child for child, parent in parents.items() if parent == process]
    return total


def now():
    """Seconds, to subtract."""
    return time.perf_counter()
