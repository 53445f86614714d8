"""Commands in processes of their own that need not import torch and FuxiCTR first, which takes seconds.

They are forked off a server that has (``preloaded``), in the folder, with the ``sys.argv`` and ``sys.path`` that
``python -m fuxictr_me`` and ``python -c`` would have. What depends on the start of Python itself, such as variables
that it reads then or what an import does, needs a process of ``subprocess``.
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
    """Return the context whose processes are forked off the server, which the first of them starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return context


class Forked:
    """A process with the methods of ``subprocess.Popen`` that tests need.

    Args:
        arguments (sequence): of ``fuxictr-me``.
        code (str): run in place of it.
        cwd (path): the folder it works in.
    """

    def __init__(self, *arguments: object, code: str | None = None, cwd: str | os.PathLike = ".") -> None:
        self._written = tempfile.TemporaryDirectory(prefix="forked-")
        asked = ([str(word) for word in arguments], code, str(Path(cwd).resolve()), self._written.name)
        self._process = server().Process(target=_work, args=asked)
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
        """Return stdout and stderr when the process has ended; one that does not is killed."""
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
    """What the process does, with stdout and stderr in files of the folder ``written``."""
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
