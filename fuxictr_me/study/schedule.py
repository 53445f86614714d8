"""Run what a study still has to run: several processes at a time, each with its own log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.errors import RunError
from fuxictr_me.io.atomic import replace_whole
from fuxictr_me.runs.result_files import read_result
from fuxictr_me.study.plan import Run
from fuxictr_me.study.progress import claim, differences, find_results, processes_at, progress_of, read_state
from fuxictr_me.zoo.find_model import MODULES

POLL_SECONDS = 0.5
GRACE_SECONDS = 15  # to end by themselves after Ctrl-C
START = (
    "import sys; sys.path = [p for p in sys.path if p]; from fuxictr_me.commands.main import entry_point; entry_point()"
)
NO_SPACE = ("No space left", "is the disk full")  # the system's words, and ours where PyTorch's tell less


@dataclass
class Job:
    """A process at a run, and the slot it takes."""

    run: Run
    slot: int
    process: subprocess.Popen
    started: float


def run_study(plan, folder, devices=(-1,), jobs=1):
    """Run all that is due.

    A run that fails is recorded in ``failed/`` and does not stop the rest; a full disk does, for all others would fail.
    A process that outlived a killed study is waited for, not doubled.

    Args:
        plan (Plan), folder (Path): of the study.
        devices (sequence of int): CUDA devices; -1 is the CPU.
        jobs (int): runs at a time on each of them.

    Returns:
        State: at the end.

    Raises:
        RunError: the disk is full.
        KeyboardInterrupt: after the runs that were going have ended.
    """
    slots = [device for device in devices for _ in range(jobs)]
    threads = max(1, (os.cpu_count() or 1) // len(slots))
    going, free, left = [], list(range(len(slots))), {}
    state = read_state(plan, folder)
    bar = tqdm(total=state.total, initial=state.counted, desc=plan.name, unit="run", disable=None)
    with bar, deferred_interrupt() as interrupted:
        try:
            while not interrupted:
                ended = [job for job in going if job.process.poll() is not None]
                for job in ended:
                    going.remove(job)
                    free.append(job.slot)
                    _finish(job, plan, folder)
                if ended or not going:
                    state = read_state(plan, folder)
                    bar.n = state.counted
                if _wait_for_left_behind(left, going, free, slots, folder):
                    state = read_state(plan, folder)
                due = [run for run in state.due if run.expid not in {job.run.expid for job in going}]
                while due and free:
                    run = due.pop(0)
                    job = _start(run, plan, folder, free[0], slots[free[0]], threads)
                    if job:
                        free.pop(0)
                        going.append(job)
                if not going and not left and not state.due:
                    return state
                _show(bar, state, going, left, plan, folder)
                time.sleep(POLL_SECONDS)
            raise KeyboardInterrupt
        finally:
            _end(going)


def _wait_for_left_behind(left: dict, going: list, free: list, slots: list, folder: Path) -> bool:
    """Let runs that a killed study left behind take slots until they end; whether one of them has ended.

    Args:
        left: expid -> the slot it takes, or None; brought up to date.
        going, free, slots: of ``run_study``.
        folder: of the study.
    """
    there = processes_at(folder)
    ended = [expid for expid in left if expid not in there]
    free += [slot for slot in (left.pop(expid) for expid in ended) if slot is not None]
    for expid in there.keys() - left.keys() - {job.run.expid for job in going}:
        process, device = there[expid]
        same = [slot for slot in free if slots[slot] == device]
        left[expid] = slot = (same or free or [None])[0]
        if slot is not None:
            free.remove(slot)
        tqdm.write(f"{expid} is still run by process {process}, left by a killed study: waiting for it", sys.stderr)
    return bool(ended)


@contextlib.contextmanager
def deferred_interrupt():
    """Let Ctrl-C and SIGTERM fill the list that is yielded, and interrupt nothing half done."""
    pressed = []
    with _handling(lambda *_: pressed.append(True)):
        yield pressed


@contextlib.contextmanager
def terminate_as_interrupt():
    """Let SIGTERM end what is done as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextlib.contextmanager
def _handling(handler):
    """Handle SIGINT and SIGTERM so; outside the main thread Python allows no handlers, and nothing changes."""
    is_main = threading.current_thread() is threading.main_thread()
    names = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {name: signal.signal(name, handler) for name in names}
    try:
        yield
    finally:
        for name, earlier in before.items():
            signal.signal(name, earlier)


