"""The result of a run: a json file beside the checkpoint and a row in a csv file, which are written together.

A run that is killed between the two leaves ``.<expid>.result``, which holds both. The next run in that folder completes
them: nothing is lost, and no row is written twice.
"""

import contextlib
import json
import logging
import re
import signal
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from fuxictr.utils import print_to_list

from fuxictr_me.io.atomic import append_atomically, write_atomically

ROW = re.compile(r" \d{8}-\d{6},\[command\] [^\n]*\n")


def format_row(command: str, result: dict) -> str:
    """Return the row of a result in FuxiCTR's format."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return (
        f" {stamp},[command] python -m fuxictr_me {command},[exp_id] {result['expid']},"
        f"[dataset_id] {result['dataset_id']},[train] N.A.,[val] {print_to_list(result['valid'])},"
        f"[test] {print_to_list(result['test'])}\n"
    )


def write_result(model_dir: Path, result: dict, csv: str, row: str) -> None:
    """Write ``<expid>.json`` into ``model_dir``, and append the row to ``csv`` in the working directory.

    Raises:
        OSError: no space, no permission.
    """
    text = json.dumps(result, indent=2, default=str) + "\n"
    pending = model_dir / f".{result['expid']}.result"
    content = json.dumps({"json": text, "csv": csv, "folder": str(Path.cwd()), "row": row})
    with _delay_signals():
        write_atomically(pending, lambda path: path.write_text(content))
        _complete(pending)


def finish_results(model_dir: Path, expid: str) -> None:
    """Complete the result of an earlier run of ``expid`` that was killed while it wrote it. Its lock must be held.

    A row is only written into the working directory. One that belongs elsewhere waits for a run that starts there.
    """
    pending = model_dir / f".{expid}.result"
    if pending.is_file() and not pending.is_symlink() and _complete(pending):
        logging.info(f"The result of an earlier run of {expid}, which was killed while it wrote it, is complete now")


def _complete(pending: Path) -> bool:
    """Write what a pending result holds, unless that was done already. Return False if it cannot be used here."""
    try:
        content = json.loads(pending.read_text())
        text, csv, folder, row = (str(content[key]) for key in ("json", "csv", "folder", "row"))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    is_plain = Path(csv).name == csv and csv.endswith(".csv") and ROW.fullmatch(row)
    if not is_plain or Path(folder) != Path.cwd() or Path(csv).is_symlink():
        return False
    expid = pending.name.removeprefix(".").removesuffix(".result")
    write_atomically(pending.with_name(f"{expid}.json"), lambda path: path.write_text(text))
    if not Path(csv).exists() or row.encode() not in Path(csv).read_bytes():
        append_atomically(csv, row.encode())
    pending.unlink()
    return True


@contextlib.contextmanager
def _delay_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {n: signal.signal(n, lambda n, _: arrived.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in arrived:
            signal.raise_signal(received)
