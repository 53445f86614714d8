"""Run a command: print its text, and turn errors into one line and an exit code."""

import errno
import io
import logging
import os
import sys
from pathlib import Path

from fuxictr_me.commands.interrupts import Terminated, sigterm_as_interrupt, write_traceback
from fuxictr_me.commands.parser import COMMANDS, parse_arguments
from fuxictr_me.errors import RunError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 1, 2, 130, 141, 143
KEPT = "the last checkpoint and everything written before are complete"


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit code: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted, 141 the output pipe was closed,
        143 terminated.
    """
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        with sigterm_as_interrupt():
            text = COMMANDS[arguments.command].run(arguments)
            if text is not None:
                print(text)
            if sys.stdout is not None:
                sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has ended
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except (RunError, OSError) as error:
        is_path_too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        return _fail(str(error), EXIT_USAGE if is_path_too_long else EXIT_FAILED)
    except Terminated:
        return _fail(f"terminated; {KEPT}", EXIT_TERMINATED)
    except KeyboardInterrupt:
        return _fail(f"interrupted; {KEPT}", EXIT_INTERRUPTED)
    except Exception as error:
        if _is_out_of_memory(error):
            advice = "out of memory: a smaller batch_size, num_sets or embedding_dim helps"
            return _fail(f"{advice}. {error}", EXIT_FAILED)
        if arguments.command == "host":
            raise  # an error of the user's script is shown as Python shows it
        return _fail(f"{_describe_bug(error)}; the traceback is in {write_traceback(error)}", EXIT_FAILED)
    return 0


def entry_point() -> None:
    """Entry point of ``fuxictr-me`` and ``python -m fuxictr_me``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for terminals that lack a letter such as σ
    sys.exit(main())


def run_entry(script: str) -> None:
    """Run ``run_expid`` with the config folder beside a script, for ``python model_zoo/<Model>/run_expid.py ...``.

    Args:
        script: ``__file__`` of the script. A ``--config`` on its command line takes precedence.
    """
    config = os.path.relpath(Path(script).parent / "config")
    sys.exit(main(["run_expid", "--config", config, *sys.argv[1:]]))


def _describe_bug(error: Exception) -> str:
    """Return one line about an unexpected exception."""
    message = " ".join(str(error).split())[:300]
    return f"a bug in fuxictr-me, or unexpected input ({type(error).__name__}: {message})"


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, a GPU or torch's CPU allocator ran out of memory. torch is not imported for this."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _discard_stdout() -> None:
    """Discard what is still to be written; otherwise Python reports the closed pipe when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    """Write one line to stderr, and to the log of the run if there is one, and return the exit code."""
    line = " ".join(message.split())
    print(f"fuxictr-me: error: {line}", file=sys.stderr)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": line}))
    return code
