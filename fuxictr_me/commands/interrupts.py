"""End a command on SIGTERM as on Ctrl-C, and keep the traceback of an unexpected error."""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, so that everything that handles Ctrl-C handles it, too."""


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise ``Terminated`` when SIGTERM arrives.

    Under torchrun nothing changes, and SIGTERM ends a process at once, as torch expects: a process that waits inside a
    collective operation runs no Python. A handler that the program has set itself is kept.
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
    """Write an exception's traceback to a new temporary file, and return its path."""
    import tempfile  # slow to import, and only needed for bugs

    with tempfile.NamedTemporaryFile("w", prefix="fuxictr-me-", suffix=".traceback.txt", delete=False) as file:
        file.writelines(traceback.format_exception(error))
    return file.name


def _raise_terminated(*_: object) -> None:
    raise Terminated