def command_of(run: Run, device: int) -> list[str]:
    """Return the command line of a run, from within the study's folder, out of which Python imports nothing."""
    command = [sys.executable, "-c", START, "run_expid", "--config", run.config, "--expid", run.expid]
    return [*command, "--gpu", str(device)]


def variables(plan, folder):
    """The environment variables that lead a run, which starts in the study's folder, to its model's class.

    Args:
        plan (Plan), folder (Path): of the study.

    Returns:
        dict: name -> absolute folders; of several, those that are in the variable already come last.
    """
    found = {}
    for name, listed in plan.environment.items():
        there = [os.environ[name]] if name == MODULES and os.environ.get(name) else []
        found[name] = os.pathsep.join([*(str((folder / place).resolve()) for place in listed), *there])
    return found


def _start(run, plan, folder, slot, device, threads):
    """Start a run in a process that keeps its claim, also where this process is killed; None where it is claimed."""
    claimed = claim(folder, run.expid)
    if claimed is None:
        return None
    (folder / "logs").mkdir(exist_ok=True)
    environment = {**os.environ, **variables(plan, folder)}
    if device < 0:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    log_file = folder / "logs" / f"{run.expid}.log"
    log_file.unlink(missing_ok=True)  # a link is not followed
    with claimed, log_file.open("x") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command_of(run, device),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[claimed.fileno()],
            env=environment,
        )
        claimed.write(f"{process.pid} {device}\n")
    return Job(run, slot, process, time.perf_counter())


def _finish(job, plan, folder):
    """Say how a run ended, and record it where it failed."""
    run, code = job.run, job.process.returncode
    if code == 0:
        result = find_results(plan, folder).get(run.expid)
        if result is not None:
            shown = ", ".join(f"{name} {value:.6f}" for name, value in result["test"].items())
            tqdm.write(f"{run.expid}: test {shown} ({result['seconds']:.0f} s)", file=sys.stderr)
            return
    error = _reason(run, code, folder, plan)
    if any(words in error for words in NO_SPACE):  # no fault of the run: it is due when there is space
        raise RunError(
            f"stopped, for the disk is full; finished runs are kept, the same command goes on. {run.expid}: {error}"
        )
    record = {"expid": run.expid, "error": error, "exit_code": code, "at": datetime.now().isoformat(timespec="seconds")}
    record |= {"settings_digest": run.settings_digest, "data_digest": plan.data.get("digest")}
    path = folder / "failed" / f"{run.expid}.json"
    path.parent.mkdir(exist_ok=True)
    replace_whole(path, lambda part: part.write_text(json.dumps(record, indent=1) + "\n"))
    tqdm.write(f"{run.expid} FAILED: {error} (logs/{run.expid}.log)", file=sys.stderr)


def _reason(run, code, folder, plan):
    """One line on why a run left no result."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if code == 0:
        path = folder / "checkpoints" / Path(plan.data_folder).name / f"{run.expid}.json"
        if not path.is_file():
            return "it ended without a result"
        result = read_result(path) or {"settings": run.settings}
        if plan.data and result.get("data_digest") != plan.data["digest"]:
            return "the data were changed meanwhile: it ran on others than the study's"
        other = differences(run, result["settings"])
        changed = ", ".join(f"{key}: {found!r} in place of {planned!r}" for key, (planned, found) in other.items())
        return f"{run.config} was changed meanwhile: it ran with {changed or 'more settings than planned'}"
    lines = (folder / "logs" / f"{run.expid}.log").read_text(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("fuxictr-me: error: ")]
    return (told or lines or [f"exit code {code}"])[-1].removeprefix("fuxictr-me: error: ")


def _show(bar, state, going, elsewhere, plan, folder):
    """The progress line."""
    parts = [f"{len(going) + len(elsewhere)} running"]
    if state.failed:
        parts.append(f"{len(state.failed)} failed")
    if going:
        job = max(going, key=lambda job: job.started)
        where = progress_of(folder, plan.data_folder, job.run.expid)
        parts.append(f"{job.run.expid} {where}".strip())
    bar.set_postfix_str("; ".join(parts), refresh=True)


def _end(going):
    """Ask the processes to end as Ctrl-C would, then make them."""
    for job in going:
        job.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for job in going:
        try:
            job.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
