"""The command line: arguments in, one-line errors out."""

import errno
import logging
import os
import sys
from pathlib import Path

from fuxictr_me.commands.arguments import parse_arguments
from fuxictr_me.commands.interrupts import Terminated, sigterm_as_interrupt, write_traceback
from fuxictr_me.errors import RunError, UsageError, positive_int, require_extra

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE, EXIT_TERMINATED = 1, 2, 130, 141, 143
KEPT = "the last checkpoint and what was written before it stay whole"


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv (list of str): the arguments; those of the process if None.

    Returns:
        int: exit code: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted, 141 nobody reads the output any more,
        143 terminated.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["study"] and argv[1:] and argv[1] not in ("run", "status", "report", "-h", "--help"):
        argv.insert(1, "run")
    arguments = parse_arguments(argv)
    try:
        with sigterm_as_interrupt():
            COMMANDS[arguments.command](arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    except BrokenPipeError:  # the reader of a pipe, e.g. head, has seen enough
        _forget_stdout()
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
            raise  # the script's own, shown as Python shows it
        return _fail(f"{describe_bug(error)}; the traceback is in {write_traceback(error)}", EXIT_FAILED)
    return 0


def describe_bug(error: Exception) -> str:
    """Return one line on an exception that nothing foresaw."""
    told = " ".join(str(error).split())[:300]
    return f"a bug in fuxictr-me, or input that nobody thought of ({type(error).__name__}: {told})"


def entry_point() -> None:
    """Run ``fuxictr-me`` and ``python -m fuxictr_me``."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter such as σ
    sys.exit(main())


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, a GPU or the CPU's allocator of torch says so; torch is not imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _forget_stdout() -> None:
    """Let what is still to be written go nowhere, or Python complains when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_entry(script: str) -> None:
    """``python model_zoo/<Model>/run_expid.py ...``: ``run_expid`` on the config folder beside the script.

    Args:
        script (str): ``__file__`` of the script. A ``--config`` on its command line takes precedence.
    """
    config = os.path.relpath(Path(script).parent / "config")
    sys.exit(main(["run_expid", "--config", config, *sys.argv[1:]]))


def _run_expid(arguments):
    from fuxictr_me.runs.experiment import run_expid
    from fuxictr_me.runs.runtime import open_runtime

    with open_runtime(arguments.gpu, arguments.engine, arguments.set_groups, arguments.resume) as runtime:
        run_expid(arguments.expid, arguments.config, runtime=runtime)


def _host(arguments):
    from fuxictr_me.zoo.host import run_script

    run_script(arguments.script, arguments.arguments)


def _quickstart(arguments):
    from fuxictr_me.config.training_options import SEED
    from fuxictr_me.quickstart import run

    SEED.check("--seed", arguments.seed)
    print(run(arguments.out, fast=arguments.fast, gpu=arguments.gpu, seed=arguments.seed))


def _zoo(arguments):
    from fuxictr_me.errors import unknown
    from fuxictr_me.io.resources import copy_config, zoo_configs

    configs = zoo_configs()
    if arguments.model is None:
        for name, folder in configs.items():
            print(f"{name:<12} {folder}")
        return
    if arguments.model not in configs:
        raise unknown("model of the bundled zoo", arguments.model, configs)
    if arguments.folder is None:
        print(configs[arguments.model])
        return
    if Path(arguments.folder).exists():
        raise UsageError(f"{arguments.folder} exists already")
    copy_config(configs[arguments.model], Path(arguments.folder))
    print(f"{arguments.model}: config copied to {arguments.folder}")


def _data(arguments):
    from fuxictr_me.commands import data as commands

    if arguments.action == "build":
        print(commands.build(arguments.dataset_id, arguments.config, arguments.out, arguments.raw))
    elif arguments.action == "info":
        print(commands.info(arguments.folder))
    elif arguments.action == "convert":
        print(commands.convert(arguments.source, arguments.target))
    elif arguments.action == "generate":
        settings = {key: getattr(arguments, key) for key in ("num_fields", "num_ids", "rank", "exponent", "seed")}
        print(commands.generate(arguments.out, arguments.rows, **settings))
    else:
        wrong, text = commands.verify(arguments.folder)
        print(text)
        if wrong:
            raise RunError(f"{arguments.folder} is not as it should be: {', '.join(wrong)}")


def _analyze(arguments):
    from fuxictr_me.reports.collapse import analyze

    print(
        analyze.run(
            arguments.expid,
            arguments.config,
            out=arguments.out,
            checkpoint=arguments.checkpoint,
            compare=arguments.compare,
            data=arguments.data,
            gpu=arguments.gpu,
        )
    )


def _export_embeddings(arguments):
    from fuxictr_me.serving.export_embeddings import run

    a = arguments
    print(run(a.expid, a.config, a.out, file_format=a.format, fields=a.fields, checkpoint=a.checkpoint))


def _export(arguments):
    from fuxictr_me.serving.export import run

    a = arguments
    print(run(a.expid, a.config, a.out, file_format=a.format, checkpoint=a.checkpoint))


def _convert(arguments):
    from fuxictr_me.distributed.convert_checkpoint import run

    print(run(arguments.source, arguments.target))


def _toy(arguments):
    positive_int("--seeds", arguments.seeds)
    positive_int("--iterations", arguments.iterations)
    require_extra("toy", ("matplotlib",), "report")
    from fuxictr_me.reports.collapse import toy_figure

    print(toy_figure.run(arguments.out, seeds=arguments.seeds, iterations=arguments.iterations))


def _plan(arguments):
    from fuxictr_me.estimates import run

    print(run(arguments.expid, arguments.config, arguments.gpu_model, arguments.vocabulary))


def _study(arguments):
    from fuxictr_me.commands import study as commands

    a = arguments
    if a.action == "status":
        print(commands.status(a.folder))
        return
    if a.action == "report":
        from fuxictr_me.reports.study.write import write_report

        print(write_report(a.folder, a.out))
        return
    given = {"dataset_id": a.dataset, "config": a.config, "models": _names(a.models), "kinds": _names(a.kinds)}
    given |= {"scales": _numbers("--scales", a.scales), "seeds": _numbers("--seeds", a.seeds)}
    if given["seeds"] is not None and "," not in a.seeds:
        given["seeds"] = given["seeds"][0]
    options = {"dry_run": a.dry_run, "retry_failed": a.retry_failed, "changed": a.changed}
    print(commands.run(a.study, a.out, a.gpu, a.jobs, **options, **given))


def _bars(arguments):
    from fuxictr_me.commands.bars import run

    print(run(arguments))


def _names(text):
    return None if text is None else [name.strip() for name in text.split(",")]


def _numbers(option, text):
    try:
        return None if text is None else [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} must be whole numbers such as 1,2,4, got {text!r}") from None


COMMANDS = {
    "run_expid": _run_expid,
    "host": _host,
    "quickstart": _quickstart,
    "zoo": _zoo,
    "data": _data,
    "analyze": _analyze,
    "export-embeddings": _export_embeddings,
    "export": _export,
    "convert": _convert,
    "toy": _toy,
    "plan": _plan,
    "study": _study,
    "bars": _bars,
}


def _fail(message: str, code: int) -> int:
    """One line on stderr, and in the run's log where there is one; returns the exit code."""
    line = " ".join(message.split())
    print(f"fuxictr-me: error: {line}", file=sys.stderr)
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": line}))
    return code
