"""Multi-embedding on every torch model of FuxiCTR's zoo: an epoch by ``fuxictr-me host``, and what must be exact.

    FUXICTR_SRC=FuxiCTR python benchmarks/zoo.py [--models AutoInt DIN] [--jobs 2] [--out docs/any_model_zoo.md]
    python benchmarks/zoo.py --results FOLDER/results.json

FUXICTR_SRC is a checkout of reczoo/FuxiCTR; it is copied, and only read. Each model is trained for one epoch with
``num_sets: 2`` by FuxiCTR's unmodified scripts, with FuxiCTR's own test settings on FuxiCTR's tiny data
(``zoo_models.py``), then looked at in a process of its own (``zoo_checks.py``). The second command makes the page
(``zoo_page.py``) again. All models take about a quarter of an hour on two cores.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from zoo_checks import unmoved
from zoo_models import copy_checkout, find_entries, prepare
from zoo_page import page, table

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "any_model_zoo.md"
SECONDS = 600  # for a process, then it is ended


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", help="only these, e.g. AutoInt LongCTR/DIN; prints their table")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=PAGE, help="page to write (default: docs/any_model_zoo.md)")
    parser.add_argument("--results", type=Path, help="of an earlier run: only make the table again")
    arguments = parser.parse_args()
    if arguments.results:
        results = json.loads(arguments.results.read_text())
    elif "FUXICTR_SRC" not in os.environ:
        parser.error("FUXICTR_SRC names no checkout of reczoo/FuxiCTR")
    else:
        source, folder = os.environ["FUXICTR_SRC"], Path(tempfile.mkdtemp(prefix="zoo-"))
        results = {"about": versions(source), "models": run(source, folder, arguments.models, arguments.jobs)}
        (folder / "results.json").write_text(json.dumps(results, indent=1))
        print(f"results: {folder / 'results.json'}")
    if arguments.models:
        print(table(results["models"]))
    else:
        arguments.out.write_text(page(results))


def run(source, folder, models=None, jobs=1):
    """Train and check models.

    Args:
        source (str): a checkout of reczoo/FuxiCTR.
        folder (Path): gets a copy of it, and a folder for each model.
        models (list of str): labels; None: all.
        jobs (int): models at a time.

    Returns:
        dict: label -> what was found, see ``try_model``.
    """
    checkout = copy_checkout(source, folder / "FuxiCTR")
    entries = find_entries(checkout)
    chosen = [entries[label] for label in models or entries]
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda entry: try_model(entry, folder), chosen)
        return {entry.label: result for entry, result in zip(chosen, results, strict=True)}


def try_model(entry, folder):
    """One epoch with two sets, and the checks; where no trained head is found, with ``merge: logits``.

    Returns:
        dict: of ``host``, and ``checks``, of ``zoo_checks.check``.
    """
    folder = folder / entry.label.replace("/", "_")
    result = host(entry, folder / "found", num_sets=2)
    if not result["finished"] and "merge: logits" in result["reason"]:
        result = host(entry, folder / "logits", num_sets=2, merge="logits")
    done = python(entry, HERE / "zoo_checks.py", entry.checkout, entry.label, result["config"])
    result["checks"] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": last_line(done)}
    print(f"{entry.label:<16} {', '.join(result['merge_points']) or result['reason']}", flush=True)
    return result


def host(entry, folder, **sets):
    """``fuxictr-me host`` on FuxiCTR's script.

    Returns:
        dict: ``data``, ``config``, ``merge`` (None: found), ``finished``, if not the ``reason`` and whether we
        ``refused``; the ``steps`` of the epoch, 0 if training did not start; ``merge_points`` as the log has them,
        those ``bare`` of a hidden layer, and ``unmoved`` tensors of a set.
    """
    folder.mkdir(parents=True)
    config = prepare(entry, folder, callbacks=["zoo_checks.FirstWeights"], **sets)
    arguments = ("--config", config, "--expid", entry.expid, "--gpu", "-1")
    done = python(entry, "-m", "fuxictr_me", "host", entry.script, *arguments)
    log = done.stdout + done.stderr
    finished = done.returncode == 0
    points = re.search(r"Merge points: (.*)", log)
    steps = re.search(r"Start training: (\d+) batches/epoch", log)
    return {
        "data": entry.settings["dataset_id"],
        "config": str(config),
        "merge": sets.get("merge"),
        "finished": finished,
        "refused": done.returncode == 2,
        "reason": "" if finished else last_line(done),
        "steps": int(steps[1]) if steps else 0,
        "merge_points": points[1].split(", ") if points else [],
        "bare": re.findall(r"^ *(\S+): what .*, with no hidden layer before it$", log, re.MULTILINE),
        "unmoved": unmoved(folder) if finished else [],
    }


def python(entry, *arguments):
    """A process that finds FuxiCTR's main, its model zoo and what lies here."""
    paths = os.pathsep.join(map(str, (entry.checkout, HERE.parent, HERE)))
    command, env = [sys.executable, *map(str, arguments)], {**os.environ, "PYTHONPATH": paths}
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"not finished after {SECONDS} seconds")


def last_line(done):
    """What ended a process, in one line."""
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return re.sub(r" \(/\S*\)$", "", lines[-1].removeprefix("fuxictr-me: error: "))  # a path of this machine


def versions(source):
    """What the results are of."""
    git = ["git", "-C", source, "log", "-1", "--format=%h|%cs"]
    commit, date = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip().split("|")
    about = {"commit": commit, "committed": date, "run": str(datetime.date.today()), "cores": os.cpu_count()}
    about |= {"machine": platform.machine().replace("_", "-")}
    return about | {"python": platform.python_version(), "torch": torch.__version__.partition("+")[0]}


if __name__ == "__main__":
    main()
