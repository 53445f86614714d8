"""How a command ends that is stopped from outside, or by an error that nothing foresaw."""

import contextlib
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: everything that ends well on Ctrl-C ends well on it, too."""


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise ``Terminated`` where SIGTERM arrives.

    Under torchrun SIGTERM ends a process at once, as torch expects: one that waits for the others inside a collective
    operation runs no Python. Where a program has set a handler of its own, that one stays.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or "TORCHELASTIC_RUN_ID" in os.environ or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_traceback(error: BaseException) -> str:
    """Write an exception's traceback to a new file in the folder for temporary files; return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="fuxictr-me-", suffix=".traceback.txt", delete=False) as file:
        file.writelines(traceback.format_exception(error))
    return file.name


def _raise_terminated(*_: object) -> None:
    raise Terminated
