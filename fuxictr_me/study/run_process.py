"""Start one run of a study in a process of its own, and find out how it ended."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fuxictr_me.config.user_code import FUXICTR_ME_PATH
from fuxictr_me.errors import UsageError
from fuxictr_me.runs.read_result import read_result
from fuxictr_me.runs.resume_file import read_resume_file
from fuxictr_me.study.kept_results import keep_other_result
from fuxictr_me.study.plan_file import Plan, Run
from fuxictr_me.study.progress import compare_settings
from fuxictr_me.study.run_claims import claim_run

START = (
    "import sys; sys.path = [p for p in sys.path if p]; from fuxictr_me.commands.main import entry_point; entry_point()"
)
ERROR = "fuxictr-me: error: "  # how the command line starts the line of an error


@dataclass
class Job:
    """A process that runs a run, and the slot that it occupies."""

    run: Run
    slot: int
    process: subprocess.Popen
    started: float


def start_run(run: Run, plan: Plan, folder: Path, slot: int, device: int, threads: int) -> Job | None:
    """Start a run in a process that holds its claim even if this process is killed.

    Args:
        run: of the plan.
        plan: of the study.
        folder: of the study.
        slot: that the job occupies.
        device: CUDA device, -1 for the CPU.
        threads: of a run on the CPU, unless ``OMP_NUM_THREADS`` is set.

    Returns:
        None if another process has claimed the run.
    """
    claim = claim_run(folder, run.expid)
    if claim is None:
        return None
    (folder / "logs").mkdir(exist_ok=True)
    environment = {**os.environ, **find_model_variables(plan, folder)}
    if device < 0:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    keep_other_result(run, plan, folder)
    _discard_other_state(run, plan, folder)
    log_file = folder / "logs" / f"{run.expid}.log"
    log_file.unlink(missing_ok=True)  # so that no link is followed
    with claim, log_file.open("x") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is built here
            make_command(run, device),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[claim.fileno()],
            env=environment,
        )
        claim.write(f"{process.pid} {device}\n")
    return Job(run, slot, process, time.perf_counter())


def make_command(run: Run, device: int) -> list[str]:
    """Return the command line of a run. It starts in the study's folder, and Python imports nothing from there."""
    command = [sys.executable, "-c", START, "run_expid", "--config", run.config, "--expid", run.expid]
    return [*command, "--gpu", str(device), "--resume"]


def find_state(run: Run, plan: Plan, folder: Path) -> Path:
    """Return the path of the state from which a run resumes if it was killed."""
    return folder / "checkpoints" / Path(plan.data_folder).name / f"{run.expid}.resume"


def _discard_other_state(run: Run, plan: Plan, folder: Path) -> None:
    """Remove a state that is damaged, or of other settings or data than those of the plan: the run starts again."""
    path = find_state(run, plan, folder)
    if path.is_symlink() or not path.is_file():
        return
    planned = {"settings_digest": run.settings_digest, "data_digest": plan.data.get("digest")}
    try:
        content = read_resume_file(path)
    except UsageError:
        content = {}
    if any(content.get(name) != digest for name, digest in planned.items()):
        path.unlink()


def find_model_variables(plan: Plan, folder: Path) -> dict[str, str]:
    """Return the environment variables by which runs find their model's class: name -> absolute folders.

    Folders that ``FUXICTR_ME_PATH`` already names come last.
    """
    found = {}
    for name, folders in plan.environment.items():
        present = [os.environ[name]] if name == FUXICTR_ME_PATH and os.environ.get(name) else []
        found[name] = os.pathsep.join([*(str((folder / place).resolve()) for place in folders), *present])
    return found


def explain_failure(run: Run, code: int, plan: Plan, folder: Path) -> str:
    """Return one line on why a process that ended with an exit code left no result of its run."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    if code == 0:
        return _explain_unplanned_result(run, plan, folder)
    lines = (folder / "logs" / f"{run.expid}.log").read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(ERROR)]
    return (errors or lines or [f"exit code {code}"])[-1].removeprefix(ERROR)


def _explain_unplanned_result(run: Run, plan: Plan, folder: Path) -> str:
    path = folder / "checkpoints" / Path(plan.data_folder).name / f"{run.expid}.json"
    if not path.is_file():
        return "it ended without a result"
    result = read_result(path) or {"settings": run.settings}
    if plan.data and result.get("data_digest") != plan.data["digest"]:
        return "the data have changed: the run used other data than the study's"
    different = compare_settings(run, result["settings"])
    changed = ", ".join(f"{key}: {found!r} in place of {planned!r}" for key, (planned, found) in different.items())
    return f"{run.config} has changed: the run used {changed or 'more settings than planned'}"


def end_jobs(jobs: list[Job], grace_seconds: float) -> None:
    """Interrupt processes as Ctrl-C does, and kill those that do not end in time."""
    for job in jobs:
        job.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + grace_seconds
    for job in jobs:
        try:
            job.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
