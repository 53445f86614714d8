"""Write an entry of BARS from finished runs."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuxictr_me.bars.anonymize import clean_log, find_personal, make_settings_relative
from fuxictr_me.bars.check import check_entry
from fuxictr_me.bars.environment import read_environment, write_environment
from fuxictr_me.bars.finished_runs import FinishedRun, read_run, read_runs
from fuxictr_me.bars.leaderboard_row import leaderboard_row
from fuxictr_me.bars.model_code import default_title, is_multi_embedding, read_own_code
from fuxictr_me.bars.readme import write_readme
from fuxictr_me.bars.result_rows import ResultRow, write_rows
from fuxictr_me.bars.tuner_names import EXPID, HASHED, TunerConfig, has_tuner_name, name_runs, remove_hash, write_yaml
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.config import find_config, read_entries
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.zoo.find_model import get_class_name

SCRIPT = '''"""python run_expid.py --config FOLDER --expid EXPID --gpu 0, with fuxictr-me {version}."""

import os
import sys

from fuxictr_me.commands.main import main

if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.realpath(__file__)))
    sys.exit(main(["run_expid", *sys.argv[1:]]))
'''


def write_entry(
    expids: list[str],
    config: str | None = None,
    out: str | Path = ".",
    title: str | None = None,
    allow_fewer: bool = False,
) -> str:
    """Write the entry ``<out>/<title>_<dataset>/`` atomically.

    Args:
        expids: finished runs.
        config: config folder; the bundled entry that has the first expid if None.
        out: folder to write in.
        title: name of the model in the entry. The default is its class, with ``_ME`` if ``MultiEmbeddingOf`` gave it
            several sets.
        allow_fewer: whether to accept other seeds than all of BARS'.

    Returns:
        A text: what was written, and the row of the leaderboard.

    Raises:
        UsageError: the runs do not make an entry (see ``read_runs``), the folder exists, or the settings contain
            something personal.
        RunError: the entry does not pass its own check.
        OSError: no space, no permission.
    """
    config = str(config or find_config(expids[0]))
    runs = read_runs(expids, config, allow_fewer)
    title = title or default_title(runs[0].model, runs[0].source)
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", title):
        raise UsageError(f"--title names a folder: letters, digits and . _ + -, got {title!r}")
    dataset = remove_hash(runs[0].model["dataset_id"], runs[0].dataset)
    if not re.fullmatch(r"\w[\w.+-]*", str(dataset)):
        raise UsageError(f"dataset_id names the folder of the entry: letters, digits and . _ + -, got {dataset!r}")
    target = Path(out) / f"{title}_{dataset}"
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already")
    files = _make_files(runs, config, title, dataset)
    for name, text in files.items():
        if personal := find_personal(text):
            raise UsageError(f"{personal!r} would be in {name}: remove it from the settings")
    with atomic_folder(target) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if bad := [result for result in check_entry(folder) if result.is_bad]:
            raise RunError(f"the files of the runs do not fit together: {bad[0]}")
    lines = [f"{target}: {len(runs)} runs", *_compare_versions(runs[0].result["versions"])]
    lines.append("row of the leaderboard (fill in its Contributor):")
    return "\n".join([*lines, files["leaderboard_row.csv"].rstrip()])


def _make_files(runs: list[FinishedRun], config: str, title: str, dataset: str) -> dict[str, str]:
    """Return name in the entry -> text, of every file."""
    first, name, folder = runs[0], f"{title}_{dataset}", f"{title}_{dataset}_tuner_config_01"
    versions, source = first.result["versions"], first.source
    grid = _find_grid(runs, config)
    models = {expid: make_settings_relative(settings, first.folder) for expid, settings in grid.items()}
    tuner = name_runs(models, dataset, make_settings_relative(first.dataset, first.folder))
    rows = [_make_row(run, tuner, folder) for run in runs]
    settings = tuner.models[rows[0].expid]
    log = _make_log(first, rows[0], {**settings, **tuner.datasets[tuner.dataset_id]})
    environment = read_environment(versions, first.gpu)
    renamed = {run.expid: row.expid for run, row in zip(runs, rows, strict=True) if run.expid != row.expid}
    flavour = versions["fuxictr"].partition("(")[2].rstrip(")")
    files = {
        "README.md": write_readme(name, settings, source, dataset, folder, rows, environment, flavour, log, renamed),
        "environments.txt": write_environment(environment),
        "results.csv": write_rows(rows),
        f"{rows[0].expid}.log": log,
        "run_expid.py": SCRIPT.format(version=versions["fuxictr_me"]),
        f"{folder}/model_config.yaml": write_yaml(tuner.models),
        f"{folder}/dataset_config.yaml": write_yaml(tuner.datasets),
        "leaderboard_row.csv": leaderboard_row(
            title, get_class_name(first.model["model"]), dataset, rows[0].test, is_multi_embedding(first.model, source)
        ),
        **read_own_code(first, config),
    }
    if tuner.tuner:
        files[f"{folder}.yaml"] = write_yaml(tuner.tuner)
    if others := [_make_row(run, tuner, folder) for run in _find_other_runs(runs, tuner.names, config)]:
        files[f"{folder}.csv"] = "".join(f"{row}\n" for row in rows + others)
    return files


def _find_grid(runs: list[FinishedRun], config: str) -> dict[str, dict[str, Any]]:
    """Return expid -> settings: the whole grid if FuxiCTR's autotuner wrote the config folder, else the given runs."""
    entries = read_entries(Path(config), "model_config")
    tuned = {expid: settings for expid, settings in entries.items() if has_tuner_name(expid, settings)}
    if not all(run.expid in tuned for run in runs):
        return {run.expid: run.model for run in runs}
    bases = {expid: EXPID.sub(r"\g<base>", expid) for expid in tuned}
    return {expid: settings for expid, settings in tuned.items() if bases[expid] == bases[runs[0].expid]}


