"""Run the remaining runs of a study: several processes at a time, each with its own log."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.errors import RunError
from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.study.plan_file import Plan
from fuxictr_me.study.progress import Progress, find_results, read_progress, read_run_progress
from fuxictr_me.study.run_claims import find_running_processes
from fuxictr_me.study.run_process import Job, end_jobs, explain_failure, find_state, start_run

POLL_SECONDS = 0.5
GRACE_SECONDS = 15  # that processes have to end after Ctrl-C
NO_SPACE = ("No space left", "is the disk full")  # texts of the system, and of fuxictr-me


def run_study(plan: Plan, folder: Path, devices: Sequence[int] = (-1,), jobs: int = 1) -> Progress:
    """Run everything that is due.

    A run that fails is recorded in ``failed/`` and does not stop the others. A full disk stops the study, because all
    other runs would fail. If a run of a killed study is still going, the study waits for it.

    Args:
        plan: of the study.
        folder: of the study.
        devices: CUDA devices; -1 is the CPU.
        jobs: number of runs at a time on each device.

    Returns:
        the progress at the end.

    Raises:
        RunError: the disk is full.
        KeyboardInterrupt: raised after the running processes have ended.
    """
    slots = [device for device in devices for _ in range(jobs)]
    threads = max(1, (os.cpu_count() or 1) // len(slots))
    active: list[Job] = []
    free = list(range(len(slots)))
    left_behind: dict[str, int | None] = {}
    progress = read_progress(plan, folder)
    bar = tqdm(total=progress.total, initial=progress.finished, desc=plan.name, unit="run", disable=None)
    with bar, defer_interrupts() as interrupts:
        try:
            while not interrupts:
                ended = [job for job in active if job.process.poll() is not None]
                for job in ended:
                    active.remove(job)
                    free.append(job.slot)
                    _record_end(job, plan, folder)
                if ended or not active:
                    progress = read_progress(plan, folder)
                    bar.n = progress.finished
                if _update_left_behind(left_behind, active, free, slots, folder):
                    progress = read_progress(plan, folder)
                due = [run for run in progress.due if run.expid not in {job.run.expid for job in active}]
                while due and free:
                    started = start_run(due.pop(0), plan, folder, free[0], slots[free[0]], threads)
                    if started is not None:
                        free.pop(0)
                        active.append(started)
                if not active and not left_behind and not progress.due:
                    for run in plan.runs:  # also of runs that a killed study had left, which have ended
                        if run.expid in progress.results:
                            find_state(run, plan, folder).unlink(missing_ok=True)
                    return progress
                bar.set_postfix_str(_describe_active(progress, active, len(left_behind), plan, folder), refresh=True)
                time.sleep(POLL_SECONDS)
            raise KeyboardInterrupt
        finally:
            end_jobs(active, GRACE_SECONDS)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[list[int]]:
    """Append Ctrl-C and SIGTERM to the list that is yielded, so that they interrupt nothing halfway.

    Outside the main thread nothing changes, because Python allows no signal handlers there.
    """
    interrupts: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {name: signal.signal(name, lambda number, _: interrupts.append(number)) for name in signals}
    try:
        yield interrupts
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _update_left_behind(
    left_behind: dict[str, int | None], active: list[Job], free: list[int], slots: list[int], folder: Path
) -> bool:
    """Let runs that a killed study left behind occupy slots until they end.

    Args:
        left_behind: expid -> the slot that it occupies, or None. It is updated, as is ``free``.
        active, free, slots: of ``run_study``.
        folder: of the study.

    Returns:
        whether one of them has ended.
    """
    processes = find_running_processes(folder)
    ended = [expid for expid in left_behind if expid not in processes]
    free += [slot for slot in (left_behind.pop(expid) for expid in ended) if slot is not None]
    for expid in processes.keys() - left_behind.keys() - {job.run.expid for job in active}:
        process, device = processes[expid]
        same_device = [slot for slot in free if slots[slot] == device]
        slot = next(iter(same_device or free), None)
        left_behind[expid] = slot
        if slot is not None:
            free.remove(slot)
        tqdm.write(f"{expid} is still run by process {process}, left by a killed study: waiting for it", sys.stderr)
    return bool(ended)


def _record_end(job: Job, plan: Plan, folder: Path) -> None:
    """Print how a run ended, and record its failure."""
    run, code = job.run, job.process.returncode
    if code == 0 and (result := find_results(plan, folder).get(run.expid)) is not None:
        find_state(run, plan, folder).unlink(missing_ok=True)
        metrics = ", ".join(f"{name} {value:.6f}" for name, value in result["test"].items())
        tqdm.write(f"{run.expid}: test {metrics} ({result['seconds']:.0f} s)", file=sys.stderr)
        return
    error = explain_failure(run, code, plan, folder)
    if any(text in error for text in NO_SPACE):  # the run did not fail by itself: it stays due
        raise RunError(
            "stopped because the disk is full; finished runs are kept, and the same command continues the study. "
            f"{run.expid}: {error}"
        )
    record = {"expid": run.expid, "error": error, "exit_code": code, "at": datetime.now().isoformat(timespec="seconds")}
    record |= {"settings_digest": run.settings_digest, "data_digest": plan.data.get("digest")}
    path = folder / "failed" / f"{run.expid}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda part: part.write_text(json.dumps(record, indent=1) + "\n"))
    tqdm.write(f"{run.expid} FAILED: {error} (logs/{run.expid}.log)", file=sys.stderr)


def _describe_active(progress: Progress, active: list[Job], num_left_behind: int, plan: Plan, folder: Path) -> str:
    """Return the text of the progress bar."""
    parts = [f"{len(active) + num_left_behind} running"]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    if active:
        latest = max(active, key=lambda job: job.started)
        parts.append(f"{latest.run.expid} {read_run_progress(folder, plan.data_folder, latest.run.expid)}".strip())
    return "; ".join(parts)
