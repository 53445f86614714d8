"""Commands in separate processes that need not import torch and FuxiCTR first, which takes seconds.

They are forked from a server that has imported them (``preloaded``), with the working directory, ``sys.argv`` and
``sys.path`` that ``python -m fuxictr_me`` and ``python -c`` would have. Tests that depend on the start of Python, on
environment variables that it reads then or on the effects of an import, need a process of ``subprocess``.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

PRELOADED = ["helpers.preloaded"]


def server() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked from the server, which the first of them starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return context


class Forked:
    """A process with the methods of ``subprocess.Popen`` that tests need.

    Args:
        arguments: of ``fuxictr-me``.
        code: Python code to run instead.
        cwd: working directory.
    """

    def __init__(self, *arguments: object, code: str | None = None, cwd: str | os.PathLike = ".") -> None:
        self._written = tempfile.TemporaryDirectory(prefix="forked-")
        work = ([str(word) for word in arguments], code, str(Path(cwd).resolve()), self._written.name)
        self._process = server().Process(target=_work, args=work)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end of the process, and return stdout and stderr. It is killed after ``timeout`` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"still running after {timeout} s")
        out, err = (Path(self._written.name, name).read_text() for name in ("stdout", "stderr"))
        self._written.cleanup()
        return out, err


def run_forked(*arguments: object, code: str | None = None, cwd: str | os.PathLike = ".") -> CompletedProcess:
    """Run a ``Forked`` to its end."""
    process = Forked(*arguments, code=code, cwd=cwd)
    out, err = process.communicate()
    return CompletedProcess(arguments, process.returncode, out, err)


def _work(arguments: list[str], code: str | None, cwd: str, written: str) -> None:
    """Do the work of the process, with stdout and stderr in files of the folder ``written``."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{written}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell ignores it
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = ["fuxictr_me" if code is None else "-c", *arguments]
    if code is None:
        runpy.run_module("fuxictr_me", run_name="__main__", alter_sys=True)
    else:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