def _find_other_runs(runs: list[FinishedRun], expids: dict[str, str], config: str) -> Iterator[FinishedRun]:
    """Yield the finished runs of the grid that are not among ``runs``."""
    for expid in expids.keys() - {run.expid for run in runs}:
        with contextlib.suppress(UsageError):
            yield read_run(expid, config)


def _make_row(run: FinishedRun, tuner: TunerConfig, folder: str) -> ResultRow:
    expid = tuner.names[run.expid]
    command = f"python run_expid.py --config ./{folder} --expid {expid} --gpu {run.gpu}"
    valid, test = ({name: round(v, 6) for name, v in run.result[split].items()} for split in ("valid", "test"))
    return ResultRow(expid, tuner.dataset_id, command, run.ended, valid, test, run.seed)


def _make_log(run: FinishedRun, row: ResultRow, settings: dict[str, Any]) -> str:
    """Return the log of the run with the names of the entry."""
    log = clean_log(run.log, settings, run.folder)
    dataset_id = run.result["settings"]["dataset_id"]
    for key, old, new in (("model_id", run.expid, row.expid), ("dataset_id", dataset_id, row.dataset_id)):
        log = log.replace(f'"{key}": "{old}"', f'"{key}": "{new}"')
    if HASHED.fullmatch(dataset_id):  # an id without a hash may also be the name of a folder of raw data
        log = log.replace(dataset_id, row.dataset_id)
    return log.replace(f"/{run.expid}.", f"/{row.expid}.")


def _compare_versions(versions: dict[str, str]) -> list[str]:
    """Return a line for each version of the runs that this machine, whose environment is recorded, does not have."""
    here = collect_versions()
    return [
        f"caution: the runs had {name} {value}, but this machine has {here.get(name)}; environments.txt has the former"
        for name, value in versions.items()
        if here.get(name) != value
    ]
