"""Measure and check fuxictr-me on one GPU: one command, figures as they come, a table at the end.

    python benchmarks/gpu/run.py [--out gpu_results] [--minutes 7.5] [--only WORD] [--tiny] [--report]

DCNv2 and the five other families on data of Criteo's shape, made on the GPU; cells.py lists what is measured. Each cell
is a process of its own, so that its memory is its own. Many cells are prepared side by side (a compilation takes a CPU
for tens of seconds); then, one after the other, each has the GPU for itself. Results are lines of JSON in
``results.jsonl`` of the folder ``--out``: cells that it has are left out, so a run that was cut off goes on with the
same command. ``--report`` prints the table of what is there. ``--tiny`` runs every part at a small size on a CPU, with
Triton's interpreter, to see that the script works; its times say nothing.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path

START = time.perf_counter()
LEAST_SECONDS = 25  # that a wave of cells takes: with less left none is begun
DONE = {"done": True}  # the last result of a cell, in the file alone
MOST_PREPARATION = 150  # seconds, after which a cell that is not ready is given up
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # CUDA must not start in the process that forks
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # many processes compile at a time
os.environ.setdefault("OMP_NUM_THREADS", "1" if "--tiny" in sys.argv else "2")
if "--tiny" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"


def main() -> int:
    """Run the benchmark; returns the number of cells that failed or were not right."""
    arguments = parse_arguments()
    out = Path(arguments.out) / "results.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        measure_all(arguments, out)
    from report import report

    results = read_results(out)
    print(report(results), flush=True)
    return sum("failed" in r["result"] or not r["result"].get("right", True) for r in results)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gpu_results", help="folder for results.jsonl (default: gpu_results)")
    parser.add_argument("--minutes", type=float, default=7.5, help="after which no cell begins (default: 7.5)")
    parser.add_argument("--only", default="", help="cells whose description contains this")
    parser.add_argument("--processes", type=int, default=0, help="side by side (default: the CPUs but two, at most 14)")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="how processes begin")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, at a small size")
    parser.add_argument("--report", action="store_true", help="print the table of the results that are there")
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace, out: Path) -> None:
    """Measure wave after wave of cells, until none is left or the time is up."""
    logging.disable(logging.INFO)
    import_everything(arguments.tiny)
    import cells

    done = {result["key"] for result in read_results(out) if result["result"] == DONE}
    left = [cell for cell in cells.all_cells(arguments.tiny) if cells.key_of(cell) not in done]
    left = [cell for cell in left if arguments.only in cells.key_of(cell)]
    with tempfile.TemporaryDirectory() as folder:
        write_feature_maps(Path(folder), left)
        runner = Runner(arguments, out, Path(folder))
        memory = runner.find_memory()
        while left:
            if runner.deadline - time.perf_counter() < LEAST_SECONDS and not arguments.tiny:
                print(f"the time is up: {len(left)} cells are left out; the same command goes on with them", flush=True)
                return
            wave, taken = [], 0.0
            for cell in left:
                if len(wave) < runner.processes and (not wave or taken + cells.bytes_of(cell) < 0.85 * memory):
                    wave.append(cell)
                    taken += cells.bytes_of(cell)
            left = [cell for cell in left if cell not in wave]
            runner.run_wave(wave)


def import_everything(is_tiny: bool) -> None:
    """Import what all processes need, so that a forked one begins at once."""
    from machine import stand_in_for_h5py

    stand_in_for_h5py()
    import torch
    import torch._dynamo

    import fuxictr_me.estimates
    import fuxictr_me.training  # noqa: F401

    if is_tiny:
        from fuxictr_me.nn import padded_widths as widths

        torch.compile, widths.ON_CPU = (lambda function, **_: function), True


def write_feature_maps(folder: Path, cells: list[dict]) -> None:
    """Write those that the cells read."""
    from machine import write_feature_map

    for ids in {cell["ids"] for cell in cells if "ids" in cell}:
        write_feature_map(folder, ids)


class Runner:
    """Starts processes, gives them the device by turns, and notes their results.

    Args:
        arguments: of the command line.
        out: the file of results.
        folder: for the processes' files.
    """

    def __init__(self, arguments: argparse.Namespace, out: Path, folder: Path):
        self.is_tiny, self.out, self.folder = arguments.tiny, out, folder
        self.processes = arguments.processes or max(1, min(14, (os.cpu_count() or 1) - 2))
        self.context = multiprocessing.get_context(arguments.start)
        self.deadline = START + 60 * arguments.minutes

    def find_memory(self) -> float:
        """Return the bytes of the device's memory; find out how processes can use it.

        Where CUDA does not start in a forked process, change to spawn; where it does not start in two processes at a
        time, to one after the other.
        """
        from cells import ENVIRONMENT

        for method in (self.context.get_start_method(), "spawn"):
            self.context = multiprocessing.get_context(method)
            results = self.run_wave([ENVIRONMENT, {**ENVIRONMENT, "beside": "another"}])
            found = [result["result"] for result in results if "device" in result["result"]]
            if found:
                self.processes = 1 if len(found) == 1 else self.processes
                return found[0].get("memory", 8e9)
        raise SystemExit("the device cannot be used, see above")

    def run_wave(self, wave: list[dict]) -> list[dict]:
        """Prepare the cells side by side, let them measure one after the other; returns their results."""
        children, results = {}, []
        for cell in wave:
            mine, theirs = self.context.Pipe()
            options = cell, self.is_tiny, str(self.folder), theirs
            process = self.context.Process(target=work, args=options, daemon=True)
            process.start()
            theirs.close()
            children[mine] = cell, process
        running, ready = set(children), []
        until = time.perf_counter() + MOST_PREPARATION
        while running or ready:
            if not running:
                if time.perf_counter() > self.deadline and not self.is_tiny:
                    break
                running.add(turn := ready.pop(0))
                turn.send("go")
                until = time.perf_counter() + MOST_PREPARATION
            arrived = wait(running, timeout=max(0.1, until - time.perf_counter()))
            for connection in arrived or list(running):
                cell = children[connection][0]
                kind, value = receive(connection) if arrived else ("result", {"failed": "it took too long"})
                if kind == "result":
                    results.append(self.note(cell, value))
                if kind == "ready":
                    ready.append(connection)
                if kind in ("ready", "end") or not arrived:
                    running.discard(connection)
                if kind == "end" or not arrived:
                    children[connection][1].kill()
        for _, process in children.values():
            process.kill()
            process.join(10)
        return results

    def note(self, cell: dict, result: dict) -> dict:
        """Write a result to the file and to the screen."""
        from cells import key_of

        line = {"key": key_of(cell), "cell": cell, "result": result}
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if result == DONE:
            return line
        shown = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items() if k != "kernels"
        )
        print(f"[{time.perf_counter() - START:5.1f} s] {line['key']}: {shown}", flush=True)
        return line


def receive(connection: Connection) -> tuple[str, dict | None]:
    """Return what a process says; one that is gone has ended."""
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        return "end", None


def work(cell: dict, is_tiny: bool, folder: str, connection: Connection) -> None:
    """Be the process of a cell: measure it, and say what was found."""
    try:
        import_everything(is_tiny)
        logging.disable(logging.INFO if cell["part"] != "fallback" else logging.DEBUG)
        from cells import PARTS
        from machine import Machine

        for result in PARTS[cell["part"]](Machine(folder, is_tiny), cell):
            if result is None:
                connection.send(("ready", None))
                connection.recv()
            else:
                connection.send(("result", result))
        connection.send(("result", DONE))
    except BaseException:  # noqa: BLE001 the other cells go on
        connection.send(("result", {"failed": traceback.format_exc(limit=-6)}))
    connection.send(("end", None))


def read_results(out: Path) -> list[dict]:
    """Return the results so far; a line that was cut off is left out."""
    if not out.exists():
        return []
    results = []
    for line in out.read_text().splitlines():
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results


if __name__ == "__main__":
    sys.exit(min(main(), 100))
